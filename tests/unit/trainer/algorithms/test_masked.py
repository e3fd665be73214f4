import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlhf_trainer.algorithms.masked import (
    masked_mean,
    masked_sum,
    masked_variance,
    row_sum,
    whiten,
)

SEEDS = st.integers(0, 2**31)
ROWS, WIDTHS = st.integers(1, 4), st.integers(1, 6)
PADS = st.sampled_from([math.nan, math.inf, -1e30])

MASKED = torch.tensor([[1.0, 2.0, math.nan], [3.0, 6.0, math.inf]])
MASK = torch.tensor([[True, True, False], [True, True, False]])


def slow_statistics(rows: list[list[float]], masks: list[list[bool]]) -> tuple[float, float]:
    """Return mean and population variance over the masked entries."""
    total, count, squares = 0.0, 0, 0.0
    for row, mask in zip(rows, masks, strict=True):
        for value, kept in zip(row, mask, strict=True):
            if kept:
                total, count = total + value, count + 1
    mean = total / max(count, 1)
    for row, mask in zip(rows, masks, strict=True):
        for value, kept in zip(row, mask, strict=True):
            if kept:
                squares += (value - mean) ** 2
    return mean, squares / max(count, 1)


def padded(seed: int, rows: int, width: int, pad: float) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(rows, width, generator=generator, dtype=torch.float64)
    mask = torch.rand(rows, width, generator=generator) < 0.6
    return torch.where(mask, values, pad), mask


def test_masked_statistics_hand_computed() -> None:
    """1, 2, 3 and 6: sum 12, mean 3, variance (4 + 1 + 0 + 9) / 4."""
    assert float(masked_sum(MASKED, MASK)) == 12
    assert float(masked_mean(MASKED, MASK)) == 3
    assert float(masked_variance(MASKED, MASK)) == 3.5
    assert row_sum(MASKED, MASK).tolist() == [3, 9]


@given(SEEDS, ROWS, WIDTHS, PADS)
def test_masked_statistics_equal_slow_loop(seed: int, rows: int, width: int, pad: float) -> None:
    values, mask = padded(seed, rows, width, pad)
    mean, variance = slow_statistics(values.tolist(), mask.tolist())
    assert float(masked_mean(values, mask)) == pytest.approx(mean)
    assert float(masked_sum(values, mask)) == pytest.approx(mean * int(mask.sum()))
    assert float(masked_variance(values, mask)) == pytest.approx(variance)
    for row, kept, total in zip(values, mask, row_sum(values, mask).tolist(), strict=True):
        assert total == pytest.approx(sum(row[kept].tolist()))


@given(SEEDS, ROWS, WIDTHS, PADS, st.booleans())
def test_whiten_equals_slow_loop(
    seed: int,
    rows: int,
    width: int,
    pad: float,
    shift_mean: bool,  # noqa: FBT001 - a case
) -> None:
    """OpenAI's lm-human-preferences, lm_human_preferences/utils/core.py, whiten: epsilon 1e-8."""
    values, mask = padded(seed, rows, width, pad)
    mean, variance = slow_statistics(values.tolist(), mask.tolist())
    white = whiten(values, mask, shift_mean=shift_mean).tolist()
    for row in range(rows):
        for t in range(width):
            expected = 0.0
            if mask[row, t]:
                expected = (float(values[row, t]) - mean) / math.sqrt(variance + 1e-8)
                expected += 0.0 if shift_mean else mean
            assert white[row][t] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("shift_mean", "expected"),
    [
        # (value - 3) / sqrt(3.5), and 3 more where the mean is kept
        (True, [[-1.069045, -0.534522, 0.0], [0.0, 1.603567, 0.0]]),
        (False, [[1.930955, 2.465478, 0.0], [3.0, 4.603567, 0.0]]),
    ],
    ids=["advantages", "rewards"],
)
def test_whiten_hand_computed(shift_mean: bool, expected: list[list[float]]) -> None:  # noqa: FBT001 - a case
    white = whiten(MASKED, MASK, shift_mean=shift_mean)
    torch.testing.assert_close(white, torch.tensor(expected), rtol=0, atol=1e-5)


def test_whiten_of_an_empty_mask_is_zero() -> None:
    white = whiten(torch.ones(1, 2), torch.zeros(1, 2, dtype=torch.bool))
    assert white.abs().sum() == 0


def test_whiten_of_equal_values_is_finite() -> None:
    """Every advantage the same: nothing to divide by, and nothing to learn."""
    assert whiten(torch.full((1, 3), 2.0), torch.ones(1, 3, dtype=torch.bool)).tolist() == [
        [0.0] * 3
    ]
