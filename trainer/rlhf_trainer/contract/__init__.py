"""What trainer and caller rely on: phases, outcomes, workspace, metrics. Imports no torch."""

from rlhf_trainer.contract.hardware import HARDWARE_FILE, Hardware, Place
from rlhf_trainer.contract.history import HistoryRecord, Progress, ResumedFrom
from rlhf_trainer.contract.layout import AttemptPaths, Workspace
from rlhf_trainer.contract.metrics import (
    METRICS,
    METRICS_BY_NAME,
    METRICS_PORT,
    Metric,
    MetricKind,
)
from rlhf_trainer.contract.outcomes import Outcome, Result, combine
from rlhf_trainer.contract.phases import Phase

__all__ = [
    "HARDWARE_FILE",
    "METRICS",
    "METRICS_BY_NAME",
    "METRICS_PORT",
    "AttemptPaths",
    "Hardware",
    "HistoryRecord",
    "Metric",
    "MetricKind",
    "Outcome",
    "Phase",
    "Place",
    "Progress",
    "Result",
    "ResumedFrom",
    "Workspace",
    "combine",
]
