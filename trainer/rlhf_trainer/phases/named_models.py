"""The models that a manifest names: what the policy and the reward model are, or start from."""

from pathlib import Path
from typing import NamedTuple

from rlhf_trainer.config import TrainingConfig
from rlhf_trainer.config.model import ModelConfig
from rlhf_trainer.config.sft import ModelFrom
from rlhf_trainer.phases.context import source_in
from rlhf_trainer.phases.model_checks import Model


class NamedModels(NamedTuple):
    """The models of a run before it begins."""

    base: Model
    policy: Model
    """What the policy is before PPO, or starts SFT from."""
    reward: Model
    """What the reward model is, or starts from."""


def named_models(config: TrainingConfig, data_root: Path) -> NamedModels:
    """Return the models that a configuration names; none is opened."""
    base = Model(source_in(data_root, config.model.source), config.model, "spec.model.source")
    policy = base
    if config.sft.from_ is not None:
        policy = _existing(config.sft.from_, config.model, data_root, "spec.sft.from.path")
    return NamedModels(base, policy, _reward(config, policy, data_root))


def _reward(config: TrainingConfig, policy: Model, data_root: Path) -> Model:
    settings = config.reward_model
    if settings.from_ is not None:
        held = settings.model or config.model
        return _existing(settings.from_, held, data_root, "spec.rewardModel.from.path")
    if settings.model is None:
        return policy
    source = source_in(data_root, settings.model.source)
    return Model(source, settings.model, "spec.rewardModel.model.source")


def _existing(model: ModelFrom, held: ModelConfig, data_root: Path, place: str) -> Model:
    named = held.model_copy(update={"source": model.path})
    return Model(str(data_root / model.path), named, place)
