"""What a response scores: read at its last token, by a row alone as in any batch."""

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForSequenceClassification

from rlhf_trainer.engine.ranks import Ranks
from rlhf_trainer.models import batch as batch_module
from rlhf_trainer.models.scalar_head import ScoreNormalisation
from rlhf_trainer.rollout.experience import Sampled
from rlhf_trainer.rollout.protocol import Response
from rlhf_trainer.rollout.scoring import Scorer

EOS = 2
PROMPTS = [np.array([1, 5]), np.array([1, 6, 7, 8]), np.array([1])]
RESPONSES = [np.array([9, 10, EOS]), np.array([11]), np.array([12, 13, 14, 15, 3, EOS])]


def sampled() -> Sampled:
    """Three responses; the limit has cut the second."""
    zeros = [np.zeros(len(tokens), np.float32) for tokens in RESPONSES]
    responses = [
        Response(tokens, zero, zero, ended=tokens[-1] == EOS)
        for tokens, zero in zip(RESPONSES, zeros, strict=True)
    ]
    return Sampled(PROMPTS, responses)


def classifier() -> LlamaForSequenceClassification:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=16,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_labels=1,
        initializer_range=0.3,
        attention_dropout=0.5,
    )
    return LlamaForSequenceClassification(config)


def scorer(model: LlamaForSequenceClassification, budget_tokens: int = 1000) -> Scorer:
    ranks = Ranks(rank=0, world_size=1, device=torch.device("cpu"))
    return Scorer.of(model, budget_tokens, ranks, lambda: None)


def test_reward_model_reads_whole_responses_that_end() -> None:
    """A cut response is read at an end of its own; no end is put behind another."""
    read = [sequence.tolist() for sequence in sampled().scorable(EOS)]
    assert read == [[1, 5, 9, 10, EOS], [1, 6, 7, 8, 11, EOS], [1, 12, 13, 14, 15, 3, EOS]]


@pytest.mark.parametrize("budget_tokens", [1, 1000], ids=["alone", "together"])
def test_scores_are_plain_transformers_at_the_last_token(budget_tokens: int) -> None:
    model, sequences = classifier().train(), sampled().scorable(EOS)
    ScoreNormalisation(mean=0.5, std=2.0).store(model)
    found = scorer(model, budget_tokens).normalised(sequences)
    expected = []
    for sequence in sequences:
        with torch.no_grad():
            logits = model.eval()(input_ids=torch.from_numpy(sequence).unsqueeze(0)).logits
        expected.append((float(logits[0, 0]) - 0.5) / 2.0)
    assert found.tolist() == pytest.approx(expected, abs=1e-5)


def test_padding_token_never_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = []
    for filler in (0, EOS, 15):
        monkeypatch.setattr(batch_module, "PAD_FILLER", filler)
        scores.append(scorer(classifier()).raw(sampled().scorable(EOS)).tolist())
    assert scores[0] == scores[1] == scores[2]
    assert len(set(scores[0])) == len(RESPONSES)
