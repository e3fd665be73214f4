"""KL between policy and reference: estimators per token, and the controller of its coefficient."""

from dataclasses import dataclass
from typing import assert_never

import torch
from torch import Tensor

from rlhf_trainer.config.ppo import MAXIMUM_KL_ERROR, KLEstimator


def token_kl(logp_BT: Tensor, ref_logp_BT: Tensor, estimator: KLEstimator) -> Tensor:
    """Estimate KL(policy, reference) at each sampled token, in nats; same shape, with gradient.

    J. Schulman, "Approximating KL divergence" (2020), with r = reference / policy: k1 = -log r,
    k2 = (log r)^2 / 2, k3 = r - 1 - log r.
    """
    log_r_BT = ref_logp_BT - logp_BT
    match estimator:
        case KLEstimator.K1:
            return -log_r_BT
        case KLEstimator.K2:
            return log_r_BT**2 / 2
        case KLEstimator.K3:
            return torch.expm1(log_r_BT) - log_r_BT
        case _:
            assert_never(estimator)


def full_kl(logits_BTV: Tensor, ref_logits_BTV: Tensor) -> Tensor:
    """Return the exact KL(policy, reference) at each position, in nats, [B, T]."""
    logp_BTV, ref_logp_BTV = logits_BTV.log_softmax(-1), ref_logits_BTV.log_softmax(-1)
    return (logp_BTV.exp() * (logp_BTV - ref_logp_BTV)).sum(-1)


@dataclass(frozen=True)
class AdaptiveKLController:
    """Moves the KL coefficient towards a target: arXiv:1909.08593, section 2.2."""

    target_nats: float
    horizon_episodes: float

    def next_coefficient(self, coefficient: float, kl_nats: float, num_episodes: int) -> float:
        """Return the coefficient after `num_episodes` episodes of mean KL `kl_nats`.

        It stays positive where the horizon is more than 0.2 times the episodes.
        """
        error = min(max(kl_nats / self.target_nats - 1, -MAXIMUM_KL_ERROR), MAXIMUM_KL_ERROR)
        return coefficient * (1 + error * num_episodes / self.horizon_episodes)
