"""Errors that end a phase with an outcome of its own: one class per remedy. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rlhf_trainer.contract.outcomes import Outcome


@dataclass(frozen=True)
class Facts:
    """What is known about a phase that ends by an error, for its result."""

    step: int = 0
    certified_step: int | None = None
    model_path: Path | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


class PhaseError(Exception):
    """A phase cannot go on; `outcome` says what its caller should make of it."""

    outcome = Outcome.CRASHED

    def __init__(self, message: str, *, reason: str = "", facts: Facts | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or type(self).__name__.removesuffix("Error")
        self.facts = facts or Facts()


class InvalidError(PhaseError):
    """The user must change the configuration or the data: `place=value: problem; fix`."""

    outcome = Outcome.INVALID

    def __init__(self, place: str, value: object, problem: str, fix: str) -> None:
        super().__init__(f"{place}={value}: {problem}; {fix}", reason="Invalid")
        self.place, self.value, self.problem, self.fix = place, value, problem, fix


class GateFailedError(PhaseError):
    """A gate before the next phase was not passed."""

    outcome = Outcome.GATE_FAILED


class WorkspaceError(PhaseError):
    """Something could not be written: whoever runs the cluster makes room or sets rights."""

    def __init__(self, folder: Path, what: str, error: BaseException) -> None:
        problem = next(iter(str(error).splitlines()), type(error).__name__)
        super().__init__(
            f"{folder}: {what} could not be written: {problem}; make room on the volume, lower "
            "checkpoint.keepLast, or let the trainer write there; what was complete before stands",
            reason="WorkspaceUnwritable",
        )


class DivergedError(PhaseError):
    """A loss, KL or reward is not finite."""

    outcome = Outcome.DIVERGED


class PreemptedError(PhaseError):
    """SIGTERM arrived; the phase ended at a step boundary."""

    outcome = Outcome.PREEMPTED


class GuardStopError(PhaseError):
    """The guard stopped training; the last certified policy was exported."""

    outcome = Outcome.STOPPED
