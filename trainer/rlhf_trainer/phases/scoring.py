"""The reward model of a run, ready to score: by the policy's tokens, or by text."""

import torch
from torch import Tensor, nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from rlhf_trainer.data.bridge import Bridge
from rlhf_trainer.engine.ranks import Ranks
from rlhf_trainer.engine.training_engine import TrainingEngine
from rlhf_trainer.models.adapters import Role
from rlhf_trainer.models.architecture import HEAD
from rlhf_trainer.models.batch import SequenceBatch
from rlhf_trainer.models.loading import load_classifier
from rlhf_trainer.models.packing import packs
from rlhf_trainer.models.role_model import RoleModel
from rlhf_trainer.phases.context import PhaseContext
from rlhf_trainer.phases.shared_base import SharedBase
from rlhf_trainer.phases.text import load_tokenizer
from rlhf_trainer.rollout.scoring import ResponseScorer, Scorer, TextScorer, TokenScorer

PACKING = "ppo.packing"
"""The knob by which a reward model is packed, too."""


def load_scorer(context: PhaseContext, ranks: Ranks) -> ResponseScorer:
    """Return the run's reward model; Preparation has found out what it reads."""
    prepared, telemetry = context.prepared(), context.telemetry
    ppo = context.config.ppo
    budget_tokens = ppo.tokens_per_micro_batch
    folder, held = context.reward_model(), context.reward_model_config
    classifier = load_classifier(folder, held, ranks.device, merging=False)
    if not prepared.reward_model_reads_text:
        packing = packs(classifier, ppo.packing, PACKING)
        scorer = Scorer.of(classifier, budget_tokens, ranks, telemetry.heartbeat, packing=packing)
        return TokenScorer(scorer, prepared.special_tokens().eos)
    own: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
        folder, trust_remote_code=held.trust_remote_code
    )
    config = classifier.config.get_text_config()
    bridge = Bridge(
        load_tokenizer(prepared.tokenizer),
        own,
        maximum_positions=getattr(config, "max_position_embeddings", None),
        ends_with_eos=isinstance(getattr(classifier, HEAD, None), nn.Linear),
    )
    return TextScorer(classifier, bridge, budget_tokens, ranks, telemetry.heartbeat, telemetry.note)


def scorer_on(
    base: SharedBase,
    model: RoleModel | TrainingEngine,
    context: PhaseContext,
    ranks: Ranks,
    *,
    packing: bool,
) -> ResponseScorer:
    """Return the run's reward model, as the adapter on `base` if it is one, through `model`.

    packing: whether the base's sequences are packed.
    """
    if base.normalisation is None:
        return load_scorer(context, ranks)

    @torch.no_grad()
    def scores(batch: SequenceBatch) -> Tensor:
        scores_B: Tensor = model(
            Role.REWARD, batch.tokens_BT, batch.last_B, batch.target_N, batch.positions_BT
        )[0]
        return scores_B

    budget, heartbeat = context.config.ppo.tokens_per_micro_batch, context.telemetry.heartbeat
    scorer = Scorer(scores, base.lm, base.normalisation, budget, ranks, heartbeat, packing=packing)
    return TokenScorer(scorer, context.prepared().special_tokens().eos)
