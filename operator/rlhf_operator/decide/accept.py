"""Whether a run can be placed where it is asked to be; a refusal starts and ends nothing."""

from collections.abc import Sequence

from rlhf_operator.api import RLHFRunSpec
from rlhf_operator.decide.observed import Pool
from rlhf_operator.errors import SpecError


def refusal(spec: RLHFRunSpec, pools: Sequence[Pool]) -> SpecError | None:
    """Return what the user has to change before anything can start, or None."""
    placement = spec.placement
    pool = next((pool for pool in pools if pool.name == placement.pool), None)
    if pool is None:
        known = ", ".join(pool.name for pool in pools) or "none"
        return SpecError(
            field="spec.placement.pool",
            value=placement.pool,
            problem="no such pool here",
            fix=f"use one of: {known}",
        )
    if pool.maximum_nodes is not None and placement.nodes > pool.maximum_nodes:
        return SpecError(
            field="spec.placement.nodes",
            value=placement.nodes,
            problem=f"pool {pool.name} has {pool.maximum_nodes}",
            fix=f"use at most {pool.maximum_nodes}, or another pool",
        )
    return None
