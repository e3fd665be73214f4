"""Our PPO beside TRL's, from the same start and in turns: `ppo_against_trl.py --case a b c d`.

Prints what each step takes, and leaves one result for each case. TRL trains a critic of its own, as
ours does with `Separate`; `SharedTrunk` is the algorithm of TRL 0.x and is compared with the same
TRL in a table of its own.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from floor import Decoder, Rates, StepFloor, step_floor
from ppo_ours import start_of
from ppo_start import CASES, LORA_RANK, Case, prompts_of, response_lengths
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
from trl_release import WITH_PPO, Release
from turns import ALLOCATOR, Measured, Side, environment, ours, take_turns

HERE = Path(__file__).parent
TRL = "TRL"
CRITICS = ("Separate", "SharedTrunk")
STAGES = ("rollout", "reference", "value", "score", "update")
GIB = 2**30

MEMORY = "memory of TRL's"

Sides = dict[str, Measured]


def measure(name: str, start: Path, threads: int, trl: Release, asked: argparse.Namespace) -> Sides:
    """Let TRL and ours step in turns."""
    common = ("--case", name, "--threads", str(threads), "--start", str(start), "--paced")
    sides = [Side(TRL, (str(HERE / "ppo_trl.py"), *common), environment(threads, trl.environment))]
    for critic in asked.critic:
        settings = ("--critic", critic, "--rates", "--ppo", asked.ppo)
        program = (str(HERE / "ppo_ours.py"), *common, *settings)
        sides.append(Side(critic, program, ours(threads)))
    return take_turns(sides, asked.rounds)


def critic_table(critic: str, case: Case, found: dict[int, Sides]) -> Table:
    """Return TRL beside one of our critics."""
    rows: list[tuple[Cell, ...]] = []
    for threads, sides in found.items():
        for name, label in ((TRL, TRL), (critic, "ours")):
            rows.append((threads, label, *_row(case, sides[name], sides[TRL])))
    title = f"critic {critic}, CPU seconds of a step"
    if critic != CRITICS[0]:
        title += f"; TRL {WITH_PPO} has no shared trunk: it is the same as above"
    columns = (
        *("threads", "side", *STAGES, "rest", "all", "wall s", "samples/s", "peak GiB"),
        *("times as fast (CPU)", "times as fast (wall)", MEMORY),
    )
    notes = (
        "TRL's update has all that no other stage has: log-probabilities and advantages, too.",
    )
    return Table(title, columns, tuple(rows), notes)


def headline(critic: str, compared: Table, floor: Table | None) -> str:
    """Return in a line how one of our critics compares on the fewest threads."""
    names = compared.columns
    ours = next(
        found
        for row in compared.rows
        if (found := dict(zip(names, row, strict=True)))["side"] == "ours"
    )
    told = (
        f"{critic}: {ours['times as fast (CPU)']:.3g} times as fast as TRL on "
        f"{ours['threads']} thread{'s' if ours['threads'] != 1 else ''}, in "
        f"{ours[MEMORY]:.2g} of its memory"
    )
    rows = floor.rows if floor is not None and ours["threads"] == 1 else ()
    over = {row[1]: row[4] for row in rows if row[0] == critic}
    if over:
        told += (
            f"; generation {over['generation']:.3g}, update {over['update']:.3g} times the floor"
        )
    return told


def _row(case: Case, side: Measured, trl: Measured) -> tuple[Cell, ...]:
    stages = [side.median(stage) for stage in STAGES]
    cpu, wall = side.median("total"), side.median("total", "wall")
    return (
        *(digits(seconds) for seconds in stages),
        digits(max(0.0, cpu - sum(stages))),
        digits(cpu),
        digits(wall),
        digits(case.prompts / wall),
        digits(side.peak_bytes / GIB),
        digits(trl.median("total") / cpu),
        digits(trl.median("total", "wall") / wall),
        digits(side.peak_bytes / trl.peak_bytes),
    )


def floor_table(case: Case, sides: Sides) -> Table:
    """Return how far our stages are from the least they can take on one thread."""
    rows: list[tuple[Cell, ...]] = []
    for critic, side in sides.items():
        if critic == TRL:
            continue
        rates = Rates(**side.facts["rates"])
        separate = critic == CRITICS[0]
        least = floor_of(case, rates, separate_critic=separate)
        torchs = replace(rates, training_flops=rates.torch_training_flops)
        torch_update = floor_of(case, torchs, separate_critic=separate).update
        for stage, floor, by_torch, took in (
            ("generation", least.generation, None, side.median("rollout")),
            ("update", least.update, torch_update, side.median("update")),
            ("all", least.total, None, side.median("total")),
        ):
            rows.append(
                (
                    critic,
                    stage,
                    digits(took),
                    digits(floor),
                    digits(took / floor),
                    None if by_torch is None else digits(took / by_torch),
                    digits(rates.flops / 1e9),
                    digits(rates.training_flops / 1e9),
                    digits(rates.torch_training_flops / 1e9),
                    digits(rates.read_bytes / GIB),
                    digits(rates.copied_bytes / GIB),
                )
            )
    columns = (
        *("critic", "stage", "CPU s", "floor s", "times the floor", "with torch's products"),
        *("forward GFLOP/s", "training GFLOP/s", "torch's", "read GiB/s", "copy GiB/s"),
    )
    products = (
        "The floor takes each product of a training pass at the rate of the faster of torch's "
        "library and oneDNN, over 512 rows; beside it stands the floor with torch's alone."
    )
    note = (
        "Where a rollout is one minibatch, the value stage keeps its pass as the first of the "
        "update, whose floor still counts it: an update may come out below its floor, and only "
        "the whole step tells the distance."
    )
    return Table("our distance to the floor, one thread", columns, tuple(rows), (products, note))


def floor_of(case: Case, rates: Rates, *, separate_critic: bool) -> StepFloor:
    """Return the least a step of a case can take at these rates."""
    rank = LORA_RANK if case.lora else 0
    model = Decoder(case.hidden, case.intermediate, case.layers, case.vocabulary, rank)
    lengths = list(zip(map(len, prompts_of(case)), response_lengths(case), strict=True))
    return step_floor(model, lengths, case.epochs, rates, separate_critic=separate_critic)


def result_of(
    name: str, found: dict[int, Sides], told: Conditions, asked: argparse.Namespace
) -> Result:
    """Return the result of one case."""
    case, label = CASES[name], asked.label
    compared = {critic: critic_table(critic, case, found) for critic in asked.critic}
    floor = floor_table(case, found[1]) if 1 in found else None
    settings = json.loads(asked.ppo)
    return Result(
        name=f"ppo-{name}{f'-{label}' if label else ''}",
        section=Section.TRAINING,
        title=f"PPO {name} against TRL {WITH_PPO}{f' ({label})' if label else ''}",
        measured=(
            f"A PPO step of {case.title}: the phase itself, DeepSpeed engines included, beside "
            "TRL's trainer, from the same weights and prompts, with responses of the same lengths, "
            "one minibatch to an epoch. Steps are taken in turns; a number is the median of "
            f"{asked.rounds} after a warm-up."
        ),
        command=command_line(
            "ppo_against_trl",
            argparse.Namespace(**vars(asked) | {"case": [name]}),
            options().parse_args([]),
            without=("start", "results"),
        ),
        headlines=tuple(
            headline(critic, table, floor) + (f"; with `{asked.ppo}`" if settings else "")
            for critic, table in compared.items()
        ),
        tables=(*compared.values(), *([floor] if floor is not None else [])),
        notes=(f"Fields of spec.ppo that are not the default: `{asked.ppo}`.",) if settings else (),
        conditions=told,
    )


def options() -> argparse.ArgumentParser:
    """Return what can be asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", nargs="+", choices=CASES, default=["a", "b", "c", "d"])
    parser.add_argument("--critic", nargs="+", choices=CRITICS, default=CRITICS)
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--start", type=Path, help="folder of the start of an only case")
    parser.add_argument("--label", default="", help="added to the names of the results")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--ppo", default="{}", help="JSON: fields of spec.ppo, for our side")
    return parser


def main(argv: Sequence[str]) -> None:
    """Measure cases one after the other; leave each one's result as soon as it is there."""
    asked = options().parse_args(argv)
    trl = Release(WITH_PPO)
    trl.ensure_installed(print)
    for name in asked.case:
        before, found = load(), dict[int, Sides]()
        with start_of(name, asked.start) as start:
            for threads in asked.threads:
                print(f"PPO {name}, threads: {threads}, load {load():g}", flush=True)
                found[threads] = measure(name, start, threads, trl, asked)
        told = conditions(before, versions={"trl": WITH_PPO}, settings=ALLOCATOR)
        print(f"left {record(result_of(name, found, told, asked), asked.results)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
