"""Pauses: what is alive is asked to stop, nothing starts, and deadlines' clocks stand still."""

from datetime import datetime

from rlhf_operator.api import RunStatus

SUSPENDED = "Suspended"


def paused(status: RunStatus, now: datetime) -> RunStatus:
    """Return the status of a run of which nothing is alive and that is to pause."""
    return status if status.suspend_time else status.evolve(suspend_time=now)


def resumed(status: RunStatus, now: datetime) -> RunStatus:
    """Return the status of a run that need not pause (any more): its clocks leave the pause out."""
    if status.suspend_time is None:
        return status
    pause = now - status.suspend_time
    if status.active_since is not None:
        status = status.evolve(active_since=status.active_since + pause)
    due = status.due
    if due is not None and due.active_since is not None:
        status = status.with_phase(due.evolve(active_since=due.active_since + pause))
    return status.evolve(suspend_time=None)
