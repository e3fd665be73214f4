"""Losses of SFT, the reward model and PPO: sums over response tokens over a given denominator.

The denominator is that of the whole update (all ranks, all micro-batches), so that results depend
on neither. Legend: N = response tokens of this micro-batch, P = comparisons.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional


def cross_entropy(logp_N: Tensor, *, num_tokens: int) -> Tensor:
    """Return minus the log-likelihood of the tokens over `num_tokens`, in nats per token."""
    return -logp_N.sum() / num_tokens


def bradley_terry(chosen_P: Tensor, rejected_P: Tensor, *, num_pairs: int) -> Tensor:
    """Return -log sigmoid(chosen - rejected) over `num_pairs`: InstructGPT, equation 1, K = 2."""
    return -functional.logsigmoid(chosen_P - rejected_P).sum() / num_pairs


@dataclass(frozen=True)
class PolicyLoss:
    """The policy loss, and sums over this micro-batch's tokens that tell about the update."""

    loss: Tensor
    clipped_tokens: Tensor
    """Tokens whose ratio lies outside the clip range, detached."""
    approx_kl_sum_nats: Tensor
    """Sum of k3 from rollout policy to policy, detached."""


def policy_loss(
    logp_N: Tensor, old_logp_N: Tensor, advantage_N: Tensor, *, clip_range: float, num_tokens: int
) -> PolicyLoss:
    """Return the clipped surrogate, negated: Schulman et al. 2017, equation 7 (arXiv:1707.06347).

    float32 log-probs in nats at the sampling temperature; only logp_N carries gradient.
    """
    log_ratio_N = logp_N - old_logp_N
    ratio_N = log_ratio_N.exp()
    clipped_N = ratio_N.clamp(1 - clip_range, 1 + clip_range)
    loss = -torch.minimum(ratio_N * advantage_N, clipped_N * advantage_N).sum() / num_tokens
    with torch.no_grad():
        clipped_tokens = ((ratio_N - 1).abs() > clip_range).sum()
        approx_kl = (torch.expm1(log_ratio_N) - log_ratio_N).sum()
    return PolicyLoss(loss, clipped_tokens, approx_kl)


def value_loss(
    values_N: Tensor, old_values_N: Tensor, returns_N: Tensor, *, clip_range: float, num_tokens: int
) -> Tensor:
    """Return half the squared error of values, the larger of clipped and not, over `num_tokens`.

    Values may move `clip_range` from the rollout's: OpenAI's lm-human-preferences, `loss`.
    """
    clipped_N = old_values_N + (values_N - old_values_N).clamp(-clip_range, clip_range)
    errors_N = torch.maximum((values_N - returns_N) ** 2, (clipped_N - returns_N) ** 2)
    return 0.5 * errors_N.sum() / num_tokens
