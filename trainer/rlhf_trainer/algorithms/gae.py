"""Generalised advantage estimation: Schulman et al. 2015, equation 16 (arXiv:1506.02438)."""

import torch
from torch import Tensor


def token_rewards(score_B: Tensor, penalty_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Return each token's reward: minus its KL penalty, plus the score at the last response token.

    score_B, penalty_BT in score units; mask_BT is True on a prefix of each row; 0 outside the mask.
    Source: InstructGPT, equation 2; OpenAI's lm-human-preferences adds the score at the last token.
    """
    rewards_BT = torch.where(mask_BT, -penalty_BT, 0.0)
    rows = torch.nonzero(mask_BT.any(1)).squeeze(1)
    rewards_BT[rows, mask_BT.sum(1)[rows] - 1] += score_B[rows]
    return rewards_BT


def advantages_and_returns(
    rewards_BT: Tensor, values_BT: Tensor, mask_BT: Tensor, *, discount: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """Return advantages and returns of each response token, 0 outside the mask; detached inputs.

    mask_BT is True on a prefix of each row. The value after the last response token is 0, and
    values outside the mask never matter.
    """
    values_BT = torch.where(mask_BT, values_BT, 0.0)
    advantages_BT = torch.zeros_like(rewards_BT)
    carry_B = rewards_BT.new_zeros(len(rewards_BT))
    next_value_B = torch.zeros_like(carry_B)
    for t in reversed(range(rewards_BT.shape[1])):
        delta_B = rewards_BT[:, t] + discount * next_value_B - values_BT[:, t]
        carry_B = torch.where(mask_BT[:, t], delta_B + discount * gae_lambda * carry_B, 0.0)
        advantages_BT[:, t] = carry_B
        next_value_B = values_BT[:, t]
    return advantages_BT, torch.where(mask_BT, advantages_BT + values_BT, 0.0)


def explained_variance(values_BT: Tensor, returns_BT: Tensor, mask_BT: Tensor) -> float:
    """Return the share of the returns' variance that values explain; 1 is perfect."""
    returns_N, errors_N = returns_BT[mask_BT], (returns_BT - values_BT)[mask_BT]
    variance = float(returns_N.var(correction=0)) if len(returns_N) else 0.0
    return 1 - float(errors_N.var(correction=0)) / variance if variance > 0 else 0.0
