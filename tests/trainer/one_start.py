"""Many phases after one start of their ranks, as starting them takes most of a toy phase's time.

Phases, engines and files are the real ones; only the launcher is left out, and what it makes of the
ranks' ends. This file is also the program that each rank runs under torchrun.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launching import Ended, Launching

from rlhf_trainer.config.model import Device
from rlhf_trainer.contract import Phase, Result, Workspace
from rlhf_trainer.contract.outcomes import MAXIMUM_RESULT_BYTES
from rlhf_trainer.engine import ranks as process_group
from rlhf_trainer.launch.arguments import Arguments
from rlhf_trainer.phases.context import PhaseContext
from rlhf_trainer.phases.running import run_phase
from rlhf_trainer.telemetry.telemetry import RunInfo, Telemetry


@dataclass(frozen=True)
class Case:
    """Where a phase is run, which one, and how."""

    place: Launching
    phase: Phase
    config: dict[str, Any]
    attempt: int = 1


_MARK = "=== next case"


def run_in_one_start(cases: Sequence[Case], folder: Path) -> list[Ended]:
    """Run the cases one after the other, all by as many ranks as the first; return how they ended.

    A case may build on what an earlier one leaves.
    """
    started = [case.place.command(case.phase, case.config, case.attempt) for case in cases]
    file = folder / "cases.json"
    # What follows the program is the phase's own command line.
    file.write_text(json.dumps([command[3:] for command, _ in started]), "utf-8")
    output = torchrun(Path(__file__), cases[0].place.processes, str(file))
    outputs = output.split(_MARK)[1:]
    for _, paths in started:
        assert paths.result.stat().st_size <= MAXIMUM_RESULT_BYTES
    return [
        Ended(Result.from_json(paths.result.read_text("utf-8")).outcome.exit_code, paths, said)
        for (_, paths), said in zip(started, outputs, strict=True)
    ]


def torchrun(program: Path, ranks: int, *arguments: str) -> str:
    """Run a program of so many ranks; return what it wrote to its log."""
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
        *(f"--nproc-per-node={ranks}", str(program), *arguments),
    ]
    done = subprocess.run(
        command,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


def start_once() -> process_group.Ranks:
    """Join the process group, for all phases that this process runs."""
    ranks = process_group.start(Device.CPU)
    process_group.start = lambda _: ranks  # type: ignore[assignment] # started once
    process_group.stop = lambda: None
    return ranks


def run_case(argv: list[str], ranks: process_group.Ranks) -> Result:
    """Run the phase that a launcher's command line names, on this rank."""
    arguments = Arguments.parse(argv)
    info = RunInfo(arguments.run_name, arguments.phase, 1, arguments.attempt)
    arguments.paths.root.mkdir(parents=True, exist_ok=True)
    with Telemetry.open(arguments.paths, info, port=None, is_main=ranks.is_main) as telemetry:
        context = PhaseContext(
            config=arguments.load_config(),
            workspace=Workspace(arguments.workspace),
            data_root=arguments.data_root,
            phase=arguments.phase,
            iteration=1,
            attempt=arguments.attempt,
            telemetry=telemetry,
        )
        # Preparation is one rank's work.
        result = None if _is_idle(arguments.phase, ranks) else run_phase(context)
    if ranks.is_main and result is not None:
        context.paths.result.write_text(result.to_json(), encoding="utf-8")
    ranks.barrier()
    return Result.from_json(context.paths.result.read_text(encoding="utf-8"))


def _is_idle(phase: Phase, ranks: process_group.Ranks) -> bool:
    return phase is Phase.PREPARATION and not ranks.is_main


def main(cases: Path) -> None:
    stop, ranks = process_group.stop, start_once()
    for argv in json.loads(cases.read_text(encoding="utf-8")):
        ranks.barrier()
        if ranks.is_main:
            print(_MARK, flush=True)  # noqa: T201 - tells the cases' output apart
        ranks.barrier()
        run_case(argv, ranks)
    stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
