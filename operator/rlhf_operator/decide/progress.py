"""What is taken into the status of an attempt's progress, and how often.

Every change of status is a write; progress alone is worth one at most every half minute. What the
end of an attempt shows is always taken.
"""

import math
from collections.abc import Mapping
from datetime import datetime, timedelta
from itertools import islice

from rlhf_operator.api import AttemptStatus, PhaseStatus
from rlhf_operator.api.status import MAXIMUM_METRICS
from rlhf_operator.decide.observed import AttemptProgress

INTERVAL = timedelta(seconds=30)


def recorded(
    phase: PhaseStatus, attempt: AttemptStatus, progress: AttemptProgress, now: datetime
) -> PhaseStatus:
    """Return the phase with the progress of its live attempt, if it is time to take it in."""
    if attempt.progress_time is not None and now < attempt.progress_time + INTERVAL:
        return phase
    seen = taken(phase, progress)
    moved = progress.heartbeat is not None and progress.heartbeat != attempt.heartbeat
    if seen == phase and not moved:
        return phase
    changes: dict[str, object] = {"progress_time": now}
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
