"""What the end of an attempt means: the exit-code table of the contract.

| exit | meaning |
|---|---|
| 0 | the phase is complete |
| 10 11 20 21 30 | the phase has spoken: the run ends |
| 143 | interrupted: a new attempt, not counted |
| other | failed: a new attempt, counted unless it was disrupted from outside |

An intent of ours goes before 143 and crashes, which are then our own doing: a pause is not
counted, a hang is.
"""

from dataclasses import dataclass

from rlhf_operator.api import AttemptStop, RunOutcome
from rlhf_operator.decide.hang import HUNG
from rlhf_operator.decide.observed import Ended
from rlhf_operator.decide.suspend import SUSPENDED
from rlhf_trainer.contract import Outcome


@dataclass(frozen=True)
class PhaseComplete:
    """The next phase may start."""


@dataclass(frozen=True)
class RunEnds:
    """The phase's own verdict ends the run."""

    outcome: RunOutcome


@dataclass(frozen=True)
class TryAgain:
    """The phase needs another attempt."""

    counted: bool
    reason: str
    message: str


Verdict = PhaseComplete | RunEnds | TryAgain


def judge(ended: Ended, stop: AttemptStop | None) -> Verdict:
    """Say what the end of an attempt means, given our own intent to stop it, if there was one."""
    match _outcome(ended):
        case Outcome.COMPLETED:
            return PhaseComplete()
        case Outcome.PREEMPTED | Outcome.CRASHED as outcome:
            return _another(ended, outcome, stop)
        case outcome:
            return RunEnds(RunOutcome(outcome.value))


def describe(ended: Ended) -> str:
    """Return how an attempt ended, in words."""
    if ended.result is not None and ended.result.message:
        return ended.result.message
    if ended.message:
        return ended.message
    if ended.exit_code is None:
        return "its processes are gone and left no result"
    return f"it ended with exit code {ended.exit_code}"


def _outcome(ended: Ended) -> Outcome:
    if ended.exit_code is None:
        return Outcome.CRASHED
    return Outcome.from_exit_code(ended.exit_code)


def _another(ended: Ended, outcome: Outcome, stop: AttemptStop | None) -> TryAgain:
    if stop is not None and stop.reason == HUNG:
        return TryAgain(counted=True, reason=HUNG, message="it showed no sign of life")
    if stop is not None and stop.reason == SUSPENDED:
        return TryAgain(counted=False, reason=SUSPENDED, message="it was paused")
    if outcome is Outcome.PREEMPTED or ended.disrupted:
        return TryAgain(counted=False, reason="Interrupted", message=describe(ended))
    return TryAgain(counted=True, reason="Crashed", message=describe(ended))
