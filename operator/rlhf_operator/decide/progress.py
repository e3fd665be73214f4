"""What is taken into the status of an attempt's progress, and how often.

Every change of status is a write; progress alone is worth one at most every half minute. What the
end of an attempt shows is always taken.
"""

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from itertools import islice

from rlhf_operator.api import LiveAttempt, PhaseStatus, RLHFRunSpec
from rlhf_operator.api.status import MAXIMUM_METRICS
from rlhf_operator.decide.observed import AttemptProgress, Observed, Running
from rlhf_operator.decide.watch import watched

INTERVAL = timedelta(seconds=30)

LONGEST_INTERVAL = 10 * INTERVAL
"""Where writes are many, progress waits longer, an attempt's first for half a minute only; where
too many wait, until there are fewer.
"""


def recorded(
    live: LiveAttempt, running: Running, spec: RLHFRunSpec, now: datetime, observed: Observed
) -> PhaseStatus:
    """Return the phase with the progress of its live attempt, if it is time to take it in.

    A breach seen from outside does not wait for that.
    """
    phase, attempt, progress = live.phase, live.attempt, running.progress
    watch = watched(phase, attempt.watch, progress.kl_nats, spec, now)
    urgent = watch is not None and watch.breach_time == now
    last = attempt.progress_time
    too_soon = last is not None and now < last + INTERVAL
    due = attempt.start_time + INTERVAL if last is None else last + LONGEST_INTERVAL
    waits = observed.busy and now < due
    if (too_soon or waits or observed.crowded) and not urgent:
        return phase
    seen = taken(phase, progress)
    moved = progress.heartbeat is not None and progress.heartbeat != attempt.heartbeat
    unknown_job = attempt.job_uid is None and running.job_uid is not None
    if last is None and unknown_job and not progress.metrics_available:
        # The first reading brings this too; without one it is written after a while.
        unknown_job = now >= attempt.start_time + INTERVAL
    if seen == phase and not moved and not unknown_job and watch == attempt.watch:
        return phase
    changes: dict[str, object] = {
        "progress_time": now,
        "watch": watch,
        "job_uid": attempt.job_uid or running.job_uid,
    }
    if moved:
        changes |= {"heartbeat": progress.heartbeat, "heartbeat_time": now}
    return seen.evolve(running=attempt.evolve(**changes))


def taken(phase: PhaseStatus, progress: AttemptProgress) -> PhaseStatus:
    """Return the phase with all that `progress` knows; earlier checkpoints still count."""
    checkpoints = (phase.checkpoint_step, progress.checkpoint_step)
    return phase.evolve(
        step=phase.step if progress.step is None else progress.step,
        checkpoint_step=max((step for step in checkpoints if step is not None), default=None),
        certified_step=(
            phase.certified_step if progress.certified_step is None else progress.certified_step
        ),
        metrics=storable(progress.metrics) or phase.metrics,
    )


def storable(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return what a status can hold of `metrics`: JSON knows no NaN, and the field is bounded."""
    finite = ((name, value) for name, value in metrics.items() if math.isfinite(value))
    return dict(islice(finite, MAXIMUM_METRICS))
