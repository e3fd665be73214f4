"""Killed at any moment and by any means, a phase ends as if nothing had happened, bit for bit."""

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from resuming import KINDS, PHASES, Resuming

from rlhf_trainer.contract import Phase

POINTS = int(os.environ.get("RLHF_TEST_RESUME_POINTS", "1"))
"""Per phase and shape; `make test-resume` asks for twenty per phase."""

SEED = int(os.environ.get("RLHF_TEST_RESUME_SEED", "1"))
LORA = "2-ranks-zero-3-lora"
SHAPES: dict[str, tuple[Any, ...]] = {
    "1-rank-zero-0": (1, 0),
    "2-ranks-zero-2": (2, 2),
    LORA: (2, 3, {"rank": 4, "alpha": 8, "dropout": 0.1}),
}
CASES = [
    (shape, phase)
    for shape in SHAPES
    for phase in PHASES
    if shape != LORA or phase is Phase.PPO or POINTS > 1
]
"""With adapters only PPO saves what full fine-tuning does not: frozen weights are left out."""


@pytest.fixture(scope="module")
def resuming(toy_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Resuming]:
    """Return the run of a shape; it is run in one go at the first request."""

    @cache
    def prepared(shape: str) -> Resuming:
        made = Resuming(toy_data, tmp_path_factory.mktemp("resume"), *SHAPES[shape])
        made.prepare()
        return made

    return prepared


@pytest.mark.parametrize(("shape", "phase"), CASES)
def test_killed_phase_ends_as_if_nothing_had_happened(
    resuming: Callable[[str], Resuming],
    shape: str,
    phase: Phase,
    say: Callable[[str], None],
    record: Callable[..., None],
) -> None:
    run = resuming(shape)
    rows = []
    for point in run.points(phase, POINTS, SEED):
        row = run.kill_and_resume(point)
        say(f"{run.shape}  {row}")
        record("resume", shape=run.shape, **row.cells())
        rows.append(row)
    assert not [row for row in rows if row.differences]
    # A phase that is asked to end in its last step completes instead.
    assert any(row.code for row in rows) or len(rows) < len(KINDS)
