"""Which live attempts are to end, and how much of their grace period is left."""

from datetime import datetime, timedelta

from rlhf_operator.api import AttemptStatus, AttemptStop, RunPolicy, RunStatus
from rlhf_operator.decide.hang import HUNG, is_hung
from rlhf_operator.decide.observed import Execution, Running
from rlhf_operator.decide.suspend import SUSPENDED


def stop_reason(
    status: RunStatus,
    attempt: AttemptStatus,
    execution: Execution,
    policy: RunPolicy,
    now: datetime,
    *,
    suspended: bool,
) -> str | None:
    """Return why the live attempt is to end, or None; the run's own end goes first."""
    if status.stop is not None:
        return status.stop.reason
    if suspended:
        return SUSPENDED
    if isinstance(execution, Running) and is_hung(
        attempt, execution.progress.heartbeat, policy, now
    ):
        return HUNG
    return None


def kill_time(stop: AttemptStop, policy: RunPolicy) -> datetime:
    """Return the end of the grace period."""
    return stop.time + timedelta(seconds=policy.termination_grace_period_seconds)


def grace_left(stop: AttemptStop, policy: RunPolicy, now: datetime) -> float:
    """Return what is left of the grace period, in seconds."""
    return max((kill_time(stop, policy) - now).total_seconds(), 0.0)
