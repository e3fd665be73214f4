"""One copy of a model, and the adapters of an RLHF run on it: how the earlier phases left them."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedModel

from rlhf_trainer.engine.ranks import Ranks
from rlhf_trainer.engine.training_engine import TrainingEngine
from rlhf_trainer.models.adapters import HEAD, Role, base_of, is_adapter, load_adapter
from rlhf_trainer.models.batch import SequenceBatch
from rlhf_trainer.models.loading import load_causal_lm, load_classifier
from rlhf_trainer.models.packing import require_packing
from rlhf_trainer.models.role_model import RoleModel
from rlhf_trainer.models.scalar_head import ScoreNormalisation
from rlhf_trainer.phases.context import PhaseContext
from rlhf_trainer.rollout.scoring import Scorer


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


def base_scorer(
    context: PhaseContext, ranks: Ranks, base: SharedBase, model: RoleModel | TrainingEngine
) -> Scorer:
    """Return a scorer with the adapter on `base`, through `model`; else one of its own."""
    if base.normalisation is None:
        return own_scorer(context, ranks)

    @torch.no_grad()
    def scores(batch: SequenceBatch) -> Tensor:
        scores_B: Tensor = model(
            Role.REWARD, batch.tokens_BT, batch.last_B, batch.target_N, batch.positions_BT
        )[0]
        return scores_B

    ppo, heartbeat = context.config.ppo, context.telemetry.heartbeat
    budget = ppo.tokens_per_micro_batch
    return Scorer(scores, base.normalisation, budget, ranks, heartbeat, packing=ppo.packing)


def own_scorer(context: PhaseContext, ranks: Ranks) -> Scorer:
    """Return a scorer with the reward model in memory of its own."""
    ppo = context.config.ppo
    classifier = load_classifier(context.reward_model(), context.reward_model_config, ranks.device)
    if ppo.packing:
        require_packing(classifier, "ppo.packing")
    return Scorer.of(
        classifier,
        ppo.tokens_per_micro_batch,
        ranks,
        context.telemetry.heartbeat,
        packing=ppo.packing,
    )


def _is_on_base(context: PhaseContext, reward: Path) -> bool:
    if not is_adapter(reward):
        return False
    if context.config.reward_model.from_ is None:
        return context.config.reward_model.model is None
    sft = context.sft_model()
    bases = {base_model(context)} | ({base_of(sft)} if is_adapter(sft) else set())
    return base_of(reward) in bases
