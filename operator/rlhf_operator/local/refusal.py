"""What a manifest may ask of a cluster and not of `rlhf run`, because it would mean something else.

Fields that only say where and how pods run are ignored here: their documentation says so.
"""

from rlhf_operator.api import RLHFRunSpec, placed
from rlhf_operator.api.placement import LOCAL_POOL, field_of
from rlhf_operator.errors import SpecError
from rlhf_trainer.config.guard import Enforcer
from rlhf_trainer.contract import Phase


def local_refusal(spec: RLHFRunSpec) -> SpecError | None:
    """Return what has to change before this machine can run `spec` as it is meant, or None."""
    if spec.run_policy.suspend:
        return SpecError(
            field="spec.runPolicy.suspend",
            value=True,
            problem="`rlhf run` runs at once, and pauses when it is interrupted",
            fix="add --set spec.runPolicy.suspend=false",
        )
    enforcers = spec.guard.kl.enforced_by
    if Enforcer.TRAINER not in enforcers:
        return SpecError(
            field="spec.guard.kl.enforcedBy",
            value=", ".join(enforcers),
            problem="`rlhf run` has no operator, and nobody would stop the run",
            fix=f"add --set 'spec.guard.kl.enforcedBy=[{Enforcer.TRAINER}]'",
        )
    return next((refused for phase in Phase if (refused := _phase_refusal(spec, phase))), None)


def _phase_refusal(spec: RLHFRunSpec, phase: Phase) -> SpecError | None:
    """Refuse a phase with a place of its own that is not this machine."""
    place = placed(spec.placement, phase)
    if place.pool != LOCAL_POOL:
        return SpecError(
            field=f"spec.placement.{field_of(spec.placement, phase, 'pool')}",
            value=place.pool,
            problem="no such pool here",
            fix=f"use one of: {LOCAL_POOL}",
        )
    if place.nodes > 1:
        return SpecError(
            field=f"spec.placement.{field_of(spec.placement, phase, 'nodes')}",
            value=place.nodes,
            problem="this machine is one node",
            fix="use at most 1, or another pool",
        )
    return None
