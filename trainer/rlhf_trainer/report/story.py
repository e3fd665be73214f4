"""How a run stands, and why. Pure: facts in, sentences out. What to do next is left to `advice`."""

from dataclasses import dataclass
from enum import StrEnum

from rlhf_trainer.contract import Outcome, Phase
from rlhf_trainer.report.facts import PhaseFacts, RunFacts
from rlhf_trainer.report.formats import capitalised


class Tone(StrEnum):
    """What a status means to the reader; the page's colours follow it."""

    GOOD = "good"
    WARNING = "warning"
    BAD = "bad"
    RUNNING = "running"
    NEUTRAL = "neutral"


@dataclass(frozen=True)
class Story:
    """What the top of a report says."""

    badge: str
    tone: Tone
    reason: str
    """Why the run ended, or what it does: one sentence."""
    outcome: str
    """`contract.Outcome`, one that only a run can have, or RUNNING."""
    deciding: PhaseFacts | None
    """The phase that tells how the run stands."""


RUNNING = "Running"
"""What stands for an outcome as long as there is none."""

_BADGES: dict[str, tuple[str, Tone]] = {
    "Completed": ("Succeeded", Tone.GOOD),
    "Stopped": ("Stopped by the guard", Tone.WARNING),
    "GateFailed": ("Gate not passed", Tone.WARNING),
    "Invalid": ("Invalid input", Tone.BAD),
    "OutOfMemory": ("Out of memory", Tone.BAD),
    "Diverged": ("Diverged", Tone.BAD),
    "Crashed": ("Crashed", Tone.BAD),
    "RetriesExhausted": ("Retries exhausted", Tone.BAD),
    "DeadlineExceeded": ("Deadline exceeded", Tone.BAD),
    "Preempted": ("Interrupted", Tone.NEUTRAL),
    RUNNING: ("In progress", Tone.RUNNING),
}


def tell(facts: RunFacts) -> Story:
    """Return how the run stands."""
    deciding = _deciding(facts)
    outcome = _outcome(facts, deciding)
    badge, tone = _BADGES.get(outcome, (outcome, Tone.NEUTRAL))
    return Story(badge, tone, _reason(facts, deciding, outcome), outcome, deciding)


def _deciding(facts: RunFacts) -> PhaseFacts | None:
    """Return the phase that tells how the run stands: the last one that was begun."""
    stop = facts.status.stop
    if stop is not None and stop.phase is not None and facts.phase(stop.phase) is not None:
        return facts.phase(stop.phase)
    begun = [phase for phase in facts.phases if phase.attempts]
    return begun[-1] if begun else None


def _outcome(facts: RunFacts, deciding: PhaseFacts | None) -> str:
    if facts.status.outcome is not None:
        return facts.status.outcome
    if deciding is None or deciding.outcome is None or facts.status.phases:
        return RUNNING
    if deciding.outcome is Outcome.COMPLETED and deciding.phase is not Phase.EVALUATION:
        return RUNNING
    return deciding.outcome.value


def _reason(facts: RunFacts, deciding: PhaseFacts | None, outcome: str) -> str:
    if facts.status.stop is not None and facts.status.stop.message:
        return _sentence(facts.status.stop.message)
    if deciding is None:
        return "No phase has begun yet."
    if outcome == RUNNING:
        return _activity(deciding)
    if deciding.result is not None:
        return _sentence(deciding.result.message)
    failure = deciding.status.last_failure if deciding.status else ""
    return _sentence(failure or f"{deciding.phase} left no result")


def _activity(deciding: PhaseFacts) -> str:
    if deciding.outcome is Outcome.COMPLETED:
        return f"{deciding.phase} is complete; the next phase has not begun yet."
    if deciding.result is not None:
        return f"{deciding.phase} is to be tried again; it ended: {deciding.result.message}."
    progress = deciding.progress
    if progress is None:
        return f"{deciding.phase} has begun."
    steps = f"step {progress.step}"
    if progress.total_steps:
        steps += f" of {progress.total_steps}"
    numbers = f": {progress.text}" if progress.text else ""
    return f"{deciding.phase} is at {steps}{numbers}."


def _sentence(message: str) -> str:
    return capitalised(message.strip().rstrip(".")) + "."
