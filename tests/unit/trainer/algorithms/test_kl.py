import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlhf_trainer.algorithms.kl import AdaptiveKLController, full_kl, token_kl
from rlhf_trainer.config.ppo import KLEstimator, PPOConfig

LOGP = torch.tensor([[0.5, 0.2, 0.1], [0.6, 0.2, 0.1]])
REF = torch.tensor([[0.4, 0.3, 0.0], [0.7, 0.1, 0.3]])
SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(2, 7))
SEEDS = st.integers(0, 2**31)


def slow_full_kl(policy: list[float], reference: list[float]) -> float:
    """Kullback and Leibler 1951, from probabilities."""
    return sum(p * math.log(p / q) for p, q in zip(policy, reference, strict=True))


def slow_token_kl(logp: float, ref_logp: float, estimator: KLEstimator) -> float:
    """J. Schulman, joschu.net/blog/kl-approx.html, from a ratio of probabilities."""
    r = math.exp(ref_logp) / math.exp(logp)
    if estimator is KLEstimator.K1:
        return -math.log(r)
    if estimator is KLEstimator.K2:
        return 0.5 * math.log(r) ** 2
    return (r - 1) - math.log(r)


@pytest.mark.parametrize(
    ("estimator", "expected"),
    [
        (KLEstimator.K1, [[0.1, -0.1, 0.1], [-0.1, 0.1, -0.2]]),
        (KLEstimator.K2, [[0.005, 0.005, 0.005], [0.005, 0.005, 0.02]]),
        # e^-.1 - 1 + .1, e^.1 - 1 - .1 and e^.2 - 1 - .2
        (
            KLEstimator.K3,
            [[0.0048374, 0.0051709, 0.0048374], [0.0051709, 0.0048374, 0.0214028]],
        ),
    ],
)
def test_estimators_golden(estimator: KLEstimator, expected: list[list[float]]) -> None:
    """k1 and k2 of github.com/huggingface/trl v0.11, tests/test_ppo_trainer.py, kl and mse; k3 of
    the same log-probabilities by hand.
    """
    found = token_kl(LOGP, REF, estimator)
    torch.testing.assert_close(found, torch.tensor(expected), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("policy", "reference", "expected"),
    [
        ([0.98, 0.01, 0.01], [0.01, 0.01, 0.98], 4.4474),
        ([0.01, 0.98, 0.01], [0.01, 0.01, 0.98], 4.4474),
        ([0.49, 0.02, 0.49], [0.01, 0.98, 0.01], 3.7361),
        ([0.49, 0.02, 0.49], [0.49, 0.02, 0.49], 0.0),
    ],
)
def test_full_kl_golden_is_what_k1_and_k3_estimate(
    policy: list[float], reference: list[float], expected: float
) -> None:
    """github.com/huggingface/trl v0.11, tests/test_ppo_trainer.py, full KL."""
    logp, ref_logp = torch.tensor(policy).log(), torch.tensor(reference).log()
    assert float(full_kl(logp, ref_logp)) == pytest.approx(expected, abs=1e-4)
    for estimator in (KLEstimator.K1, KLEstimator.K3):
        mean = float((torch.tensor(policy) * token_kl(logp, ref_logp, estimator)).sum())
        assert mean == pytest.approx(expected, abs=1e-4)


@given(SHAPES, SEEDS)
def test_full_kl_equals_slow_loop_and_k1_and_k3_are_unbiased(
    shape: tuple[int, int, int], seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits, ref_logits = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
    exact = full_kl(logits, ref_logits)
    logp, ref_logp = logits.log_softmax(-1), ref_logits.log_softmax(-1)
    for row in range(shape[0]):
        for t in range(shape[1]):
            expected = slow_full_kl(
                logits[row, t].softmax(-1).tolist(), ref_logits[row, t].softmax(-1).tolist()
            )
            assert float(exact[row, t]) == pytest.approx(expected, abs=1e-9)
    for estimator in (KLEstimator.K1, KLEstimator.K3):
        mean = (logp.exp() * token_kl(logp, ref_logp, estimator)).sum(-1)
        torch.testing.assert_close(mean, exact, rtol=0, atol=1e-9)


@given(SHAPES, SEEDS, st.sampled_from(KLEstimator))
def test_estimators_equal_slow_loop_and_keep_padding_to_itself(
    shape: tuple[int, int, int], seed: int, estimator: KLEstimator
) -> None:
    generator = torch.Generator().manual_seed(seed)
    logp, ref_logp = -3 * torch.rand(2, *shape[:2], generator=generator)
    mask = torch.rand(shape[:2], generator=generator) < 0.7
    ref_logp[~mask] = math.nan
    found = token_kl(logp, ref_logp, estimator)
    expected = [
        slow_token_kl(new, old, estimator)
        for new, old in zip(logp[mask].tolist(), ref_logp[mask].tolist(), strict=True)
    ]
    assert found[mask].tolist() == pytest.approx(expected, rel=1e-4, abs=1e-5)
    if estimator is not KLEstimator.K1:
        assert (found[mask] >= 0).all()


@pytest.mark.parametrize(
    ("kl_nats", "factor"),
    [(12.0, 1.01024), (3.0, 0.98976), (6.3, 1.00256), (6.0, 1.0)],
    ids=["above-clipped", "below-clipped", "slightly-above", "on-target"],
)
def test_adaptive_controller_golden(kl_nats: float, factor: float) -> None:
    """Ziegler et al. 2019, arXiv:1909.08593, section 2.2, by hand: 1 + clip(KL/6 - 1) 512/10000."""
    controller = AdaptiveKLController(target_nats=6, horizon_episodes=10_000)
    assert controller.next_coefficient(0.15, kl_nats, 512) == pytest.approx(0.15 * factor)


@given(
    st.floats(0.5, 20),
    st.lists(st.floats(-1, 40), min_size=1, max_size=8),
    st.integers(1, 512),
)
def test_adaptive_controller_equals_slow_loop_and_moves_towards_the_target(
    target: float, measured: list[float], num_episodes: int
) -> None:
    controller = AdaptiveKLController(target_nats=target, horizon_episodes=1000)
    coefficient = expected = 0.2
    for kl_nats in measured:
        error = sorted([-0.2, kl_nats / target - 1, 0.2])[1]
        expected = expected + expected * error * num_episodes / 1000
        after = controller.next_coefficient(coefficient, kl_nats, num_episodes)
        assert (after - coefficient) * (kl_nats - target) >= 0
        coefficient = after
    assert coefficient == pytest.approx(expected)


@given(st.integers(1, 2**20), st.floats(1e-6, 1), st.lists(st.floats(-100, 100), max_size=40))
def test_coefficient_stays_positive_under_every_accepted_configuration(
    batch: int, above: float, measured: list[float]
) -> None:
    horizon = 0.2 * batch * (1 + above)
    settings = PPOConfig.model_validate(
        {"rolloutBatchSize": batch, "minibatchSize": batch, "kl": {"horizonEpisodes": horizon}}
    )
    controller = AdaptiveKLController(settings.kl.target_nats, settings.kl.horizon_episodes)
    coefficient = 0.2
    for kl_nats in measured:
        coefficient = controller.next_coefficient(coefficient, kl_nats, batch)
        assert coefficient > 0
