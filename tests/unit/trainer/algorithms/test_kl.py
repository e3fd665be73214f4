import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlhf_trainer.algorithms.kl import AdaptiveKLController, full_kl, token_kl
from rlhf_trainer.config.ppo import KLEstimator

LOGP = torch.tensor([[0.5, 0.2, 0.1], [0.6, 0.2, 0.1]])
REF = torch.tensor([[0.4, 0.3, 0.0], [0.7, 0.1, 0.3]])


def test_k1_is_the_log_ratio() -> None:
    expected = torch.tensor([[0.1, -0.1, 0.1], [-0.1, 0.1, -0.2]])
    torch.testing.assert_close(token_kl(LOGP, REF, KLEstimator.K1), expected)


@given(st.integers(0, 2**31))
def test_estimators_are_unbiased_or_not_negative_as_their_definitions_say(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits, ref_logits = torch.randn(2, 1, 6, generator=generator, dtype=torch.float64)
    logp, ref_logp = logits.log_softmax(-1)[0], ref_logits.log_softmax(-1)[0]
    exact = float(full_kl(logits, ref_logits))
    for estimator in (KLEstimator.K1, KLEstimator.K3):
        per_token = token_kl(logp, ref_logp, estimator)
        assert float((logp.exp() * per_token).sum()) == pytest.approx(exact, abs=1e-9)
    assert (token_kl(logp, ref_logp, KLEstimator.K3) >= 0).all()
    torch.testing.assert_close(token_kl(logp, ref_logp, KLEstimator.K2), (logp - ref_logp) ** 2 / 2)


def test_full_kl_hand_computed() -> None:
    policy = torch.tensor([[0.98, 0.01, 0.01]]).log()
    reference = torch.tensor([[0.01, 0.01, 0.98]]).log()
    assert float(full_kl(policy, reference)) == pytest.approx(4.4474, abs=1e-4)


@pytest.mark.parametrize(
    ("kl_nats", "factor"),
    [(12.0, 1.01024), (3.0, 0.98976), (6.3, 1.00256), (6.0, 1.0)],
    ids=["above-clipped", "below-clipped", "slightly-above", "on-target"],
)
def test_adaptive_controller_hand_computed(kl_nats: float, factor: float) -> None:
    controller = AdaptiveKLController(target_nats=6, horizon_episodes=10_000)
    assert controller.next_coefficient(0.15, kl_nats, 512) == pytest.approx(0.15 * factor)
