"""The plan against real phases: every component, and peaks of torch's allocator, within 10 %."""

import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from planned_and_measured import SHAPES, Pair, make_models, measure

TOLERANCE = 0.1


@pytest.fixture(scope="module")
def measured_by(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], list[Pair]]:
    """Return what so many ranks have measured; they start once."""
    data_root = make_models(tmp_path_factory.mktemp("models"))

    @cache
    def measured(ranks: int) -> list[Pair]:
        return measure(data_root, tmp_path_factory.mktemp("measured"), ranks)

    return measured


@pytest.mark.parametrize(
    ("ranks", "shape"),
    [
        pytest.param(ranks, shape.name, id=f"{ranks}-{shape.name}".replace(" ", "-"))
        for ranks, shapes in SHAPES.items()
        for shape in shapes
    ],
)
def test_plan_is_within_a_tenth_of_what_is_held(
    measured_by: Callable[[int], list[Pair]], ranks: int, shape: str
) -> None:
    pairs = [pair for pair in measured_by(ranks) if pair.shape == shape]
    assert pairs
    wrong = [
        f"{pair.phase} {pair.what}: planned {pair.planned:,.0f}, measured {pair.measured:,.0f}"
        for pair in pairs
        if abs(pair.ratio - 1) > TOLERANCE
    ]
    assert not wrong, "\n".join(wrong)
