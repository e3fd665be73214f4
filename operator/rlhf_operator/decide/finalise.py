"""How a run ends: its outcome is set once, after the last attempt is gone, and stays."""

from datetime import datetime

from rlhf_operator.api import PhaseState, RunOutcome, RunStatus


def finished(status: RunStatus, now: datetime) -> RunStatus:
    """Return the status of a run that has nothing left to do."""
    outcome = status.stop.outcome if status.stop else RunOutcome.COMPLETED
    due = status.due
    if status.stop and due and due.attempts and due.finish_time is None:
        # The deadline passed between two attempts: the phase will not be tried again.
        status = status.with_phase(
            due.evolve(state=PhaseState.STOPPED, finish_time=now, next_attempt_time=None)
        )
    return status.evolve(outcome=outcome, finish_time=now)
