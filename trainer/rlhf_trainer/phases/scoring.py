"""The reward model of a run, ready to score: by the policy's tokens, or by text."""

from torch import nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from rlhf_trainer.data.bridge import Bridge
from rlhf_trainer.engine.ranks import Ranks
from rlhf_trainer.models.architecture import HEAD
from rlhf_trainer.models.loading import load_classifier
from rlhf_trainer.models.scalar_head import ScalarHead
from rlhf_trainer.phases.context import PhaseContext
from rlhf_trainer.phases.text import load_tokenizer
from rlhf_trainer.rollout.scoring import ResponseScorer, Scorer, TextScorer, TokenScorer


def load_scorer(context: PhaseContext, ranks: Ranks) -> ResponseScorer:
    """Return the run's reward model; Preparation has found out what it reads."""
    prepared, telemetry = context.prepared(), context.telemetry
    budget_tokens = context.config.ppo.tokens_per_micro_batch
    folder, held = context.reward_model(), context.reward_model_config
    classifier = load_classifier(folder, held, ranks.device)
    if not prepared.reward_model_reads_text:
        scorer = Scorer(ScalarHead(classifier), budget_tokens, ranks, telemetry.heartbeat)
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
