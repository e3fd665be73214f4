"""Our PPO in several variants, in turns: other revisions, other number formats."""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from ppo_against_trl import CRITICS, GIB, STAGES
from ppo_ours import start_of
from ppo_start import CASES
from recording import RESULTS, Cell, Table, digits, load
from turns import TREE, Measured, Side, ours, take_turns

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Variant:
    """What sets one side apart from the others."""

    name: str
    tree: Path = TREE
    """Whose trainer it is; the programs that measure are always this tree's."""
    ppo: dict[str, Any] = field(default_factory=dict)
    """Fields of spec.ppo."""
    model: dict[str, Any] = field(default_factory=dict)
    """Fields of spec.model."""


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """Return what reads the options that all such comparisons have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--case", nargs="+", choices=CASES, default=["a", "b", "c", "d"])
    parser.add_argument("--critic", nargs="+", choices=CRITICS, default=CRITICS)
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser


def compare(asked: argparse.Namespace, what: str, variants: Sequence[Variant]) -> Table:
    """Return a row for each case, critic, number of threads and variant; the first is the measure.

    what: heads the column of the variants' names.
    """
    rows: list[tuple[Cell, ...]] = []
    for case in asked.case:
        with start_of(case, None) as start:
            for critic, threads in product(asked.critic, asked.threads):
                print(f"PPO {case}, {critic}, threads: {threads}, load {load():g}", flush=True)
                sides = [_side(variant, case, critic, threads, start) for variant in variants]
                found = take_turns(sides, asked.rounds)
                rows += _rows((case, critic, threads), found, found[variants[0].name])
    columns = (
        *("case", "critic", "threads", what, *STAGES, "all", "wall s", "peak GiB"),
        *("times as fast (CPU)", f"memory of {variants[0].name}"),
    )
    return Table("CPU seconds of a step", columns, tuple(rows))


def _side(variant: Variant, case: str, critic: str, threads: int, start: Path) -> Side:
    program = (
        *(str(HERE / "ppo_ours.py"), "--case", case, "--critic", critic, "--start", str(start)),
        *("--threads", str(threads), "--paced"),
        *("--ppo", json.dumps(variant.ppo), "--model", json.dumps(variant.model)),
    )
    return Side(variant.name, program, ours(threads, variant.tree))


def _rows(
    where: tuple[Cell, ...], sides: dict[str, Measured], first: Measured
) -> list[tuple[Cell, ...]]:
    return [
        (
            *(*where, name),
            *(digits(side.median(stage)) for stage in (*STAGES, "total")),
            digits(side.median("total", "wall")),
            digits(side.peak_bytes / GIB),
            digits(first.median("total") / side.median("total")),
            digits(side.peak_bytes / first.peak_bytes),
        )
        for name, side in sides.items()
    ]
