"""Where a run's phases are placed, for the memory plan: nodes, ranks and the memory of a GPU."""

from collections.abc import Mapping

from rlhf_operator.api import Pool, RLHFRunSpec, placed
from rlhf_operator.api.placement import TRAINED_PHASES, field_of, processes_are_given
from rlhf_operator.api.workspace import AccessMode
from rlhf_trainer.contract import Hardware, Phase, Place


def hardware_of(spec: RLHFRunSpec, pools: Mapping[str, Pool]) -> Hardware:
    """Return the places of all phases that train."""
    return Hardware(places={phase: _place(spec, phase, pools) for phase in TRAINED_PHASES})


def _place(spec: RLHFRunSpec, phase: Phase, pools: Mapping[str, Pool]) -> Place:
    place = placed(spec.placement, phase)
    # A pool that has been taken away since the run was accepted is told by whatever needs it.
    pool = pools.get(place.pool) or Pool(name=place.pool)
    is_gpu = place.gpus_per_node > 0
    # More GPUs are no help where the number of processes is given.
    is_free = not processes_are_given(spec.placement, phase)
    fields = {
        name: f"spec.placement.{field_of(spec.placement, phase, name)}"
        for name in ("pool", "nodes", "gpus_per_node")
    }
    return Place(
        pool=pool.name,
        pool_field=fields["pool"],
        nodes=place.nodes,
        processes=place.processes,
        nodes_field=fields["nodes"],
        processes_field=fields["gpus_per_node"],
        several_nodes_edit=_several_nodes_edit(spec),
        is_gpu=is_gpu,
        memory_bytes=pool.gpu_memory_bytes if is_gpu else None,
        maximum_processes=pool.gpus_per_node or None if is_gpu and is_free else None,
        maximum_nodes=pool.maximum_nodes,
    )


def _several_nodes_edit(spec: RLHFRunSpec) -> str | None:
    """Return what a claim of the run's own needs for several nodes; of others nothing is known."""
    workspace = spec.workspace
    if workspace.claim_name is not None or workspace.access_mode is AccessMode.READ_WRITE_MANY:
        return None
    return f"spec.workspace.accessMode={AccessMode.READ_WRITE_MANY}"
