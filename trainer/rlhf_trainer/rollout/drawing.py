"""Drawing a token by inverting the cumulative distribution, and what is kept of the draw.

Only sums over the vocabulary are needed, not its cumulative sums: blocks are summed, one is found,
and only that one is accumulated. Legend: B = rows, V = vocabulary, K = tokens of a block.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK_TOKENS = 256
"""Near the square root of usual vocabularies, so that few sums are accumulated."""

LEAST_LOGIT = -200.0
"""What is this far below the largest logit has no probability in float32; infinities would spoil
sums in which they are multiplied by 0."""


@dataclass(frozen=True)
class Drawn:
    """One token for each row."""

    token_B: Tensor
    """int64."""
    logp_B: Tensor
    """float32, in nats, at the sampling temperature."""
    entropy_B: Tensor
    """float32, in nats, of the distribution that was drawn from."""


def draw(logits_BV: Tensor, uniform_B: Tensor, *, temperature: float) -> Drawn:
    """Draw from softmax(logits / temperature) the token at `uniform_B`, float64 in [0, 1)."""
    shifted_BV = logits_BV.float() / temperature
    shifted_BV -= shifted_BV.amax(-1, keepdim=True)
    shifted_BV.clamp_(min=LEAST_LOGIT)
    weight_BV = shifted_BV.exp()
    sums_BN = _block_sums(weight_BV).double()
    token_B1 = _invert(weight_BV, sums_BN, uniform_B.unsqueeze(1))
    total_B = sums_BN.sum(-1)
    log_total_B = total_B.log().float()
    mean_B = (torch.linalg.vecdot(weight_BV, shifted_BV) / total_B).float()
    logp_B = shifted_BV.gather(1, token_B1).squeeze(1) - log_total_B
    return Drawn(token_B1.squeeze(1), logp_B, log_total_B - mean_B)


def _block_sums(weight_BV: Tensor) -> Tensor:
    """Return the sum of each block; the last may be shorter."""
    whole = weight_BV.shape[1] // BLOCK_TOKENS * BLOCK_TOKENS
    sums = [weight_BV[:, :whole].unflatten(1, (-1, BLOCK_TOKENS)).sum(-1)] if whole else []
    if whole < weight_BV.shape[1]:
        sums.append(weight_BV[:, whole:].sum(-1, keepdim=True))
    return torch.cat(sums, 1)


def _invert(weight_BV: Tensor, sums_BN: Tensor, uniform_B1: Tensor) -> Tensor:
    """Return the first token up to which there is more than the uniform's share of weight, [B, 1].

    Comparing strictly leaves out tokens that have no weight.
    """
    ends_BN = sums_BN.cumsum(-1)
    point_B1 = uniform_B1 * ends_BN[:, -1:]
    block_B1 = torch.searchsorted(ends_BN, point_B1, right=True)
    block_B1.clamp_(max=ends_BN.shape[1] - 1)
    sum_B1 = sums_BN.gather(1, block_B1)
    share_B1 = (point_B1 - (ends_BN.gather(1, block_B1) - sum_B1)) / sum_B1
    columns_BK = block_B1 * BLOCK_TOKENS + torch.arange(BLOCK_TOKENS, device=block_B1.device)
    last = weight_BV.shape[1] - 1
    weight_BK = weight_BV.gather(1, columns_BK.clamp(max=last)).double()
    within_BK = weight_BK.where(columns_BK <= last, 0.0).cumsum(-1)
    inside_B1 = torch.searchsorted(within_BK, share_B1 * within_BK[:, -1:], right=True)
    return (block_B1 * BLOCK_TOKENS + inside_B1.clamp_(max=BLOCK_TOKENS - 1)).clamp_(max=last)
