"""Statistics over the response tokens of a batch.

Legend: B = sequences, T = response tokens (padded), mask_BT True at response tokens.
"""

import torch
from torch import Tensor


def masked_mean(values_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Return the mean over masked entries, 0 for an empty mask. Scalar."""
    return masked_sum(values_BT, mask_BT) / mask_BT.sum().clamp(min=1)


def masked_sum(values_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Return the sum over masked entries. Scalar; values elsewhere, NaN too, never matter."""
    return torch.where(mask_BT, values_BT, 0.0).sum()


def masked_variance(values_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Return the population variance over masked entries. Scalar."""
    return masked_mean((values_BT - masked_mean(values_BT, mask_BT)) ** 2, mask_BT)


def whiten(values_BT: Tensor, mask_BT: Tensor, *, shift_mean: bool = True) -> Tensor:
    """Return values divided by their masked standard deviation, 0 outside the mask.

    shift_mean False keeps the mean, as for rewards in OpenAI's lm-human-preferences (`whiten`).
    """
    mean = masked_mean(values_BT, mask_BT)
    white_BT = (values_BT - mean) * torch.rsqrt(masked_variance(values_BT, mask_BT) + 1e-8)
    if not shift_mean:
        white_BT = white_BT + mean
    return torch.where(mask_BT, white_BT, 0.0)


def row_sum(values_BT: Tensor, mask_BT: Tensor) -> Tensor:
    """Return each row's sum over masked entries, shape [B]."""
    return torch.where(mask_BT, values_BT, 0.0).sum(1)
