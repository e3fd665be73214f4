"""The memory plan of a run: for every phase the moment that needs most, and whether it fits."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from rlhf_trainer.config import TrainingConfig
from rlhf_trainer.config.model import DType, ModelConfig
from rlhf_trainer.contract import Phase, Place
from rlhf_trainer.planning.activations import is_known
from rlhf_trainer.planning.hardware import runtime_bytes
from rlhf_trainer.planning.moments import (
    Moment,
    decoding,
    loading,
    measuring,
    updating,
)
from rlhf_trainer.planning.networks import Models, Network, engines, networks_of
from rlhf_trainer.planning.shapes import Lengths, decoding_of, update_of
from rlhf_trainer.planning.sharding import Sharding

TIGHT = 0.9
"""Share of a GPU's memory above which a plan that fits is called tight: predictions are within
10 % where they were measured, and an allocator loses some to fragments."""

BFLOAT16_BYTES, FLOAT32_BYTES = 2, 4


class Verdict(StrEnum):
    """Whether a phase fits."""

    FITS = "fits"
    TIGHT = "tight"
    CANNOT_FIT = "cannot fit"
    BEYOND = "more than there is"
    """Of a machine, which may have memory elsewhere: it is not refused."""
    UNKNOWN = "memory not known"


@dataclass(frozen=True)
class PhasePlan:
    """What one rank of a phase needs."""

    phase: Phase
    place: Place
    zero_stage: int
    """The one that runs, which may be above the configuration's."""
    moments: Sequence[Moment]
    host_bytes: float
    """What is offloaded to the memory of the host, for one rank."""

    @property
    def peak(self) -> Moment:
        """The moment that needs most."""
        return max(self.moments, key=lambda moment: moment.held.total)

    @property
    def verdict(self) -> Verdict:
        """Whether it fits. Host memory is shown, and refused by nobody."""
        capacity = self.place.memory_bytes
        if capacity is None:
            return Verdict.UNKNOWN
        needed = self.peak.held.total
        if needed > capacity:
            return Verdict.CANNOT_FIT if self.place.is_gpu else Verdict.BEYOND
        return Verdict.TIGHT if needed > TIGHT * capacity else Verdict.FITS


@dataclass(frozen=True)
class MemoryPlan:
    """The plans of all phases that train or sample."""

    phases: Sequence[PhasePlan]
    notes: Sequence[str] = ()

    @property
    def refused(self) -> PhasePlan | None:
        """The first phase that cannot fit."""
        return next((plan for plan in self.phases if plan.verdict is Verdict.CANNOT_FIT), None)


def make_plan(
    config: TrainingConfig,
    models: Models,
    places: Mapping[Phase, Place],
    lengths: Lengths | None = None,
) -> MemoryPlan:
    """Return the plan of a run; lengths are the longest allowed where the data's are not known."""
    longest = lengths or Lengths.allowed(config)
    plans = [
        _phase_plan(phase, config, models, places[phase], longest) for phase in planned(config)
    ]
    return MemoryPlan(plans, tuple(_notes(models)))


def planned(config: TrainingConfig) -> list[Phase]:
    """Return the phases of a run that need memory worth planning."""
    skipped = {Phase.PREPARATION}
    if config.sft.from_ is not None:
        skipped.add(Phase.SFT)
    if config.reward_model.from_ is not None:
        skipped.add(Phase.REWARD_MODEL)
    return [phase for phase in Phase if phase not in skipped]


def width_of(model: ModelConfig, *, is_gpu: bool) -> int:
    """Return the bytes of a weight, as `models.loading` chooses them."""
    if model.dtype is DType.AUTO:
        return BFLOAT16_BYTES if is_gpu else FLOAT32_BYTES
    return BFLOAT16_BYTES if model.dtype is DType.BFLOAT16 else FLOAT32_BYTES


def _phase_plan(
    phase: Phase, config: TrainingConfig, models: Models, place: Place, lengths: Lengths
) -> PhasePlan:
    networks = networks_of(phase, config, models)
    width = width_of(config.model, is_gpu=place.is_gpu)
    sharding = Sharding.of(config.deepspeed, ranks=place.ranks, width=width, is_gpu=place.is_gpu)
    runtime = runtime_bytes(place)
    moments = list(loading(networks, sharding, runtime))
    if trained := engines(networks):
        held = [settings_of(config, network) for network in trained]
        update = update_of(phase, config, lengths, place.ranks, is_gpu=place.is_gpu)
        moments += updating(networks, sharding, update, runtime, settings=held)
        if phase is Phase.PPO:
            moments += measuring(networks, sharding, update, runtime, settings=held)
    if phase in (Phase.PPO, Phase.EVALUATION):
        decoder = next(network for network in networks if network.name in ("policy", "base"))
        batch = decoding_of(phase, config, lengths, place.ranks)
        moments += decoding(networks, decoder, sharding, batch, runtime)
    host = sum(sharding.offloaded(network.trained) for network in trained)
    return PhasePlan(phase, place, sharding.stage, tuple(moments), host)


def settings_of(config: TrainingConfig, network: Network) -> ModelConfig:
    """Return how a trained network is held: the reward model's may have settings of its own."""
    if network.name == "policy":
        return config.model
    return config.reward_model.model or config.model


def _notes(models: Models) -> Iterator[str]:
    unknown = sorted({m.family for m in (models.policy, models.reward) if not is_known(m)})
    if unknown:
        yield f"activations of {', '.join(unknown)} are taken to be those of llama"
