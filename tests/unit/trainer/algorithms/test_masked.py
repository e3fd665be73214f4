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


@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(1, 6))
def test_masked_statistics_equal_plain_ones_over_the_kept_values(
    seed: int, rows: int, width: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(rows, width, generator=generator, dtype=torch.float64)
    mask = torch.rand(rows, width, generator=generator) < 0.6
    kept = values[mask].tolist()
    values[~mask] = float("nan")
    mean = sum(kept) / len(kept) if kept else 0.0
    assert float(masked_sum(values, mask)) == pytest.approx(sum(kept))
    assert float(masked_mean(values, mask)) == pytest.approx(mean)
    if kept:
        variance = sum((value - mean) ** 2 for value in kept) / len(kept)
        assert float(masked_variance(values, mask)) == pytest.approx(variance)
    assert row_sum(values, mask).isfinite().all()


def test_whiten_gives_zero_mean_and_unit_variance_inside_the_mask() -> None:
    values = torch.tensor([[1.0, 2.0, 100.0], [3.0, 6.0, -100.0]])
    mask = torch.tensor([[True, True, False], [True, True, False]])
    white = whiten(values, mask)
    assert white[mask].mean().item() == pytest.approx(0.0, abs=1e-6)
    assert white[mask].var(correction=0).item() == pytest.approx(1.0, abs=1e-5)
    assert white[~mask].abs().sum() == 0


def test_whiten_without_shift_keeps_the_mean() -> None:
    values = torch.tensor([[1.0, 3.0, 5.0]])
    mask = torch.ones(1, 3, dtype=torch.bool)
    white = whiten(values, mask, shift_mean=False)
    assert white.mean().item() == pytest.approx(3.0, abs=1e-5)


def test_whiten_of_an_empty_mask_is_zero() -> None:
    white = whiten(torch.ones(1, 2), torch.zeros(1, 2, dtype=torch.bool))
    assert white.abs().sum() == 0
