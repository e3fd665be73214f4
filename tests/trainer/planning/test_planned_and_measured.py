"""The plan against real phases: every component, and peaks of torch's allocator, within 10 %."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from planned_and_measured import SHAPES, Pair, make_models, measure

TOLERANCE = 0.1


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> list[Pair]:
    """Return what was measured of all shapes; their ranks are forked from one process."""
    data_root = make_models(tmp_path_factory.mktemp("models"))
    return measure(data_root, tmp_path_factory.mktemp("measured"))


@pytest.mark.parametrize(
    ("ranks", "shape"),
    [
        pytest.param(ranks, shape.name, id=f"{ranks}-{shape.name}".replace(" ", "-"))
        for ranks, shapes in SHAPES.items()
        for shape in shapes
    ],
)
def test_plan_is_within_a_tenth_of_what_is_held(
    measured: list[Pair], ranks: int, shape: str
) -> None:
    pairs = [pair for pair in measured if (pair.ranks, pair.shape) == (ranks, shape)]
    assert pairs
    wrong = [
        f"{pair.phase} {pair.what}: planned {pair.planned:,.0f}, measured {pair.measured:,.0f}"
        for pair in pairs
        if abs(pair.ratio - 1) > TOLERANCE
    ]
    assert not wrong, "\n".join(wrong)
