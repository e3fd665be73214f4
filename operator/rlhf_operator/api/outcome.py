"""How a run as a whole ended, and the exit code that `rlhf run` says it with."""

from enum import StrEnum

from rlhf_trainer.contract import Outcome


class RunOutcome(StrEnum):
    """How a run ended: a phase's own verdict, or one of the two that only a run can have."""

    COMPLETED = "Completed"
    STOPPED = "Stopped"
    GATE_FAILED = "GateFailed"
    INVALID = "Invalid"
    OUT_OF_MEMORY = "OutOfMemory"
    DIVERGED = "Diverged"
    RETRIES_EXHAUSTED = "RetriesExhausted"
    """A phase failed more often than `runPolicy.backoffLimit` allows."""
    DEADLINE_EXCEEDED = "DeadlineExceeded"
    """The run or one of its phases took longer than `runPolicy` allows."""

    @property
    def exit_code(self) -> int:
        """Exit code of `rlhf run` for a run that ended so."""
        return _OWN_EXIT_CODES[self] if self in _OWN_EXIT_CODES else Outcome(self.value).exit_code


_OWN_EXIT_CODES = {RunOutcome.RETRIES_EXHAUSTED: 40, RunOutcome.DEADLINE_EXCEEDED: 41}
