import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlhf_trainer.algorithms.gae import (
    advantages_and_returns,
    explained_variance,
    token_rewards,
)


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


def test_advantages_hand_computed_lambda_95() -> None:
    advantages, returns = advantages_and_returns(
        torch.tensor([[-0.02, 0.01, 0.99]]),
        torch.tensor([[0.5, 0.6, 0.8]]),
        torch.ones(1, 3, dtype=torch.bool),
        discount=1.0,
        gae_lambda=0.95,
    )
    assert advantages[0].tolist() == pytest.approx([0.450975, 0.3905, 0.19])
    assert returns[0].tolist() == pytest.approx([0.950975, 0.9905, 0.99])


def test_advantages_lambda_zero_are_temporal_differences() -> None:
    advantages, _ = advantages_and_returns(
        torch.tensor([[0.0, 0.0, 1.0, 0.0]]),
        torch.tensor([[0.0, 1.0, 2.0, 3.0]]),
        torch.ones(1, 4, dtype=torch.bool),
        discount=0.5,
        gae_lambda=0.0,
    )
    assert advantages[0].tolist() == pytest.approx([0.5, 0.0, 0.5, -3.0])


@given(
    st.lists(st.integers(0, 7), min_size=1, max_size=5),
    st.floats(0.1, 1.0),
    st.floats(0.0, 1.0),
    st.integers(0, 2**31),
)
def test_advantages_equal_slow_loop_and_ignore_padding(
    lengths: list[int], discount: float, gae_lambda: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    width = 8
    mask = prefix_mask(lengths, width)
    rewards = torch.where(mask, torch.randn(len(lengths), width, generator=generator), 0.0)
    values = torch.randn(len(lengths), width, generator=generator)
    values[~mask] = float("nan")
    advantages, returns = advantages_and_returns(
        rewards, values, mask, discount=discount, gae_lambda=gae_lambda
    )
    for row, length in enumerate(lengths):
        expected = slow_advantages(
            rewards[row, :length].tolist(), values[row, :length].tolist(), discount, gae_lambda
        )
        assert advantages[row, :length].tolist() == pytest.approx(expected, abs=1e-4)
        assert advantages[row, length:].abs().sum() == 0
        expected_returns = [a + v for a, v in zip(expected, values[row].tolist(), strict=False)]
        assert returns[row, :length].tolist() == pytest.approx(expected_returns, abs=1e-4)


def test_token_rewards_score_stands_at_last_response_token() -> None:
    rewards = token_rewards(
        torch.tensor([2.0, 3.0]),
        torch.tensor([[0.1, 0.2, 9.0], [0.3, 9.0, 9.0]]),
        prefix_mask([2, 1], 3),
    )
    assert rewards[0].tolist() == pytest.approx([-0.1, 1.8, 0.0])
    assert rewards[1].tolist() == pytest.approx([2.7, 0.0, 0.0])


def test_token_rewards_empty_response_gets_nothing() -> None:
    rewards = token_rewards(torch.tensor([2.0]), torch.ones(1, 2), prefix_mask([0], 2))
    assert rewards.abs().sum() == 0


@pytest.mark.parametrize(
    ("values", "expected"),
    [([1.0, 2.0, 3.0], 1.0), ([2.0, 2.0, 2.0], 0.0), ([3.0, 2.0, 1.0], -3.0)],
    ids=["perfect", "constant", "opposite"],
)
def test_explained_variance(values: list[float], expected: float) -> None:
    mask = torch.ones(1, 3, dtype=torch.bool)
    returns = torch.tensor([[1.0, 2.0, 3.0]])
    assert explained_variance(torch.tensor([values]), returns, mask) == pytest.approx(expected)
