"""What settings of glibc's allocator are worth to us: PPO steps of processes alike but for them.

`allocator.py --case a` lets the phase step under each, in turns.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from ppo_ours import start_of
from ppo_start import CASES
from recording import RESULTS, Cell, Result, Section, Table, conditions, digits, load, record
from turns import ALLOCATOR, Side, take_turns

HERE = Path(__file__).parent
GIB = 2**30
SETTINGS: dict[str, dict[str, str]] = {
    "none": {},
    "large blocks from the heap": {"MALLOC_MMAP_THRESHOLD_": ALLOCATOR["MALLOC_MMAP_THRESHOLD_"]},
    "and the heap is kept": ALLOCATOR,
    "and in huge pages": ALLOCATOR | {"THP_MEM_ALLOC_ENABLE": "1"},
}


def sides(name: str, critic: str, start: Path) -> list[Side]:
    """Return our phase once for each setting."""
    program = (str(HERE / "ppo_ours.py"), "--case", name, "--critic", critic, "--paced")
    plain = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    plain |= {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return [
        Side(setting, (*program, "--start", str(start)), plain | variables)
        for setting, variables in SETTINGS.items()
    ]


def main(argv: Sequence[str]) -> None:
    """Measure what is asked for and leave the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=CASES, required=True)
    parser.add_argument("--critic", default="Separate")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--start", type=Path, help="folder of a start, made there if missing")
    parser.add_argument("--results", type=Path, default=RESULTS)
    asked = parser.parse_args(argv)
    case, before = CASES[asked.case], load()
    with start_of(asked.case, asked.start) as start:
        found = take_turns(sides(asked.case, asked.critic, start), asked.rounds)
    first = next(iter(found.values())).median("total")
    rows: list[tuple[Cell, ...]] = [
        (
            setting,
            digits(measured.median("total")),
            digits(measured.peak_bytes / GIB),
            digits(first / measured.median("total")),
        )
        for setting, measured in found.items()
    ]
    columns = ("settings", "CPU s", "peak GiB", "times as fast")
    result = Result(
        name=f"allocator-{asked.case}",
        section=Section.TRAINING,
        title=f"glibc's settings of memory, {asked.case}",
        measured=(
            f"A PPO step of {case.title}, critic {asked.critic}, by processes of one thread that "
            "differ in these variables, each with those above it; steps are taken in turns, and a "
            f"number is the median of {asked.rounds} after a warm-up. The launcher sets the first "
            "three rows' for ranks on CPUs where the user has not."
        ),
        command=f"python benchmarks/allocator.py --case {asked.case}",
        tables=(Table("CPU seconds of a step", columns, tuple(rows)),),
        conditions=conditions(before),
    )
    for row in rows:
        print(*row, sep=" | ")
    print(f"left {record(result, asked.results)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
