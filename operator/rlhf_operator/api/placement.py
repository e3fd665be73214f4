"""Where the phases run, what each of them may have otherwise, and what that comes to per phase.

Pools themselves are declared by whoever owns the cluster: see `api.pool`.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from rlhf_operator.api.handover import HandedOver
from rlhf_operator.api.status import PhaseSize
from rlhf_operator.api.text import DNSLabel, LabelValue, ObjectName, ShortText
from rlhf_trainer.config.base import ConfigModel
from rlhf_trainer.contract import Phase

LOCAL_POOL = "local"
"""The pool that `rlhf run` offers: this machine."""

PREPARATION_NODES, PREPARATION_GPUS = 1, 0
"""Preparation holds no GPU, and one pod is enough for it."""


class TolerationOperator(StrEnum):
    """How a toleration matches a taint."""

    EXISTS = "Exists"
    EQUAL = "Equal"


class TaintEffect(StrEnum):
    """What a taint does."""

    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class Toleration(HandedOver):
    """A taint of nodes that pods put up with, as Kubernetes spells it."""

    key: str | None = Field(default=None, min_length=1, max_length=317)
    """Key of the taint. Default: every key, with operator Exists."""

    operator: TolerationOperator = TolerationOperator.EQUAL
    """Exists, or Equal to `value`. Default: Equal, as in Kubernetes."""

    value: LabelValue | None = None
    """Value of the taint. Default: the empty one."""

    effect: TaintEffect | None = None
    """Effect of the taint. Default: every effect."""

    toleration_seconds: int | None = Field(default=None, ge=0, le=31_536_000)
    """Time for which a NoExecute taint is put up with, in seconds. Default: for ever."""


NodeSelector = Annotated[dict[str, LabelValue], Field(max_length=32)]
Tolerations = Annotated[tuple[Toleration, ...], Field(max_length=32)]


class PodGroup(ConfigModel):
    """The pods of a job as one: a gang scheduler gives nodes to all of them, or to none.

    Which scheduler that is, is a setting of the training operator: without
    `--gang-scheduler-name` it makes no groups.
    """

    queue: DNSLabel | None = None
    """Volcano's queue. Default: Volcano's own, `default`."""

    schedule_timeout_seconds: int | None = Field(default=None, ge=1, le=86_400)
    """How long the coscheduling plugin keeps places for pods that lack others of their group, in
    seconds. Default: the plugin's.
    """


class PodPlacement(ConfigModel):
    """What Preparation may have otherwise: it has one pod and no GPU."""

    pool: DNSLabel | None = None
    """Node pool. Default: the placement's."""

    node_selector: NodeSelector | None = None
    """Labels that nodes must have, in place of the placement's. Default: the placement's."""

    tolerations: Tolerations | None = None
    """Taints put up with, in place of the placement's. Default: the placement's."""

    priority_class_name: ObjectName | None = None
    """Priority class of the pods. Default: the placement's."""

    queue_name: DNSLabel | None = None
    """Kueue's local queue. Default: the placement's."""

    queue_priority_class_name: ObjectName | None = None
    """Kueue's WorkloadPriorityClass. Default: the placement's."""


class PhasePlacement(PodPlacement):
    """What a phase may have otherwise."""

    nodes: int | None = Field(default=None, ge=1, le=4096)
    """Machines. Default: the placement's."""

    gpus_per_node: int | None = Field(default=None, ge=0, le=64)
    """GPUs per machine. Default: the placement's."""

    processes_per_node: int | None = Field(default=None, ge=1, le=512)
    """Processes (ranks) per machine.

    Default: `gpusPerNode` where that is set here, else the placement's.
    """


class PhasePlacements(ConfigModel):
    """Placements of single phases; what is left out is as for all."""

    preparation: PodPlacement | None = None
    """Placement of Preparation. Default: as for all, with one pod and no GPU."""

    sft: PhasePlacement | None = None
    """Placement of SFT. Default: as for all."""

    reward_model: PhasePlacement | None = None
    """Placement of RewardModel. Default: as for all."""

    ppo: PhasePlacement | None = None
    """Placement of PPO. Default: as for all."""

    evaluation: PhasePlacement | None = None
    """Placement of Evaluation. Default: as for all."""


class Placement(ConfigModel):
    """Where the phases run."""

    pool: DNSLabel = LOCAL_POOL
    """Node pool, by the name its owner gave it. Default: local, the one that `rlhf run` has."""

    nodes: int = Field(default=1, ge=1, le=4096)
    """Machines per phase. Default: 1, which needs no network between them."""

    gpus_per_node: int = Field(default=0, ge=0, le=64)
    """GPUs per machine. Default: 0, train on CPU unless a driver answers."""

    processes_per_node: int | None = Field(default=None, ge=1, le=512)
    """Processes (ranks) per machine. Default: `gpusPerNode`, or 1 without GPUs."""

    node_selector: NodeSelector | None = None
    """Labels that nodes must have, besides the pool's; these win over the pool's.

    Default: the pool's alone. `rlhf run` ignores it.
    """

    tolerations: Tolerations | None = None
    """Taints of nodes to put up with, besides the pool's.

    Default: the pool's alone. `rlhf run` ignores them.
    """

    priority_class_name: ObjectName | None = None
    """Priority class of the pods. Default: the cluster's. `rlhf run` ignores it."""

    queue_name: DNSLabel | None = None
    """Kueue's local queue: jobs are created suspended, and Kueue lets them start.

    Default: none, jobs start at once. `rlhf run` ignores it.
    """

    queue_priority_class_name: ObjectName | None = None
    """Kueue's WorkloadPriorityClass: which job of a queue goes first and which gives way, whatever
    the priority of pods. Default: by the priority class of the pods. `rlhf run` ignores it.
    """

    pod_group: PodGroup | None = None
    """What a gang scheduler is told about the pods of each job. Default: nothing; the training
    operator's groups are still of all pods. `rlhf run` ignores it.
    """

    phases: PhasePlacements | None = None
    """Single phases placed otherwise; sizes apply from the next phase on.

    Default: all phases alike.
    """

    @property
    def processes(self) -> int:
        """Processes on one machine."""
        return self.processes_per_node or max(self.gpus_per_node, 1)

    @model_validator(mode="after")
    def one_gpu_per_process(self) -> Self:
        """NCCL refuses two ranks on one GPU."""
        for phase in TRAINED_PHASES:
            place = placed(self, phase)
            if 0 < place.gpus_per_node < place.processes:
                at = field_of(self, phase, "processes_per_node")
                msg = (
                    f"{at}={place.processes}: more than gpusPerNode={place.gpus_per_node}; "
                    "use at most one process per GPU"
                )
                raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def priority_in_a_queue(self) -> Self:
        """Outside a queue nobody reads it."""
        for phase in Phase:
            place = placed(self, phase)
            if place.queue_priority_class_name and not place.queue_name:
                at = field_of(self, phase, "queue_priority_class_name")
                msg = (
                    f"{at}={place.queue_priority_class_name}: there is no queue to be first in; "
                    "set queueName"
                )
                raise ValueError(msg)
        return self


PHASE_FIELDS = {
    Phase.PREPARATION: "preparation",
    Phase.SFT: "sft",
    Phase.REWARD_MODEL: "reward_model",
    Phase.PPO: "ppo",
    Phase.EVALUATION: "evaluation",
}
"""Fields of `placement.phases`."""

_LIKE_ALL = PhasePlacement()
"""A phase that has no fields of its own."""

TRAINED_PHASES = tuple(phase for phase in Phase if phase is not Phase.PREPARATION)
"""Phases that run on nodes and GPUs as they are asked for."""


@dataclass(frozen=True)
class PlacedPhase:
    """What one phase gets."""

    pool: str
    nodes: int
    gpus_per_node: int
    processes: int
    """Processes on one machine."""
    node_selector: dict[str, str]
    tolerations: tuple[Toleration, ...]
    priority_class_name: ShortText | None
    queue_name: str | None
    queue_priority_class_name: str | None
    pod_group: PodGroup | None

    @property
    def world_size(self) -> int:
        """Processes in all."""
        return self.nodes * self.processes


def placed(placement: Placement, phase: Phase, size: PhaseSize | None = None) -> PlacedPhase:
    """Return the placement of one phase: its own fields, and for the others those for all.

    One that has begun keeps the size that it began with.
    """
    own: PodPlacement | PhasePlacement = _own(placement, phase) or _LIKE_ALL
    if isinstance(own, PhasePlacement):
        nodes = own.nodes or placement.nodes
        gpus = placement.gpus_per_node if own.gpus_per_node is None else own.gpus_per_node
        processes = own.processes_per_node or (
            placement.processes if own.gpus_per_node is None else max(gpus, 1)
        )
    if phase is Phase.PREPARATION or not isinstance(own, PhasePlacement):
        nodes, gpus, processes = PREPARATION_NODES, PREPARATION_GPUS, 1
    if size is not None:
        nodes, gpus, processes = size.nodes, size.gpus_per_node, size.processes_per_node
    selector = placement.node_selector if own.node_selector is None else own.node_selector
    tolerations = placement.tolerations if own.tolerations is None else own.tolerations
    return PlacedPhase(
        pool=own.pool or placement.pool,
        nodes=nodes,
        gpus_per_node=gpus,
        processes=processes,
        node_selector=dict(selector or {}),
        tolerations=tolerations or (),
        priority_class_name=own.priority_class_name or placement.priority_class_name,
        queue_name=own.queue_name or placement.queue_name,
        queue_priority_class_name=(
            own.queue_priority_class_name or placement.queue_priority_class_name
        ),
        pod_group=placement.pod_group,
    )


def processes_are_given(placement: Placement, phase: Phase) -> bool:
    """Return whether a phase's processes are a number of their own, and not one for each GPU."""
    own = _own(placement, phase)
    if isinstance(own, PhasePlacement) and own.processes_per_node is not None:
        return True
    if isinstance(own, PhasePlacement) and own.gpus_per_node is not None:
        return False
    return placement.processes_per_node is not None


def _own(placement: Placement, phase: Phase) -> PodPlacement | None:
    phases: PhasePlacements | None = placement.phases
    if phases is None:
        return None
    own: PodPlacement | None = getattr(phases, PHASE_FIELDS[phase])
    return own


def field_of(placement: Placement, phase: Phase, name: str) -> str:
    """Return where `name` of a phase is set, below `placement`."""
    own = _own(placement, phase)
    info = PhasePlacement.model_fields[name]
    if own is None or getattr(own, name, None) is None:
        return str(info.alias)
    return f"phases.{PhasePlacements.model_fields[PHASE_FIELDS[phase]].alias}.{info.alias}"
