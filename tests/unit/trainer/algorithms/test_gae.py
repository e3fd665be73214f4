import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlhf_trainer.algorithms.gae import (
    advantages_and_returns,
    explained_variance,
    token_rewards,
)

LENGTHS = st.lists(st.integers(0, 7), min_size=1, max_size=5)
SEEDS = st.integers(0, 2**31)
WIDTH = 8
PADS = pytest.mark.parametrize("pad", [math.nan, math.inf, 1e30], ids=["nan", "infinite", "huge"])


def prefix_mask(lengths: list[int], width: int) -> torch.Tensor:
    return torch.arange(width) < torch.tensor(lengths).unsqueeze(1)


def slow_advantages(
    rewards: list[float], values: list[float], discount: float, gae_lambda: float
) -> list[float]:
    """Equation 16 of arXiv:1506.02438 as written: a sum of discounted deltas for each token."""
    deltas = [
        reward + discount * (values[t + 1] if t + 1 < len(values) else 0.0) - values[t]
        for t, reward in enumerate(rewards)
    ]
    return [
        sum((discount * gae_lambda) ** k * delta for k, delta in enumerate(deltas[t:]))
        for t in range(len(deltas))
    ]


@pytest.mark.parametrize("pads", [0, 1, 3])
@pytest.mark.parametrize(
    ("discount", "gae_lambda", "values", "rewards", "advantages"),
    [
        pytest.param(
            *(1.0, 0.95, [0.5, 0.6, 0.8], [-0.02, 0.01, 0.99]),
            # deltas .08, .21, .19; .21 + .95 x .19 = .3905; .08 + .95 x .3905 = .450975
            [0.450975, 0.3905, 0.19],
            id="equation 16 by hand",
        ),
        pytest.param(
            *(0.5, 0.0, [0.0, 1.0, 2.0, 3.0], [0.0, 0.0, 1.0, 0.0]),
            # lambda 0 leaves the deltas of equation 17: 0 + .5 x 1 - 0, ..., 0 - 3
            [0.5, 0.0, 0.5, -3.0],
            id="equation 17 by hand",
        ),
        pytest.param(
            *(0.9, 0.95, [0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 0.0, 1.0]),
            # github.com/pytorch/torchtune, tests/torchtune/rlhf/test_rewards.py
            [0.9**3 * 0.95**2, 0.9**2 * 0.95, 0.9, 0.0],
            id="torchtune's vector",
        ),
    ],
)
def test_advantages_golden_whatever_stands_behind_the_response(
    discount: float,
    gae_lambda: float,
    values: list[float],
    rewards: list[float],
    advantages: list[float],
    pads: int,
) -> None:
    """Schulman et al. 2015, arXiv:1506.02438; and a vector that a project publishes."""
    found, returns = advantages_and_returns(
        torch.tensor([[*rewards, *[1e30] * pads]]),
        torch.tensor([[*values, *[math.nan] * pads]]),
        prefix_mask([len(values)], len(values) + pads),
        discount=discount,
        gae_lambda=gae_lambda,
    )
    assert found[0].tolist() == pytest.approx([*advantages, *[0.0] * pads], abs=1e-6)
    expected = [a + v for a, v in zip(advantages, values, strict=True)]
    assert returns[0].tolist() == pytest.approx([*expected, *[0.0] * pads], abs=1e-6)


@given(LENGTHS, st.floats(0.1, 1.0), st.floats(0.0, 1.0), SEEDS)
def test_advantages_equal_slow_loop_and_ignore_padding(
    lengths: list[int], discount: float, gae_lambda: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    mask = prefix_mask(lengths, WIDTH)
    rewards, values = torch.randn(2, len(lengths), WIDTH, generator=generator)
    rewards[~mask] = values[~mask] = math.nan
    advantages, returns = advantages_and_returns(
        rewards, values, mask, discount=discount, gae_lambda=gae_lambda
    )
    for row, length in enumerate(lengths):
        expected = slow_advantages(
            rewards[row, :length].tolist(), values[row, :length].tolist(), discount, gae_lambda
        )
        assert advantages[row, :length].tolist() == pytest.approx(expected, abs=1e-4)
        assert advantages[row, length:].tolist() == [0.0] * (WIDTH - length)
        expected_returns = [a + v for a, v in zip(expected, values[row].tolist(), strict=False)]
        assert returns[row, :length].tolist() == pytest.approx(expected_returns, abs=1e-4)
        assert returns[row, length:].tolist() == [0.0] * (WIDTH - length)


def test_token_rewards_golden() -> None:
    """github.com/pytorch/torchtune, tests/torchtune/rlhf/test_rewards.py: beta .5."""
    kl = torch.tensor([[-0.1] * 3, [-0.2] * 3, [-0.3] * 3])
    rewards = token_rewards(torch.tensor([1.0, 2.0, 3.0]), 0.5 * kl, prefix_mask([3, 3, 3], 3))
    expected = torch.tensor([[0.05, 0.05, 1.05], [0.1, 0.1, 2.1], [0.15, 0.15, 3.15]])
    torch.testing.assert_close(rewards, expected)


@PADS
def test_token_rewards_score_stands_at_last_response_token(pad: float) -> None:
    rewards = token_rewards(
        torch.tensor([2.0, 3.0]),
        torch.tensor([[0.1, 0.2, pad], [0.3, pad, pad]]),
        prefix_mask([2, 1], 3),
    )
    assert rewards[0].tolist() == pytest.approx([-0.1, 1.8, 0.0])
    assert rewards[1].tolist() == pytest.approx([2.7, 0.0, 0.0])


@given(LENGTHS, SEEDS)
def test_token_rewards_equal_slow_loop(lengths: list[int], seed: int) -> None:
    """InstructGPT, equation 2: the score, and beta times the log-ratio at each token."""
    generator = torch.Generator().manual_seed(seed)
    mask = prefix_mask(lengths, WIDTH)
    penalties = torch.randn(len(lengths), WIDTH, generator=generator)
    scores = torch.randn(len(lengths), generator=generator)
    penalties[~mask] = math.nan
    rewards = token_rewards(scores, penalties, mask)
    for row, length in enumerate(lengths):
        expected = [0.0] * WIDTH
        for t in range(length):
            expected[t] = -float(penalties[row, t])
            if t == length - 1:
                expected[t] += float(scores[row])
        assert rewards[row].tolist() == pytest.approx(expected, abs=1e-6)


def test_token_rewards_empty_response_gets_nothing() -> None:
    rewards = token_rewards(torch.tensor([2.0]), torch.ones(1, 2), prefix_mask([0], 2))
    assert rewards.abs().sum() == 0


@PADS
@pytest.mark.parametrize(
    ("values", "expected"),
    [([1.0, 2.0, 3.0], 1.0), ([2.0, 2.0, 2.0], 0.0), ([3.0, 2.0, 1.0], -3.0)],
    ids=["perfect", "constant", "opposite"],
)
def test_explained_variance(values: list[float], expected: float, pad: float) -> None:
    returns = torch.tensor([[1.0, 2.0, 3.0, pad]])
    found = explained_variance(torch.tensor([[*values, pad]]), returns, prefix_mask([3], 4))
    assert found == pytest.approx(expected)


@given(st.lists(st.integers(0, 7), min_size=1, max_size=4), SEEDS)
def test_explained_variance_equals_slow_loop(lengths: list[int], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    mask = prefix_mask(lengths, WIDTH)
    values, returns = torch.randn(2, len(lengths), WIDTH, generator=generator, dtype=torch.float64)
    kept = [float(value) for value in returns[mask]]
    errors = [a - b for a, b in zip(kept, values[mask].tolist(), strict=True)]

    def variance(numbers: list[float]) -> float:
        mean = sum(numbers) / len(numbers)
        return sum((number - mean) ** 2 for number in numbers) / len(numbers)

    expected = 1 - variance(errors) / variance(kept) if len(kept) > 1 else 0.0
    assert explained_variance(values, returns, mask) == pytest.approx(expected)
