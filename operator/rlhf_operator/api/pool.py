"""Node pools: declared once by whoever owns the cluster, named by whoever trains.

What a run may not ask of them is decided here; how a manifest of a pool is read, in `render.pools`.
"""

from collections.abc import Mapping

from pydantic import Field

from rlhf_operator.api.placement import TRAINED_PHASES, NodeSelector, Tolerations, field_of, placed
from rlhf_operator.api.spec import RLHFRunSpec
from rlhf_operator.api.status import PhaseSize
from rlhf_operator.api.text import DNSLabel, Quantity
from rlhf_operator.errors import SpecError
from rlhf_trainer.config.base import ConfigModel
from rlhf_trainer.config.model import Device
from rlhf_trainer.contract import Phase


class Pool(ConfigModel):
    """Nodes of one kind."""

    name: DNSLabel
    """What runs call it: the key that it is declared under. Required."""

    node_selector: NodeSelector = Field(default_factory=dict)
    """Labels of its nodes. Default: any node."""

    tolerations: Tolerations = ()
    """Taints of its nodes that pods put up with. Default: none."""

    gpu_resource: str = Field(default="nvidia.com/gpu", min_length=1, max_length=317)
    """Resource that its GPUs are asked for by. Default: nvidia.com/gpu, the device plugin's."""

    gpus_per_node: int = Field(default=0, ge=0, le=64)
    """GPUs of each node. Default: 0, a pool without GPUs."""

    gpu_memory_bytes: int | None = Field(default=None, ge=1, le=2**50)
    """Memory of each GPU, in bytes: Preparation refuses a run that cannot fit.

    Default: not known, and nothing is refused for want of it.
    """

    maximum_nodes: int | None = Field(default=None, ge=1, le=100_000)
    """Nodes that one run may take. Default: as many as it asks for."""

    extra_resources: dict[str, Quantity] = Field(default_factory=dict, max_length=16)
    """Further resources that each training pod asks for, such as rdma/hca, cpu or memory.

    Default: none.
    """

    host_network: bool = False
    """Whether training pods use the node's network, as some RDMA set-ups need. A node then takes
    one such pod, whatever it asks for, and its ports 8000 (metrics) and 23456 (the training
    operator's) must be free; Pod Security `restricted` and `baseline` refuse such pods.
    Default: false.
    """


def placement_refusal(
    spec: RLHFRunSpec,
    pools: Mapping[str, Pool],
    left: Mapping[Phase, PhaseSize | None] | None = None,
) -> SpecError | None:
    """Return what has to change before every phase can be placed, or None.

    `left` names the phases that are not done yet, with the size of those that have begun.
    """
    for phase, size in (left if left is not None else dict.fromkeys(Phase)).items():
        refused = _phase_refusal(spec, phase, size, pools)
        if refused is not None:
            return refused
    return None


def host_network_warning(spec: RLHFRunSpec, pools: Mapping[str, Pool]) -> str | None:
    """Return what hostNetwork of a run's pools means for Pod Security, if one has it."""
    used = {placed(spec.placement, phase).pool for phase in Phase}
    names = sorted(name for name in used if name in pools and pools[name].host_network)
    if not names:
        return None
    return (
        f"pool {', '.join(names)} puts training pods on the node's network, which Pod Security "
        "`restricted` and `baseline` refuse: the namespace must enforce `privileged`"
    )


def _phase_refusal(
    spec: RLHFRunSpec, phase: Phase, size: PhaseSize | None, pools: Mapping[str, Pool]
) -> SpecError | None:
    name = placed(spec.placement, phase).pool
    pool = pools.get(name)
    if pool is None:
        return SpecError(
            field=_field(spec, phase, "pool"),
            value=name,
            problem="no such pool here",
            fix=f"use one of: {', '.join(sorted(pools)) or 'none'}",
        )
    return _misfit(spec, phase, pool) if size is None else _outgrown(spec, phase, size, pool)


def _outgrown(spec: RLHFRunSpec, phase: Phase, size: PhaseSize, pool: Pool) -> SpecError | None:
    """Refuse a pool that cannot hold a phase as it began: its size does not change any more.

    GPUs that it leaves idle are no reason: it can only go on without them.
    """
    if pool.maximum_nodes is not None and size.nodes > pool.maximum_nodes:
        problem = f"has {pool.maximum_nodes} nodes, and {phase} began with {size.nodes}"
    elif size.gpus_per_node > pool.gpus_per_node:
        began = f"{phase} began with {size.gpus_per_node}"
        problem = f"its nodes have {pool.gpus_per_node} GPUs, and {began}"
    else:
        return None
    return SpecError(
        field=_field(spec, phase, "pool"), value=pool.name, problem=problem, fix="use another pool"
    )


def _misfit(spec: RLHFRunSpec, phase: Phase, pool: Pool) -> SpecError | None:
    """Refuse a phase that asks more of its pool than there is, or leaves its GPUs idle."""
    place = placed(spec.placement, phase)
    if pool.maximum_nodes is not None and place.nodes > pool.maximum_nodes:
        return SpecError(
            field=_field(spec, phase, "nodes"),
            value=place.nodes,
            problem=f"pool {pool.name} has {pool.maximum_nodes}",
            fix=f"use at most {pool.maximum_nodes}, or another pool",
        )
    if place.gpus_per_node > pool.gpus_per_node:
        return SpecError(
            field=_field(spec, phase, "gpus_per_node"),
            value=place.gpus_per_node,
            problem=f"nodes of pool {pool.name} have {pool.gpus_per_node}",
            fix=f"use at most {pool.gpus_per_node}, or another pool",
        )
    idle = phase in TRAINED_PHASES and pool.gpus_per_node and not place.gpus_per_node
    if idle and spec.model.device is not Device.CPU:
        return SpecError(
            field=_field(spec, phase, "gpus_per_node"),
            value=0,
            problem=f"{phase} would train on the CPUs of pool {pool.name}, which has GPUs",
            fix=f"use up to {pool.gpus_per_node}, another pool, or model.device: CPU",
        )
    return None


def _field(spec: RLHFRunSpec, phase: Phase, name: str) -> str:
    return f"spec.placement.{field_of(spec.placement, phase, name)}"
