"""What leaves a phase while it runs and when it ends: metrics, history, progress, outcome."""

from rlhf_trainer.telemetry.telemetry import RunInfo, Telemetry

__all__ = ["RunInfo", "Telemetry"]
