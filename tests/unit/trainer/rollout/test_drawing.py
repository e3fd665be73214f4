"""Drawing by blocks against the cumulative distribution itself, in float64."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rlhf_trainer.rollout.drawing import BLOCK_TOKENS, draw

VOCABULARIES = (1, 7, BLOCK_TOKENS, BLOCK_TOKENS + 1, 3 * BLOCK_TOKENS, 3 * BLOCK_TOKENS - 5)
ROUNDING = 1e-6
"""Share of the distribution by which a draw may fall on the other side of a token's end."""


def probabilities(logits: torch.Tensor, temperature: float) -> np.ndarray:
    return (logits.double() / temperature).softmax(-1).numpy()


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("vocabulary", VOCABULARIES)
def test_the_token_is_the_one_at_the_uniform(vocabulary: int, temperature: float) -> None:
    generator = torch.Generator().manual_seed(vocabulary)
    logits = 3 * torch.randn(200, vocabulary, generator=generator)
    uniforms = torch.rand(200, dtype=torch.float64, generator=generator)
    drawn = draw(logits.clone(), uniforms, temperature=temperature)
    rows = np.arange(200)
    probs = probabilities(logits, temperature)
    ends = probs.cumsum(-1)
    token = drawn.token_B.numpy()
    assert (ends[rows, token] > uniforms.numpy() - ROUNDING).all()
    assert ((ends - probs)[rows, token] <= uniforms.numpy() + ROUNDING).all()
    np.testing.assert_allclose(drawn.logp_B, np.log(probs[rows, token]), atol=1e-5)
    entropies = [-sum(p * math.log(p) for p in row if p > 0) for row in probs]
    np.testing.assert_allclose(drawn.entropy_B, entropies, atol=1e-5)


@given(st.integers(1, 2 * BLOCK_TOKENS + 3), st.integers(0, 2**31))
@settings(deadline=None, max_examples=40)
def test_tokens_without_probability_are_never_drawn(vocabulary: int, seed: int) -> None:
    """Also not by the smallest and the largest draw."""
    generator = torch.Generator().manual_seed(seed)
    possible = torch.rand(vocabulary, generator=generator) < 0.1
    possible[int(torch.randint(vocabulary, (1,), generator=generator))] = True
    logits = torch.where(possible, 0.0, -torch.inf).expand(3, -1)
    uniforms = torch.tensor([0.0, 0.5, 1 - 2**-53], dtype=torch.float64)
    drawn = draw(logits, uniforms, temperature=1.0)
    assert possible[drawn.token_B].all()
    first, _, last = drawn.token_B.tolist()
    places = possible.nonzero().squeeze(1).tolist()
    assert (first, last) == (places[0], places[-1])
    expected = math.log(len(places))
    assert drawn.entropy_B.tolist() == pytest.approx([expected] * 3, abs=1e-5)
    assert drawn.logp_B.tolist() == pytest.approx([-expected] * 3, abs=1e-5)


def test_logits_of_half_precision_are_summed_in_full() -> None:
    logits = torch.zeros(1, 3 * BLOCK_TOKENS, dtype=torch.bfloat16)
    drawn = draw(logits, torch.tensor([0.5], dtype=torch.float64), temperature=1.0)
    assert drawn.token_B.tolist() == [3 * BLOCK_TOKENS // 2]
    assert drawn.entropy_B.tolist() == pytest.approx([math.log(3 * BLOCK_TOKENS)], abs=1e-6)


def test_the_models_logits_stay_as_they_are() -> None:
    logits = torch.randn(2, 9, generator=torch.Generator().manual_seed(0))
    before = logits.clone()
    draw(logits, torch.tensor([0.1, 0.9], dtype=torch.float64), temperature=1.0)
    assert torch.equal(logits, before)


@pytest.mark.parametrize("uniform", [0.0, 0.5])
def test_a_block_without_probability_is_passed_over(uniform: float) -> None:
    logits = torch.zeros(1, 4 * BLOCK_TOKENS)
    logits[:, :BLOCK_TOKENS] = logits[:, 2 * BLOCK_TOKENS : 3 * BLOCK_TOKENS] = -torch.inf
    drawn = draw(logits, torch.tensor([uniform], dtype=torch.float64), temperature=1.0)
    expected = BLOCK_TOKENS if uniform == 0 else 3 * BLOCK_TOKENS
    assert drawn.token_B.tolist() == [expected]
    assert drawn.logp_B.tolist() == pytest.approx([-math.log(2 * BLOCK_TOKENS)], abs=1e-5)
