"""Our SFT and reward model training beside current TRL's, from the same start and in turns.

`supervised_against_trl.py` prints what each step takes, and leaves one result.
"""

import argparse
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from ppo_ours import start_of
from ppo_start import CASES, Case
from recording import (
    RESULTS,
    Cell,
    Conditions,
    Result,
    Section,
    Table,
    command_line,
    conditions,
    digits,
    load,
    record,
)
from supervised_ours import PHASES
from trl_release import NEWEST, Release
from turns import ALLOCATOR, Measured, Side, environment, ours, take_turns

HERE = Path(__file__).parent
TRL, OURS = "TRL", "ours"
GIB = 2**30


def measure(
    phase: str, case_name: str, threads: int, rounds: int, start: Path, trl: Release
) -> dict[str, Measured]:
    """Let TRL and ours step in turns."""
    common = (
        *("--phase", phase, "--case", case_name, "--threads", str(threads)),
        *("--start", str(start), "--paced"),
    )
    return take_turns(
        [
            Side(
                TRL,
                (str(HERE / "supervised_trl.py"), *common),
                environment(threads, trl.environment),
            ),
            Side(OURS, (str(HERE / "supervised_ours.py"), *common), ours(threads)),
        ],
        rounds,
    )


def rows_of(phase: str, case: Case, threads: int, sides: dict[str, Measured]) -> list[list[Cell]]:
    """Return a row for each side."""
    trl, rows = sides[TRL], list[list[Cell]]()
    for name, side in sides.items():
        cpu, wall = side.median("total"), side.median("total", "wall")
        rows.append(
            [
                phase,
                f"{case.hidden} x {case.layers}, vocabulary {case.vocabulary:,}",
                case.prompts,
                threads,
                name,
                digits(cpu),
                digits(wall),
                digits(case.prompts / wall),
                digits(side.peak_bytes / GIB),
                digits(trl.median("total") / cpu),
                digits(trl.median("total", "wall") / wall),
                digits(side.peak_bytes / trl.peak_bytes),
            ]
        )
    return rows


def result_of(rows: list[list[Cell]], told: Conditions, asked: argparse.Namespace) -> Result:
    """Return the result of all rows."""
    label = f" ({asked.label})" if asked.label else ""
    columns = (
        *("phase", "model", "rows", "threads", "side", "CPU s", "wall s", "samples/s"),
        *("peak GiB", "times as fast (CPU)", "times as fast (wall)", "memory of TRL's"),
    )
    return Result(
        name=f"supervised{f'-{asked.label}' if asked.label else ''}",
        section=Section.TRAINING,
        title=f"SFT and reward model against TRL {NEWEST}{label}",
        measured=(
            "An update on all rows at once, ragged: demonstrations of 8 tokens and a completion of "
            "4 to 63, or comparisons of two such; the phase itself beside TRL's trainer, from the "
            "same weights and tokens. Steps are taken in turns; a number is the median of "
            f"{asked.rounds} after a warm-up. A comparison is one sample."
        ),
        command=command_line(
            "supervised_against_trl",
            asked,
            options().parse_args([]),
            without=("start", "results"),
        ),
        headlines=tuple(
            f"{phase}, {model}: {faster:.3g} times as fast as TRL on {threads} "
            f"thread{'s' if threads != 1 else ''}, in {memory:.2g} of its memory"
            for phase, model, _, threads, side, *_, faster, _, memory in rows
            if side != TRL
        ),
        tables=(Table("a step", columns, tuple(map(tuple, rows))),),
        conditions=told,
    )


def options() -> argparse.ArgumentParser:
    """Return what can be asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--phase", nargs="+", choices=PHASES, default=PHASES)
    parser.add_argument("--case", nargs="+", choices=CASES, default=["a", "c"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--start", type=Path, help="folder of the start of an only case")
    parser.add_argument("--label", default="", help="added to the name of the result")
    parser.add_argument("--results", type=Path, default=RESULTS)
    return parser


def main(argv: Sequence[str]) -> None:
    """Measure both phases and leave the result."""
    asked = options().parse_args(argv)
    trl = Release(NEWEST)
    trl.ensure_installed(print)
    before, rows = load(), list[list[Cell]]()
    for name in asked.case:
        with start_of(name, asked.start) as start:
            for phase, threads in product(asked.phase, asked.threads):
                print(f"{phase} {name}, threads: {threads}, load {load():g}", flush=True)
                sides = measure(phase, name, threads, asked.rounds, start, trl)
                rows += rows_of(phase, CASES[name], threads, sides)
    told = conditions(before, versions={"trl": NEWEST}, settings=ALLOCATOR)
    print(f"left {record(result_of(rows, told, asked), asked.results)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
