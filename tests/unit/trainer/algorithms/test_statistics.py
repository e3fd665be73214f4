import math

import pytest

from rlhf_trainer.algorithms.statistics import (
    calibration_error,
    distinct_2,
    standard_error,
    wilson_interval,
    win_count,
)


def test_wilson_interval_hand_computed() -> None:
    # Newcombe 1998, table I: 81 of 263, method 3.
    low, high = wilson_interval(81, 263)
    assert (low, high) == (pytest.approx(0.2553, abs=1e-4), pytest.approx(0.3662, abs=1e-4))


def test_wilson_interval_stays_in_range_at_the_ends() -> None:
    assert wilson_interval(0, 10)[0] == pytest.approx(0.0, abs=1e-12)
    assert wilson_interval(10, 10)[1] == pytest.approx(1.0)


def test_wilson_interval_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="count=0"):
        wilson_interval(0, 0)


def test_win_count_ties_count_half() -> None:
    assert win_count([1.0, 2.0, 3.0], [0.0, 2.0, 4.0]) == 1.5


@pytest.mark.parametrize(
    ("texts", "expected"),
    [(["a b a b"], 2 / 3), (["a b", "a b"], 0.5), (["a"], 0.0), ([], 0.0)],
    ids=["loop", "same-text-twice", "one-word", "nothing"],
)
def test_distinct_2(texts: list[str], expected: float) -> None:
    assert distinct_2(texts) == pytest.approx(expected)


def test_standard_error_hand_computed() -> None:
    assert standard_error([1.0, 2.0, 3.0, 4.0]) == pytest.approx(math.sqrt(5 / 3 / 4))
    assert standard_error([1.0]) == 0.0


def test_calibration_error_of_a_calibrated_coin_is_zero() -> None:
    margin = math.log(3)  # says 75 %
    assert calibration_error([margin, margin, margin, -margin]) == pytest.approx(0.0, abs=1e-9)


def test_calibration_error_of_false_certainty_is_half() -> None:
    assert calibration_error([100.0, -100.0]) == pytest.approx(0.5)
