"""The decode loop against a fresh forward pass of the same model."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from rounding import ROUNDING_NATS
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from rlhf_trainer.models.batch import collate, response_mask
from rlhf_trainer.models.policy import Policy, log_probs
from rlhf_trainer.rollout import sampler as sampler_module
from rlhf_trainer.rollout.protocol import Response, row_uniforms
from rlhf_trainer.rollout.sampler import TransformersSampler

EOS, VOCABULARY, MAXIMUM_TOKENS = 2, 48, 12
PROMPTS = [np.array([1, 5, 6]), np.array([1, 7]), np.array([1, 8, 9, 10, 11]), np.array([1])]


def llama() -> PreTrainedModel:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=64,
            initializer_range=0.3,
        )
    ).eval()


def gpt2() -> PreTrainedModel:
    torch.manual_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCABULARY,
            n_embd=32,
            n_layer=2,
            n_head=4,
            n_positions=64,
            initializer_range=0.3,
            bos_token_id=1,
            eos_token_id=EOS,
        )
    ).eval()


def draw(
    lm: PreTrainedModel,
    prompts: list[NDArray[np.int64]],
    *,
    rows: list[int] | None = None,
    temperature: float = 0.7,
    budget_tokens: int = 10_000,
) -> list[Response]:
    sampler = TransformersSampler(
        lm,
        eos_token=EOS,
        temperature=temperature,
        maximum_tokens=MAXIMUM_TOKENS,
        budget_tokens=budget_tokens,
    )
    uniforms = row_uniforms(0, 3, rows or range(len(prompts)), MAXIMUM_TOKENS)
    return sampler.sample(prompts, uniforms)


@pytest.mark.parametrize("make", [llama, gpt2])
def test_kept_log_probs_equal_a_fresh_right_padded_forward(make: type) -> None:
    lm, prompts = make(), PROMPTS * 8
    responses = draw(lm, prompts)
    assert len({len(response.tokens) for response in responses}) > 3  # rows left the batch early
    assert any(response.ended for response in responses)
    sequences = [np.concatenate([p, r.tokens]) for p, r in zip(prompts, responses, strict=True)]
    masks = [response_mask(len(p), len(s)) for p, s in zip(prompts, sequences, strict=True)]
    batch = collate(sequences, masks, torch.device("cpu"))
    fresh = batch.split(log_probs(Policy(lm, temperature=0.7), batch))
    for response, expected in zip(responses, fresh, strict=True):
        np.testing.assert_allclose(response.log_probs, expected, atol=ROUNDING_NATS)


@pytest.mark.parametrize("make", [llama, gpt2])
def test_a_response_does_not_depend_on_its_batch(make: type) -> None:
    """Rows are padded on the left, and positions count from each row's first token."""
    lm, prompts = make(), PROMPTS * 8
    together = draw(lm, prompts)
    in_small_batches = draw(lm, prompts, budget_tokens=40)
    alone = [draw(lm, [prompts[row]], rows=[row])[0] for row in range(6)]
    for one, other in [
        *zip(together, in_small_batches, strict=True),
        *zip(together, alone, strict=False),
    ]:
        assert one.tokens.tolist() == other.tokens.tolist()
        np.testing.assert_allclose(one.log_probs, other.log_probs, atol=ROUNDING_NATS)
        np.testing.assert_allclose(one.entropies, other.entropies, atol=ROUNDING_NATS)


@pytest.mark.parametrize("make", [llama, gpt2])
def test_tokens_at_padded_positions_never_matter(
    make: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm, drawn = make(), []
    for filler in (0, EOS, VOCABULARY - 1):
        monkeypatch.setattr(sampler_module, "PAD_FILLER", filler)
        drawn.append(draw(lm, PROMPTS))
    for responses in zip(*drawn, strict=True):
        first, *others = responses
        for other in others:
            assert other.tokens.tolist() == first.tokens.tolist()
            assert other.log_probs.tolist() == first.log_probs.tolist()


def test_responses_end_with_the_first_eos_or_at_the_limit() -> None:
    for response in draw(llama(), PROMPTS * 16, temperature=1.5):
        assert response.tokens.tolist().count(EOS) == int(response.ended)
        assert response.ended == (response.tokens[-1] == EOS)
        assert response.ended or len(response.tokens) == MAXIMUM_TOKENS


def test_entropy_is_that_of_the_sampling_distribution() -> None:
    lm = llama()
    response = draw(lm, [PROMPTS[0]], temperature=0.5)[0]
    with torch.no_grad():
        logits = lm(input_ids=torch.from_numpy(PROMPTS[0]).unsqueeze(0)).logits[0, -1] / 0.5
    probs = logits.softmax(-1).tolist()
    expected = -sum(p * np.log(p) for p in probs if p > 0)
    assert response.entropies[0] == pytest.approx(expected, abs=ROUNDING_NATS)


def test_samples_follow_the_distribution() -> None:
    """Pearson's chi-square of 4,000 first tokens against the model's own probabilities."""
    lm, count = llama(), 4000
    first = [r.tokens[0] for r in draw(lm, [PROMPTS[0]] * count, temperature=1.0)]
    with torch.no_grad():
        logits = lm(input_ids=torch.from_numpy(PROMPTS[0]).unsqueeze(0)).logits[0, -1]
    expected = logits.double().softmax(-1).numpy() * count
    common = expected > 5
    observed = np.bincount(first, minlength=VOCABULARY)
    statistic = float(((observed - expected)[common] ** 2 / expected[common]).sum())
    degrees = int(common.sum())
    assert statistic < degrees + 5 * np.sqrt(2 * degrees)
