"""Holds the memory plan against real phases on CPU: `python benchmarks/plan_memory.py`.

Tests do the same and allow 10 %; here the numbers themselves are shown.
"""

import importlib
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from recording import Result, Section, Table, conditions, load, record

TESTS = Path(__file__).resolve().parents[1] / "tests" / "trainer"

MIB = 2**20

MEASURED = (
    "Bytes that a rank of real phases holds on CPU, beside what `rlhf plan` says of them: "
    "parameters, gradients after the last backward pass, states of the optimiser, what autograd "
    "saves of a micro-batch, keys and values; and, of a rank that is alone, the most that torch's "
    "allocator held in updates, measuring and rollouts. Models have 0.7 to 0.9 million parameters; "
    "DeepSpeed's bucket is made as small beside them as it is beside large ones."
)
NOT_MEASURED = (
    "Not measured: GPUs, several nodes, offloading, FlashAttention 2, and what drivers and "
    "libraries take."
)


def main() -> None:
    """Measure with one rank and with two; record the table."""
    load_before = load()
    sys.path[:0] = [str(TESTS), str(TESTS / "planning")]
    tests = importlib.import_module("planned_and_measured")
    with TemporaryDirectory() as folder:
        root = Path(folder)
        data_root = tests.make_models(root / "models")
        pairs: list[Any] = tests.measure(data_root, root)
    far = tests.worst(pairs)
    result = Result(
        name="plan-memory",
        section=Section.PLANNER,
        title="Planned against measured",
        measured=MEASURED,
        command="python benchmarks/plan_memory.py",
        tables=tuple(tables(pairs)),
        notes=(NOT_MEASURED, f"Farthest off: {far.what} of {far.shape}, {far.ratio - 1:+.1%}."),
        conditions=conditions(load_before, packages=("torch", "transformers", "deepspeed", "peft")),
    )
    sys.stdout.write(f"{record(result)}\n")


def tables(pairs: Sequence[Any]) -> Iterator[Table]:
    """Yield a table for each configuration and phase."""
    for (shape, ranks, phase), members in groupby(
        pairs, key=lambda pair: (pair.shape, pair.ranks, pair.phase)
    ):
        rows = tuple(
            (pair.what, pair.planned / MIB, pair.measured / MIB, pair.ratio) for pair in members
        )
        rank = "1 rank" if ranks == 1 else f"{ranks} ranks"
        yield Table(
            f"{shape}, {rank}: {phase}", ("what", "planned, MiB", "measured, MiB", "ratio"), rows
        )


if __name__ == "__main__":
    main()
