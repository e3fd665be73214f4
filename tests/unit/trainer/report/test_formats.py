import math

import pytest

from rlhf_trainer.report.formats import capitalised, duration, number, percent, score, tick_labels

MINUS = "\N{MINUS SIGN}"
SPACE = "\N{NARROW NO-BREAK SPACE}"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (4.0, "4"),
        (4.314, "4.31"),
        (0.0123456, "0.0123"),
        (-0.5, f"{MINUS}0.5"),
        (123.4, "123"),
        (9_999.4, "9999"),
        (25_600.0, f"25{SPACE}600"),
        (1e-5, "1e-5"),
        (-1.25e-7, f"{MINUS}1.25e-7"),
        (3e9, "3e9"),
        (math.nan, "not a number"),
        (math.inf, "∞"),
        (-math.inf, f"{MINUS}∞"),
    ],
)
def test_number_has_three_digits(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.981, "+0.98"), (-0.032, f"{MINUS}0.03"), (math.nan, "not a number")]
)
def test_score_has_a_sign(value: float, text: str) -> None:
    assert score(value) == text


@pytest.mark.parametrize(
    ("share", "text"), [(0.8323, "83.2%"), (0.62, "62%"), (1.0, "100%"), (math.nan, "not a number")]
)
def test_percent_has_three_digits(share: float, text: str) -> None:
    assert percent(share) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "under 1 s"),
        (44.8, "45 s"),
        (59.6, "1 min 00 s"),
        (192.0, "3 min 12 s"),
        (7_500.0, "2 h 05 min"),
    ],
)
def test_duration_has_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_capitalised_leaves_the_rest_as_it_is() -> None:
    assert capitalised("sft and PPO") == "Sft and PPO"
    assert capitalised("") == ""


@pytest.mark.parametrize(
    ("ticks", "labels"),
    [
        ([0.0, 0.5, 1.0], ["0", "0.5", "1.0"]),
        ([0.15, 0.1505, 0.151], ["0.1500", "0.1505", "0.1510"]),
        ([0.10025, 0.1005], ["0.10025", "0.10050"]),
        ([0.0, 10.0, 20.0], ["0", "10", "20"]),
        ([1.0, 2.0], ["1", "2"]),
        ([0.5], ["0.5"]),
        ([10_000.0, 15_000.0], [f"10{SPACE}000", f"15{SPACE}000"]),
        ([-0.0005, 0.0], [f"{MINUS}5e-4", "0"]),
    ],
)
def test_tick_labels_have_the_decimals_of_their_step(ticks: list[float], labels: list[str]) -> None:
    assert list(tick_labels(ticks).values()) == labels
