import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlhf_trainer.algorithms.losses import (
    bradley_terry,
    cross_entropy,
    policy_loss,
    value_loss,
)


@pytest.mark.parametrize(
    ("log_ratio", "advantage", "expected", "gradient"),
    [
        (0.0, 2.0, -2.0, -2.0),
        (math.log(1.5), 2.0, -2.4, 0.0),
        (math.log(1.5), -2.0, 3.0, 3.0),
        (math.log(0.5), 2.0, -1.0, -1.0),
        (math.log(0.5), -2.0, 1.6, 0.0),
    ],
    ids=["ratio-1", "up-clipped", "up-against", "down-against", "down-clipped"],
)
def test_policy_loss_clips_on_both_sides(
    log_ratio: float, advantage: float, expected: float, gradient: float
) -> None:
    logp = torch.tensor([log_ratio], requires_grad=True)
    result = policy_loss(
        logp, torch.zeros(1), torch.tensor([advantage]), clip_range=0.2, num_tokens=1
    )
    result.loss.backward()
    assert result.loss.item() == pytest.approx(expected)
    assert logp.grad is not None
    assert logp.grad.item() == pytest.approx(gradient)
    assert int(result.clipped_tokens) == int(log_ratio != 0)


@given(st.integers(1, 12), st.integers(0, 2**31))
def test_policy_loss_equals_slow_loop(count: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logp, old, advantage = torch.randn(3, count, generator=generator)
    expected, approx_kl = 0.0, 0.0
    for new, before, gain in zip(logp.tolist(), old.tolist(), advantage.tolist(), strict=True):
        ratio = math.exp(new - before)
        expected -= min(ratio * gain, min(max(ratio, 0.8), 1.2) * gain)
        approx_kl += (ratio - 1) - (new - before)
    result = policy_loss(logp, old, advantage, clip_range=0.2, num_tokens=7)
    assert result.loss.item() == pytest.approx(expected / 7, rel=1e-4, abs=1e-4)
    assert float(result.approx_kl_sum_nats) == pytest.approx(approx_kl, rel=1e-4, abs=1e-4)


def test_policy_loss_before_any_update_has_ratio_one() -> None:
    logp = torch.randn(5)
    result = policy_loss(logp, logp, torch.randn(5), clip_range=0.2, num_tokens=5)
    assert int(result.clipped_tokens) == 0
    assert float(result.approx_kl_sum_nats) == 0


@pytest.mark.parametrize(
    ("value", "old", "target", "expected"),
    [(1.0, 1.0, 3.0, 2.0), (2.0, 1.0, 3.0, 1.62), (0.0, 1.0, 1.0, 0.5)],
    ids=["unmoved", "clipped-is-worse", "unclipped-is-worse"],
)
def test_value_loss_takes_the_larger_error(
    value: float, old: float, target: float, expected: float
) -> None:
    loss = value_loss(
        torch.tensor([value]),
        torch.tensor([old]),
        torch.tensor([target]),
        clip_range=0.2,
        num_tokens=1,
    )
    assert loss.item() == pytest.approx(expected)


def test_bradley_terry_hand_computed() -> None:
    loss = bradley_terry(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 2.0]), num_pairs=2)
    expected = (math.log1p(math.exp(-1.0)) + math.log1p(math.exp(2.0))) / 2
    assert loss.item() == pytest.approx(expected)


def test_cross_entropy_of_nothing_is_zero_with_a_gradient() -> None:
    logp = torch.zeros(0, requires_grad=True)
    loss = cross_entropy(logp, num_tokens=3)
    loss.backward()
    assert loss.item() == 0
    assert logp.grad is not None


def test_cross_entropy_is_per_token_of_the_whole_update() -> None:
    assert cross_entropy(torch.tensor([-1.0, -2.0]), num_tokens=6).item() == pytest.approx(0.5)
