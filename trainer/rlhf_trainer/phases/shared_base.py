"""One copy of a model, and the adapters of an RLHF run on it: how the earlier phases left them."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from rlhf_trainer.data.adapter_folders import base_of, is_adapter
from rlhf_trainer.models.adapters import Role, load_adapter
from rlhf_trainer.models.architecture import HEAD
from rlhf_trainer.models.loading import load_causal_lm
from rlhf_trainer.models.scalar_head import ScoreNormalisation
from rlhf_trainer.phases.context import PhaseContext


@dataclass(frozen=True)
class SharedBase:
    """A language model with the adapters of reference and reward model."""

    lm: PreTrainedModel
    score_weight: Tensor | None
    """The reward model's head; None where the reward model has a base of its own."""
    normalisation: ScoreNormalisation | None


def base_model(context: PhaseContext) -> str:
    """Return the model, a folder or hub id, that the run's adapters belong to.

    An SFT model that is whole is itself the base.
    """
    sft = context.sft_model()
    return context.source(context.config.model.source) if is_adapter(sft) else str(sft)


def load_shared_base(context: PhaseContext, device: torch.device) -> SharedBase:
    """Return the base with the adapters that are there for reference and reward model."""
    lm = load_causal_lm(base_model(context), context.config.model, device)
    lm.requires_grad_(requires_grad=False)
    sft, reward = context.sft_model(), context.reward_model()
    if is_adapter(sft):
        load_adapter(lm, sft, Role.REFERENCE)
    if not _is_on_base(context, reward):
        return SharedBase(lm, None, None)
    heads = load_adapter(lm, reward, Role.REWARD)
    return SharedBase(lm, heads[f"{HEAD}.weight"], ScoreNormalisation.read(reward))


def _is_on_base(context: PhaseContext, reward: Path) -> bool:
    if not is_adapter(reward):
        return False
    if context.config.reward_model.from_ is None:
        return context.config.reward_model.model is None
    base = base_model(context)
    return context.source(base_of(reward)) == base
