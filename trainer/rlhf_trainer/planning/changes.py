"""The smallest change that makes a run fit.

Decided here: the order in which changes are tried. First what leaves results as they are and costs
only time, then more hardware, then another algorithm. Of each tier, with those before it, one
change that is enough alone goes before any combination, and two together before three.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from itertools import combinations, product
from typing import Any

from rlhf_trainer.config import TrainingConfig
from rlhf_trainer.config.base import OptimizerConfig
from rlhf_trainer.config.deepspeed import DeepSpeedConfig
from rlhf_trainer.config.model import LoRAConfig
from rlhf_trainer.config.ppo import Critic
from rlhf_trainer.contract import Phase, Place
from rlhf_trainer.planning.networks import Models
from rlhf_trainer.planning.plan import TIGHT, MemoryPlan, PhasePlan, make_plan, planned
from rlhf_trainer.planning.shapes import Lengths

LARGEST_COMBINATION = 4

LEAST_TOKENS = 512
"""Smaller micro-batches than this leave a GPU idle."""

MOST_NODES = 64
"""Nodes to suggest at most, where a pool names no number."""

FIELDS = {Phase.SFT: "sft", Phase.REWARD_MODEL: "reward_model"}
"""Sections of the configuration by phase; that of the others is `ppo`."""


@dataclass(frozen=True)
class Wanted:
    """A run that is planned."""

    config: TrainingConfig
    places: Mapping[Phase, Place]


@dataclass(frozen=True)
class Change:
    """One or more edits of the manifest that are made together."""

    edits: tuple[str, ...]
    """As `--set` takes them, such as `spec.deepspeed.zeroStage=3`."""
    apply: Callable[[Wanted], Wanted]


def smallest_change(
    config: TrainingConfig,
    models: Models,
    places: Mapping[Phase, Place],
    lengths: Lengths | None = None,
) -> tuple[str, ...] | None:
    """Return the edits that make a run fit, each as `--set` takes it; None if none do.

    Those that leave a tenth of the memory free are preferred.
    """
    wanted = Wanted(config, places)
    plan = make_plan(config, models, places, lengths)
    if plan.refused is None:
        return ()
    for share in (TIGHT, 1.0):
        crowded = [phase.phase for phase in plan.phases if not _has_room(phase, share)]
        for changes, changed in _changed(wanted, crowded, models, lengths):
            if fits(changed, share):
                return tuple(edit for change in changes for edit in change.edits)
    return None


def least_bytes(
    config: TrainingConfig,
    models: Models,
    places: Mapping[Phase, Place],
    lengths: Lengths | None = None,
) -> float:
    """Return what the phase that needs most needs, after the changes that spare most."""
    wanted = Wanted(config, places)
    plans = [make_plan(config, models, places, lengths)]
    plans += [plan for _, plan in _changed(wanted, planned(config), models, lengths)]
    return min(max(phase.peak.held.total for phase in plan.phases) for plan in plans)


def _changed(
    wanted: Wanted, crowded: Sequence[Phase], models: Models, lengths: Lengths | None
) -> Iterator[tuple[tuple[Change, ...], MemoryPlan]]:
    """Yield sets of changes that may be made, and the plan after them."""
    for changes in _combinations(_tiers(wanted, crowded)):
        changed = reduce(lambda so_far, change: change.apply(so_far), changes, wanted)
        if _is_valid(changed):
            yield changes, make_plan(changed.config, models, changed.places, lengths)


def fits(plan: MemoryPlan, share: float) -> bool:
    """Return whether every phase stays within a share of its GPU's memory."""
    return all(_has_room(phase, share) for phase in plan.phases)


def _has_room(plan: PhasePlan, share: float) -> bool:
    capacity = plan.place.memory_bytes
    return capacity is None or plan.peak.held.total <= share * capacity


def _combinations(tiers: Sequence[Sequence[Sequence[Change]]]) -> Iterator[tuple[Change, ...]]:
    """Yield sets of changes, one of a kind at most, in the order in which they are preferred."""
    known: list[Sequence[Change]] = []
    for tier in tiers:
        before, known = len(known), [*known, *(changes for changes in tier if changes)]
        for size in range(1, LARGEST_COMBINATION + 1):
            for kinds in combinations(range(len(known)), size):
                if kinds[-1] >= before:
                    yield from product(*(known[kind] for kind in kinds))


def _tiers(wanted: Wanted, crowded: Sequence[Phase]) -> list[list[list[Change]]]:
    """Return the changes of each kind, mildest first, in tiers of what they cost a user."""
    return [
        [
            _fewer_tokens(wanted, crowded),
            _recomputing(wanted),
            _sharding(wanted),
            _offloading(wanted),
        ],
        [_more_hardware(wanted)],
        [_shared_trunk(wanted), _adapters(wanted)],
    ]


def _with(wanted: Wanted, **sections: object) -> Wanted:
    return Wanted(wanted.config.model_copy(update=sections), wanted.places)


def _fewer_tokens(wanted: Wanted, crowded: Sequence[Phase]) -> list[Change]:
    """Return smaller micro-batches of the phases that do not fit, alike where several do not."""
    sections = dict.fromkeys(FIELDS.get(phase, "ppo") for phase in crowded)
    settings: dict[str, OptimizerConfig] = {name: getattr(wanted.config, name) for name in sections}
    largest = max(section.tokens_per_micro_batch for section in settings.values())
    changes = []
    tokens = largest // 2
    while tokens >= LEAST_TOKENS:
        larger = [name for name, each in settings.items() if each.tokens_per_micro_batch > tokens]
        edits = tuple(f"spec.{_camel(name)}.tokensPerMicroBatch={tokens}" for name in larger)
        changes.append(Change(edits, partial(_with_tokens, tokens, larger)))
        tokens //= 2
    return changes


def _with_tokens(tokens: int, sections: Sequence[str], wanted: Wanted) -> Wanted:
    update = {"tokens_per_micro_batch": tokens}
    changed = {name: getattr(wanted.config, name).model_copy(update=update) for name in sections}
    return _with(wanted, **changed)


def _camel(name: str) -> str:
    return "rewardModel" if name == "reward_model" else name


def _recomputing(wanted: Wanted) -> list[Change]:
    held = {"model": wanted.config.model, "rewardModel.model": wanted.config.reward_model.model}
    kept = [name for name, each in held.items() if each and not each.gradient_checkpointing]
    if not kept:
        return []

    def apply(wanted: Wanted) -> Wanted:
        update = {"gradient_checkpointing": True}
        reward = wanted.config.reward_model
        if reward.model is not None:
            held = reward.model.model_copy(update=update)
            wanted = _with(wanted, reward_model=reward.model_copy(update={"model": held}))
        return _with(wanted, model=wanted.config.model.model_copy(update=update))

    return [Change(tuple(f"spec.{name}.gradientCheckpointing=true" for name in kept), apply)]


def _sharding(wanted: Wanted) -> list[Change]:
    if "stage" in _overridden(wanted):
        return []
    return [
        _deepspeed(f"spec.deepspeed.zeroStage={stage}", zero_stage=stage)
        for stage in (2, 3)
        if stage > wanted.config.deepspeed.zero_stage
    ]


def _offloading(wanted: Wanted) -> list[Change]:
    if wanted.config.deepspeed.offload_optimizer or "offload_optimizer" in _overridden(wanted):
        return []
    return [_deepspeed("spec.deepspeed.offloadOptimizer=true", offload_optimizer=True)]


def _overridden(wanted: Wanted) -> Mapping[str, Any]:
    zero: Any = wanted.config.deepspeed.overrides.get("zero_optimization", {})
    return dict(zero)


def _deepspeed(edit: str, **update: object) -> Change:
    return Change(
        (edit,),
        lambda wanted: _with(wanted, deepspeed=wanted.config.deepspeed.model_copy(update=update)),
    )


def _more_hardware(wanted: Wanted) -> list[Change]:
    """Return more GPUs of each node, then more nodes with all of theirs.

    Not where the sizes of phases differ, over which one number for all would say nothing.
    """
    places = list(wanted.places.values())
    sizes = {(place.nodes, place.processes) for place in places}
    if len(sizes) > 1 or not all(place.is_gpu for place in places):
        return []
    ((nodes, gpus),) = sizes
    most_gpus = min(place.maximum_processes or place.processes for place in places)
    most_nodes = min(place.maximum_nodes or MOST_NODES for place in places)
    counts = [2**power for power in range(1, 7)]
    fuller = [{"processes": count} for count in (2, 4, 8, 16) if gpus < count <= most_gpus]
    full = {"processes": most_gpus} if gpus < most_gpus else {}
    wider = [{**full, "nodes": count} for count in counts if nodes < count <= most_nodes]
    return [_placed(places, update) for update in (*fuller, *wider)]


def _placed(places: Sequence[Place], update: Mapping[str, int]) -> Change:
    """Return the change of all places; a phase with fields of its own is changed by those."""
    edits = [
        f"{getattr(place, f'{name}_field')}={count}"
        for name, count in update.items()
        for place in places
    ]
    if "nodes" in update:
        edits += [place.several_nodes_edit for place in places if place.several_nodes_edit]

    def apply(wanted: Wanted) -> Wanted:
        places = {phase: place.model_copy(update=update) for phase, place in wanted.places.items()}
        return Wanted(wanted.config, places)

    return Change(tuple(dict.fromkeys(edits)), apply)


def _shared_trunk(wanted: Wanted) -> list[Change]:
    if wanted.config.ppo.critic is Critic.SHARED_TRUNK:
        return []
    update = {"critic": Critic.SHARED_TRUNK}
    return [
        Change(
            ("spec.ppo.critic=SharedTrunk",),
            lambda wanted: _with(wanted, ppo=wanted.config.ppo.model_copy(update=update)),
        )
    ]


def _adapters(wanted: Wanted) -> list[Change]:
    if wanted.config.model.lora is not None:
        return []
    update = {"lora": LoRAConfig()}
    return [
        Change(
            ("spec.model.lora={}",),
            lambda wanted: _with(wanted, model=wanted.config.model.model_copy(update=update)),
        )
    ]


def _is_valid(wanted: Wanted) -> bool:
    """Return whether the manifest would be accepted with a change."""
    config, deepspeed = wanted.config, wanted.config.deepspeed
    if deepspeed.offload_optimizer and deepspeed.zero_stage == DeepSpeedConfig().zero_stage:
        return False
    batches = {
        Phase.SFT: config.sft.batch_size,
        Phase.REWARD_MODEL: config.reward_model.batch_size,
        Phase.PPO: config.ppo.minibatch_size,
    }
    return all(
        batches[phase] % wanted.places[phase].ranks == 0
        for phase in planned(config)
        if phase in batches
    )
