"""Our PPO of two revisions, in turns: `ppo_revisions.py --before TREE` says what a change brought.

TREE is a checkout of the older revision, such as `git worktree add` makes. The programs that
measure are this tree's on both sides; only the trainer differs.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from ppo_against_trl import CRITICS, GIB, STAGES
from ppo_ours import start_of
from ppo_start import CASES
from recording import RESULTS, Cell, Result, Section, Table, conditions, digits, load, record
from turns import ALLOCATOR, TREE, Measured, Side, ours, take_turns

HERE = Path(__file__).parent
BEFORE, AFTER = "before", "after"
COLUMNS = (
    *("case", "critic", "threads", "revision", *STAGES, "all", "wall s", "peak GiB"),
    *("times as fast (CPU)", "memory of before"),
)


def measure(
    name: str, critic: str, threads: int, start: Path, asked: argparse.Namespace
) -> dict[str, Measured]:
    """Let both revisions step in turns."""
    program = (
        *(str(HERE / "ppo_ours.py"), "--case", name, "--critic", critic, "--start", str(start)),
        *("--threads", str(threads), "--paced"),
    )
    sides = []
    for side, tree, ppo in (
        (BEFORE, asked.before, asked.ppo_before),
        (AFTER, TREE, asked.ppo_after),
    ):
        sides.append(Side(side, (*program, "--ppo", ppo), ours(threads, tree)))
    return take_turns(sides, asked.rounds)


def rows_of(case: str, critic: str, threads: int, sides: dict[str, Measured]) -> list[list[Cell]]:
    """Return a row for each revision."""
    old = sides[BEFORE]
    return [
        [
            *(case, critic, threads, name),
            *(digits(side.median(stage)) for stage in (*STAGES, "total")),
            digits(side.median("total", "wall")),
            digits(side.peak_bytes / GIB),
            digits(old.median("total") / side.median("total")),
            digits(side.peak_bytes / old.peak_bytes),
        ]
        for name, side in sides.items()
    ]


def main(argv: Sequence[str]) -> None:
    """Measure what is asked for and leave the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path, required=True, help="tree of the older revision")
    parser.add_argument("--case", nargs="+", choices=CASES, default=["a", "b", "c", "d"])
    parser.add_argument("--critic", nargs="+", choices=CRITICS, default=CRITICS)
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--ppo-before", default="{}", help="JSON: fields of spec.ppo, before")
    parser.add_argument("--ppo-after", default="{}", help="JSON: fields of spec.ppo, after")
    parser.add_argument("--results", type=Path, default=RESULTS)
    asked = parser.parse_args(argv)
    asked.before = asked.before.resolve()
    before, rows = load(), list[list[Cell]]()
    for name in asked.case:
        with start_of(name, None) as start:
            for critic, threads in product(asked.critic, asked.threads):
                print(f"PPO {name}, {critic}, threads: {threads}, load {load():g}", flush=True)
                rows += rows_of(name, critic, threads, measure(name, critic, threads, start, asked))
    result = Result(
        name="ppo-before-after",
        section=Section.TRAINING,
        title="PPO before and after",
        measured=(
            f"Our PPO of revision {_revision(asked.before)} (before) and of this tree (after), on "
            "the cases above, CPU seconds of a step. Steps are taken in turns; a number is the "
            f"median of {asked.rounds} after a warm-up."
        ),
        command="python benchmarks/ppo_revisions.py --before TREE",
        tables=(Table("a step", COLUMNS, tuple(map(tuple, rows))),),
        conditions=conditions(before, settings=ALLOCATOR),
    )
    print(f"left {record(result, asked.results)}", flush=True)


def _revision(tree: Path) -> str:
    done = subprocess.run(  # noqa: S603 - all arguments are written here
        ["git", "-C", str(tree), "rev-parse", "--short=10", "HEAD"],  # noqa: S607 - the installed git
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


if __name__ == "__main__":
    main(sys.argv[1:])
