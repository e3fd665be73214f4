"""When an attempt that is alive counts as hanging: a heartbeat that can be read and does not move.

A heartbeat that cannot be read is no reason: it says nothing about the work.
"""

from datetime import datetime, timedelta

from rlhf_operator.api import AttemptStatus, RunPolicy

HUNG = "Hung"


def hang_time(attempt: AttemptStatus, policy: RunPolicy) -> datetime | None:
    """Return when the attempt counts as hanging if its heartbeat does not move until then."""
    if attempt.heartbeat_time is None:
        return None
    return attempt.heartbeat_time + timedelta(seconds=policy.hang_timeout_seconds)


def is_hung(
    attempt: AttemptStatus, heartbeat: int | None, policy: RunPolicy, now: datetime
) -> bool:
    """Return whether the attempt shows the heartbeat it showed a hang's length ago."""
    due = hang_time(attempt, policy)
    return (
        heartbeat is not None and heartbeat == attempt.heartbeat and due is not None and now >= due
    )
