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

COUNTS, SEEDS = st.integers(0, 12), st.integers(0, 2**31)
CLIP_RANGES, DENOMINATORS = st.floats(0.05, 0.5), st.integers(1, 40)


def random_rows(count: int, seed: int, number: int) -> list[list[float]]:
    generator = torch.Generator().manual_seed(seed)
    rows: list[list[float]] = torch.randn(number, count, generator=generator).tolist()
    return rows


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
    """Schulman et al. 2017, arXiv:1707.06347, equation 7 and figure 1, by hand."""
    logp = torch.tensor([log_ratio], requires_grad=True)
    result = policy_loss(
        logp, torch.zeros(1), torch.tensor([advantage]), clip_range=0.2, num_tokens=1
    )
    result.loss.backward()
    assert result.loss.item() == pytest.approx(expected)
    assert logp.grad is not None
    assert logp.grad.item() == pytest.approx(gradient)
    assert int(result.clipped_tokens) == int(log_ratio != 0)


@pytest.mark.parametrize(
    ("shift", "expected", "clipped"),
    [(1.0, -1.2, 3), (-1.0, -math.exp(-1), 3), (0.1, -math.exp(0.1), 0)],
    ids=["high", "low", "not-clipped"],
)
def test_policy_loss_golden(shift: float, expected: float, clipped: int) -> None:
    """Inputs of github.com/pytorch/torchtune, tests/torchtune/rlhf/loss/test_ppo_loss.py; the loss
    of "low" by hand: with a gain of 1 a small ratio is never clipped.
    """
    old = torch.tensor([0.5, 0.8, 1.2])
    result = policy_loss(old + shift, old, torch.ones(3), clip_range=0.2, num_tokens=3)
    assert result.loss.item() == pytest.approx(expected)
    assert int(result.clipped_tokens) == clipped


def test_approximate_kl_and_clip_fraction_hand_computed() -> None:
    """k3 of ratios 1, 1.1 and 1.5: 0, .1 - log 1.1 and .5 - log 1.5; one of three is clipped
    (Huang et al. 2022, "The 37 implementation details of PPO", debug variables).
    """
    ratios = torch.tensor([1.0, 1.1, 1.5])
    result = policy_loss(ratios.log(), torch.zeros(3), torch.ones(3), clip_range=0.2, num_tokens=3)
    expected = 0.1 - math.log(1.1) + 0.5 - math.log(1.5)
    assert float(result.approx_kl_sum_nats) == pytest.approx(expected, abs=1e-6)
    assert int(result.clipped_tokens) == 1


@given(COUNTS, SEEDS, CLIP_RANGES, DENOMINATORS)
def test_policy_loss_equals_slow_loop(
    count: int, seed: int, clip_range: float, num_tokens: int
) -> None:
    logp, old, advantage = random_rows(count, seed, 3)
    total, approx_kl, clipped, gradient = 0.0, 0.0, 0, []
    for new, before, gain in zip(logp, old, advantage, strict=True):
        ratio = math.exp(new - before)
        bounded = min(max(ratio, 1 - clip_range), 1 + clip_range)
        total -= min(ratio * gain, bounded * gain)
        approx_kl += (ratio - 1) - (new - before)
        clipped += ratio != bounded
        active = ratio * gain <= bounded * gain
        gradient.append(-ratio * gain / num_tokens if active else 0.0)
    leaf = torch.tensor(logp, requires_grad=True)
    result = policy_loss(
        leaf,
        torch.tensor(old),
        torch.tensor(advantage),
        clip_range=clip_range,
        num_tokens=num_tokens,
    )
    result.loss.backward()
    assert result.loss.item() == pytest.approx(total / num_tokens, rel=1e-4, abs=1e-4)
    assert float(result.approx_kl_sum_nats) == pytest.approx(approx_kl, rel=1e-4, abs=1e-4)
    assert int(result.clipped_tokens) == clipped
    assert leaf.grad is not None
    assert leaf.grad.tolist() == pytest.approx(gradient, rel=1e-4, abs=1e-5)


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
    """OpenAI's lm-human-preferences, train_policy.py, loss, by hand: .5 x 1.8^2 = 1.62."""
    loss = value_loss(
        torch.tensor([value]),
        torch.tensor([old]),
        torch.tensor([target]),
        clip_range=0.2,
        num_tokens=1,
    )
    assert loss.item() == pytest.approx(expected)


@given(COUNTS, SEEDS, CLIP_RANGES, DENOMINATORS)
def test_value_loss_equals_slow_loop(
    count: int, seed: int, clip_range: float, num_tokens: int
) -> None:
    values, old, returns = random_rows(count, seed, 3)
    total = 0.0
    for value, before, target in zip(values, old, returns, strict=True):
        bounded = min(max(value, before - clip_range), before + clip_range)
        total += 0.5 * max((value - target) ** 2, (bounded - target) ** 2)
    loss = value_loss(
        *map(torch.tensor, (values, old, returns)), clip_range=clip_range, num_tokens=num_tokens
    )
    assert loss.item() == pytest.approx(total / num_tokens, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(
    ("margin", "expected"),
    [(0.0, 0.693147), (1.0, 0.313262), (-2.0, 2.126928), (-200.0, 200.0), (200.0, 0.0)],
    ids=["undecided", "right", "wrong", "far-wrong", "far-right"],
)
def test_bradley_terry_golden(margin: float, expected: float) -> None:
    """InstructGPT, arXiv:2203.02155, equation 1 with K = 2, by hand: log 2 if nothing is known."""
    loss = bradley_terry(torch.tensor([margin]), torch.zeros(1), num_pairs=1)
    assert loss.item() == pytest.approx(expected, abs=1e-6)


@given(COUNTS, SEEDS, DENOMINATORS)
def test_bradley_terry_equals_slow_loop(count: int, seed: int, num_pairs: int) -> None:
    chosen, rejected = random_rows(count, seed, 2)
    total = sum(
        -math.log(math.exp(win) / (math.exp(win) + math.exp(lose)))
        for win, lose in zip(chosen, rejected, strict=True)
    )
    loss = bradley_terry(torch.tensor(chosen), torch.tensor(rejected), num_pairs=num_pairs)
    assert loss.item() == pytest.approx(total / num_pairs, rel=1e-4, abs=1e-5)


def test_cross_entropy_of_nothing_is_zero_with_a_gradient() -> None:
    logp = torch.zeros(0, requires_grad=True)
    loss = cross_entropy(logp, num_tokens=3)
    loss.backward()
    assert loss.item() == 0
    assert logp.grad is not None


def test_cross_entropy_is_per_token_of_the_whole_update() -> None:
    assert cross_entropy(torch.tensor([-1.0, -2.0]), num_tokens=6).item() == pytest.approx(0.5)
