import math
import re

import pytest

from rlhf_trainer.report.chart import (
    Axis,
    Chart,
    Line,
    axis,
    bounded,
    runs,
    smoothed,
    step_axis,
    thinned,
)
from rlhf_trainer.report.svg import draw_lines, draw_spark


@pytest.mark.parametrize(
    ("values", "count", "expected"),
    [
        pytest.param([0.0, 4.7, 10.0], 5, Axis(0, 10, (0, 2, 4, 6, 8, 10)), id="whole"),
        pytest.param([-0.03, 0.98], 3, Axis(-0.5, 1, (-0.5, 0, 0.5, 1)), id="below zero"),
        pytest.param(
            [0.153, 0.158], 2, Axis(0.1525, 0.16, (0.1525, 0.155, 0.1575, 0.16)), id="near"
        ),
        pytest.param([3.0, 3.0], 2, Axis(0, 6, (0, 2, 4, 6)), id="one value"),
        pytest.param([], 2, Axis(0, 1, (0, 0.5, 1)), id="none"),
        pytest.param([math.nan, math.inf, 1.0, 2.0], 2, Axis(1, 2, (1, 1.5, 2)), id="not finite"),
        pytest.param([1e-5, 9e-6], 2, Axis(9e-6, 1e-5, (9e-6, 9.5e-6, 1e-5)), id="small"),
        pytest.param([3e-15], 2, Axis(0, 6e-15, (0, 2e-15, 4e-15, 6e-15)), id="rounding noise"),
    ],
)
def test_axis_holds_all_values_between_its_ticks(
    values: list[float], count: int, expected: Axis
) -> None:
    found = axis(values, count)
    assert found.ticks == pytest.approx(expected.ticks, abs=0)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0)


EXTREMES = [
    pytest.param([3e-15], id="noise"),
    pytest.param([1e-13, 4e-13], id="small"),
    pytest.param([0.0, 1e-13], id="small from zero"),
    pytest.param([0.1, math.nextafter(0.1, 1)], id="neighbours"),
    pytest.param([0.1, 0.1 * (1 + 1e-8)], id="near"),
    pytest.param([5e-324], id="subnormal"),
    pytest.param([-5e-324, 0.0, 5e-324], id="subnormals"),
    pytest.param([0.0, 3e-300], id="tiny"),
    pytest.param([-1e308, 1e308], id="huge"),
    pytest.param([1.7e308], id="largest"),
]


@pytest.mark.parametrize("values", EXTREMES)
@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_axis_extreme_values_lie_between_ticks_that_differ(values: list[float], count: int) -> None:
    found = axis(values, count)
    spacing = found.ticks[1] - found.ticks[0]
    assert 2 <= len(set(found.ticks)) == len(found.ticks) <= 2 * count + 2
    assert list(found.ticks) == sorted(found.ticks)
    assert math.isfinite(found.high - found.low)
    # Too small to be seen: what a float can tell apart beside a value that is large for its range.
    for value in map(bounded, values):
        assert found.low - spacing / 1e6 <= value <= found.high + spacing / 1e6


@pytest.mark.parametrize("values", EXTREMES)
@pytest.mark.parametrize("from_zero", [True, False])
@pytest.mark.parametrize("repeated", [1, 200])
def test_draw_lines_extreme_values_are_drawn_inside(
    values: list[float], repeated: int, *, from_zero: bool
) -> None:
    points = [(float(step), value) for step, value in enumerate(values * repeated)]
    chart = Chart("KL", "nats", [Line("KL", points, points)], from_zero=from_zero)
    drawing = draw_lines(chart, 370, 190) + draw_spark(points, 120, 44)
    assert not re.search(r"\b(nan|inf)\b", drawing)
    heights = re.findall(r' c?y[12]?="(\S+)"', drawing)
    for placed in re.findall(r' points="([^"]*)"', drawing):
        heights += [place.partition(",")[2] for place in placed.split()]
    assert all(0 <= float(height) <= 190 for height in heights)


def test_axis_includes_what_it_is_asked_to() -> None:
    assert axis([1.0, 2.0], 4, include=[0.0, 10.0]).ticks == (0, 2.5, 5, 7.5, 10)


@pytest.mark.parametrize(
    ("steps", "count", "ticks"),
    [
        ([0, 25], 8, (0, 5, 10, 15, 20, 25)),
        ([1, 150], 4, (50, 100, 150)),
        ([0, 3], 8, (0, 1, 2, 3)),
        ([7], 8, (7,)),
    ],
)
def test_step_axis_has_whole_ticks(
    steps: list[float], count: int, ticks: tuple[float, ...]
) -> None:
    assert step_axis(steps, count).ticks == ticks


def test_thinned_keeps_order_and_peaks() -> None:
    points = [(float(step), math.sin(step / 300)) for step in range(10_000)]
    points[5_555] = (5_555.0, 9.0)
    kept = thinned(points, 100)
    assert len(kept) <= 100
    assert kept == sorted(kept)
    assert (5_555.0, 9.0) in kept


def test_thinned_keeps_values_that_are_no_numbers() -> None:
    points = [(float(step), 1.0) for step in range(1_000)]
    points[500] = (500.0, math.nan)
    assert any(math.isnan(value) for _, value in thinned(points, 100))


def test_runs_break_where_a_value_is_no_number() -> None:
    points = [(0.0, math.nan), (1.0, 1.0), (2.0, 2.0), (3.0, math.inf), (4.0, 4.0)]
    assert runs(points) == [[(1.0, 1.0), (2.0, 2.0)], [(4.0, 4.0)]]


def test_smoothed_is_the_mean_of_neighbours_without_a_lag_at_the_beginning() -> None:
    points = [(float(step), 2.0 * step) for step in range(200)]
    points[100] = (100.0, math.nan)
    means = smoothed(points)
    assert len(means) == 199
    assert means[0] == (0.0, 0.0)
    assert means[-1] == (199.0, 396.0)
    assert means[50] == (50.0, pytest.approx(100.0))
