"""What people are told when a run's status changes, as Events or as lines on the terminal."""

from collections.abc import Iterator
from dataclasses import dataclass

from rlhf_operator.api import ConditionType, PhaseState, PhaseStatus, RunOutcome, RunStatus
from rlhf_operator.decide.conditions import JOB_EDITED


@dataclass(frozen=True)
class Event:
    """One thing that happened."""

    reason: str
    """CamelCase."""
    message: str
    is_warning: bool = False


def events(before: RunStatus, after: RunStatus) -> tuple[Event, ...]:
    """Return what happened between two statuses of a run, in order."""
    known = {phase.key: phase for phase in before.phases}
    found: list[Event] = []
    for phase in after.phases:
        fresh = PhaseStatus(iteration=phase.iteration, phase=phase.phase)
        found.extend(_phase_events(known.get(phase.key, fresh), phase))
    found.extend(_run_events(before, after))
    return tuple(found)


def _phase_events(before: PhaseStatus, after: PhaseStatus) -> Iterator[Event]:
    name = after.phase
    if after.state is not before.state and after.state is PhaseState.SKIPPED:
        yield Event("PhaseSkipped", f"{name} is skipped: {after.model_path} takes its place")
    # An end that is also the run's is told once, with the run's reason.
    if after.last_failure != before.last_failure and after.finish_time is None:
        due = after.next_attempt_time
        waits = f"; next attempt at {due:%H:%M:%S} UTC" if due else ""
        yield Event("AttemptEnded", f"{name}, {after.last_failure}{waits}", is_warning=True)
    if after.attempts > before.attempts:
        again = f", attempt {after.attempts}" if after.attempts > 1 else ""
        saved = (
            f", from its checkpoint of step {after.checkpoint_step}"
            if after.checkpoint_step
            else ""
        )
        yield Event("AttemptStarted", f"{name} starts{again}{saved}")
    if after.state is not before.state and after.state is PhaseState.SUCCEEDED:
        yield Event("PhaseSucceeded", f"{name} is complete")


def _run_events(before: RunStatus, after: RunStatus) -> Iterator[Event]:
    if after.suspend_time and not before.suspend_time:
        yield Event("Suspended", "the run pauses")
    if before.suspend_time and not after.suspend_time:
        yield Event("Resumed", "the run goes on")
    yield from _edited(before, after)
    if after.stop is not None and before.stop is None:
        yield Event(after.stop.reason, after.stop.message, is_warning=True)
    if after.outcome is not None and before.outcome is None:
        failed = after.outcome is not RunOutcome.COMPLETED
        yield Event("Finished", f"the run has ended: {after.outcome}", is_warning=failed)


def _edited(before: RunStatus, after: RunStatus) -> Iterator[Event]:
    known, found = (one.condition(ConditionType.PROGRESSING) for one in (before, after))
    if found is None or found.reason != JOB_EDITED:
        return
    if known is None or known.message != found.message:
        yield Event(JOB_EDITED, found.message, is_warning=True)
