"""Errors that end a phase with an outcome of its own: one class per remedy. Imports no torch."""

from rlhf_trainer.contract.outcomes import Outcome


class PhaseError(Exception):
    """A phase cannot go on; `outcome` says what its caller should make of it."""

    outcome = Outcome.CRASHED

    def __init__(self, message: str, *, reason: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason or type(self).__name__.removesuffix("Error")


class InvalidError(PhaseError):
    """The user must change the configuration or the data: `place=value: problem; fix`."""

    outcome = Outcome.INVALID

    def __init__(self, place: str, value: object, problem: str, fix: str) -> None:
        super().__init__(f"{place}={value}: {problem}; {fix}", reason="Invalid")
        self.place, self.value, self.problem, self.fix = place, value, problem, fix


class GateFailedError(PhaseError):
    """A gate before the next phase was not passed."""

    outcome = Outcome.GATE_FAILED


class DivergedError(PhaseError):
    """A loss, KL or reward is not finite."""

    outcome = Outcome.DIVERGED


class PreemptedError(PhaseError):
    """SIGTERM arrived; the phase ended at a step boundary."""

    outcome = Outcome.PREEMPTED


class GuardStopError(PhaseError):
    """The guard stopped training; the last certified policy was exported."""

    outcome = Outcome.STOPPED
