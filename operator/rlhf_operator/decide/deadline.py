"""When a run or a phase has taken too long; pauses do not count."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from rlhf_operator.api import RunOutcome, RunPolicy, RunStatus, StoppedBy, StopStatus


class Deadline(NamedTuple):
    """A limit in time, and the field that sets it."""

    time: datetime
    reason: str
    message: str


def deadlines(status: RunStatus, policy: RunPolicy) -> tuple[Deadline, ...]:
    """Return the deadlines that apply now; none while the run pauses."""
    return () if status.suspend_time else tuple(_deadlines(status, policy))


def passed(status: RunStatus, policy: RunPolicy, now: datetime) -> StopStatus | None:
    """Return the end of a run that has taken too long, or None."""
    over = [deadline for deadline in deadlines(status, policy) if now >= deadline.time]
    if not over:
        return None
    first = min(over, key=lambda deadline: deadline.time)
    due = status.due
    return StopStatus(
        outcome=RunOutcome.DEADLINE_EXCEEDED,
        reason=first.reason,
        by=StoppedBy.OPERATOR,
        message=first.message,
        time=now,
        iteration=due.iteration if due else None,
        phase=due.phase if due else None,
        step=due.step if due else None,
        certified_step=due.certified_step if due else None,
    )


def _deadlines(status: RunStatus, policy: RunPolicy) -> Iterator[Deadline]:
    due = status.due
    if due is None:
        return
    run_seconds, phase_seconds = policy.active_deadline_seconds, policy.phase_deadline_seconds
    if status.active_since is not None and run_seconds is not None:
        yield Deadline(
            status.active_since + timedelta(seconds=run_seconds),
            "DeadlineExceeded",
            f"the run was not complete after {run_seconds} s; "
            f"raise spec.runPolicy.activeDeadlineSeconds={run_seconds}",
        )
    if due.active_since is not None and phase_seconds is not None:
        yield Deadline(
            due.active_since + timedelta(seconds=phase_seconds),
            "PhaseDeadlineExceeded",
            f"{due.phase} was not complete after {phase_seconds} s; "
            f"raise spec.runPolicy.phaseDeadlineSeconds={phase_seconds}",
        )
