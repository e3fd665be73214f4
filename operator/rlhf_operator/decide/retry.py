"""What follows an attempt that neither completed its phase nor ended the run.

Failures are counted in a row: an attempt that brought a new checkpoint got further, and the count
begins anew. Interruptions from outside end no run. The first is followed at once, those after it
with a pause: a node that ends every pod must not be asked every second.
"""

from datetime import datetime, timedelta

from rlhf_operator.api import (
    AttemptStatus,
    PhaseState,
    PhaseStatus,
    RunOutcome,
    RunPolicy,
    StoppedBy,
    StopStatus,
)
from rlhf_operator.decide.backoff import backoff
from rlhf_operator.decide.outcome import TryAgain
from rlhf_operator.decide.suspend import SUSPENDED


def retried(
    phase: PhaseStatus,
    attempt: AttemptStatus,
    verdict: TryAgain,
    now: datetime,
    *,
    node: str | None,
) -> PhaseStatus:
    """Return the phase as it waits for its next attempt."""
    got_further = (phase.checkpoint_step or 0) > (attempt.checkpoint_step_before or 0)
    failures = 0 if got_further else phase.failures
    interruptions = 0 if got_further else phase.interruptions
    changed = phase.evolve(last_failure=f"attempt {attempt.number}: {verdict.message}")
    if verdict.reason == SUSPENDED:
        return changed.evolve(state=PhaseState.PENDING, failures=failures)
    if verdict.counted:
        failures += 0 if got_further else 1
        pause = backoff(failures)
    else:
        interruptions += 1
        pause = backoff(interruptions - 1) if interruptions > 1 else timedelta()
    return changed.evolve(
        state=PhaseState.BACKING_OFF if pause else PhaseState.PENDING,
        failures=failures,
        interruptions=interruptions,
        avoid_node=node,
        next_attempt_time=now + pause if pause else None,
    )


def exhausted(phase: PhaseStatus, policy: RunPolicy, now: datetime) -> StopStatus | None:
    """Return the end of the run if the phase has failed too often, or None."""
    if phase.failures <= policy.backoff_limit:
        return None
    return StopStatus(
        outcome=RunOutcome.RETRIES_EXHAUSTED,
        reason="RetriesExhausted",
        by=StoppedBy.OPERATOR,
        message=(
            f"{phase.phase} failed {phase.failures} times without a new checkpoint, "
            f"lastly {phase.last_failure}; read its log, "
            f"or raise spec.runPolicy.backoffLimit={policy.backoff_limit}"
        ),
        time=now,
        iteration=phase.iteration,
        phase=phase.phase,
        step=phase.step,
        certified_step=phase.certified_step,
    )
