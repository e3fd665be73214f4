"""A phase killed at a moment and taken up again, held against one that ran in one go."""

import json
import os
import subprocess
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from launching import Ended, Launching
from one_start import torchrun
from safetensors.torch import load_file
from toy import training_config

from rlhf_trainer.contract import AttemptPaths, Phase, ResumedFrom, Workspace
from rlhf_trainer.engine.lineage import complete_steps

HERE = Path(__file__).parent
LAUNCHER = (
    "import sys; from rlhf_trainer.launch.launcher import main; "
    "sys.exit(main(sys.argv[1:], module='killed_phase'))"
)
PROGRAM = ("-c", LAUNCHER)
COUNTED = HERE / "counted_phases.py"
KINDS = ("one-rank", "all-ranks", "launcher", "sigterm")
ENDED_BY = {"one-rank": {137}, "all-ranks": {137}, "launcher": {-9}, "sigterm": {143, 0}}
PHASES = (Phase.SFT, Phase.REWARD_MODEL, Phase.PPO)
CLOCK_FIELDS = ("time", "stageSeconds")


def resume_config(zero_stage: int, **changes: Any) -> dict[str, Any]:
    """A toy run with enough steps and checkpoints to be killed between."""
    return training_config(
        deepspeed={"zeroStage": zero_stage},
        sft={"maximumSteps": 6, "validateEverySteps": 2},
        rewardModel={"maximumSteps": 6, "earlyStopping": {"validateEverySteps": 2}, "dropout": 0.1},
        ppo={"totalEpisodes": 16 * 4},
        checkpoint={"everySteps": 2, "keepLast": 2},
        **changes,
    )


@dataclass(frozen=True)
class Point:
    """Where a phase is killed, and how."""

    phase: Phase
    moment: int
    kind: str


@dataclass(frozen=True)
class Row:
    """What became of a phase that was killed."""

    point: Point
    code: int
    resumed_step: int | None
    differences: tuple[str, ...]

    def __str__(self) -> str:
        """Return the row of a table."""
        verdict = "equal" if not self.differences else f"DIFFERENT: {', '.join(self.differences)}"
        where = "nothing" if self.resumed_step is None else f"step {self.resumed_step}"
        return (
            f"{self.point.phase.slug:<13} moment {self.point.moment:>4} {self.point.kind:<10} "
            f"exit {self.code:>4}, went on from {where:<8} {verdict}"
        )

    def cells(self) -> dict[str, Any]:
        """Return what is kept of the row."""
        return {
            "phase": self.point.phase.value,
            "moment": self.point.moment,
            "kill": self.point.kind,
            "exitCode": self.code,
            "resumedStep": self.resumed_step,
            "isEqual": not self.differences,
        }


class Resuming:
    """All phases of one run, undisturbed, and copies of it that are killed."""

    def __init__(
        self,
        data_root: Path,
        folder: Path,
        processes: int,
        zero_stage: int,
        lora: dict[str, Any] | None = None,
    ) -> None:
        model = {"source": "base", **({"lora": lora} if lora else {})}
        self.config = resume_config(zero_stage, model=model)
        self.whole = Launching(data_root, folder / "whole", processes, PROGRAM)
        self.folder = folder
        ranks = "1 rank" if processes == 1 else f"{processes} ranks"
        self.shape = f"{ranks}, ZeRO {zero_stage}{', LoRA' if lora else ''}"
        self.moments: dict[Phase, int] = {}

    def prepare(self) -> None:
        """Run all phases in one go, and count their moments."""
        phases = (Phase.PREPARATION, *PHASES)
        cases, log = self.folder / "cases.json", self.folder / "moments.json"
        commands = [self.whole.command(phase, self.config)[0] for phase in phases]
        # What follows the program is the phase's own command line.
        cases.write_text(json.dumps([command[1 + len(PROGRAM) :] for command in commands]), "utf-8")
        torchrun(COUNTED, self.whole.processes, str(cases), str(log))
        self.moments = dict(zip(phases, json.loads(log.read_text("utf-8")), strict=True))

    def points(self, phase: Phase, count: int, seed: int) -> list[Point]:
        """Return moments spread over the phase, all kinds of kill in turn."""
        first = list(Phase).index(phase)
        rng = np.random.default_rng([seed, first])
        edges = np.linspace(1, self.moments[phase] + 1, count + 1).astype(int)
        return [
            Point(
                phase,
                int(rng.integers(low, max(high, low + 1))),
                # So that a single point of PPO is a kill, which leaves no time to complete.
                KINDS[(first + 1 + index) % len(KINDS)],
            )
            for index, (low, high) in enumerate(pairwise(edges))
        ]

    def kill_and_resume(self, point: Point) -> Row:
        """Kill an attempt at the point, let the next one go on, and compare."""
        copy = self.whole.beside(point.phase)
        killed = self._run(copy, point.phase, KILL_AT=str(point.moment), KILL_KIND=point.kind)
        assert killed.code in ENDED_BY[point.kind], killed.output[-3000:]
        if killed.code == 0:
            return Row(point, 0, None, tuple(self._differences(point.phase, copy, 1)))
        resumed = self._run(copy, point.phase, attempt=2)
        assert resumed.code == 0, resumed.output[-3000:]
        record = ResumedFrom.model_validate_json(resumed.paths.resumed_from.read_text("utf-8"))
        step = None if record.attempt is None else record.step
        return Row(point, killed.code, step, tuple(self._differences(point.phase, copy, 2)))

    def _run(self, launching: Launching, phase: Phase, attempt: int = 1, **extra: str) -> Ended:
        folder = Workspace(launching.workspace).attempt(1, phase, attempt).root
        path = f"{HERE}:{os.environ.get('PYTHONPATH', '')}"
        environment = {"PYTHONPATH": path, "KILL_FOLDER": str(folder), **extra}
        command, paths = launching.command(phase, self.config, attempt)
        done = subprocess.run(
            command,
            env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return Ended(done.returncode, paths, done.stdout + done.stderr)

    def _differences(self, phase: Phase, copy: Launching, attempt: int) -> list[str]:
        expected = Workspace(self.whole.workspace).attempt(1, phase, 1)
        attempts = [Workspace(copy.workspace).attempt(1, phase, n + 1) for n in range(attempt)]
        last = attempts[-1]
        pairs = {
            "weights": (weights(expected.model), weights(last.model)),
            "result": (result(expected), result(last)),
            "history": (merged_history([expected]), merged_history(attempts)),
        }
        final = newest_checkpoint(expected)
        if final is not None and newest_checkpoint(last) is not None:
            theirs = last.checkpoint(newest_checkpoint(last) or 0)
            mine = expected.checkpoint(final)
            pairs["state"] = (state(mine), state(theirs))
        return [name for name, (one, other) in pairs.items() if one != other]


def weights(folder: Path) -> dict[str, bytes]:
    """Return a model's tensors, bit for bit."""
    (file,) = folder.glob("*.safetensors")
    tensors = load_file(file)
    return {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}


def result(paths: AttemptPaths) -> dict[str, Any]:
    """Return how an attempt ended, without times and places."""
    found: dict[str, Any] = json.loads(paths.result.read_text("utf-8"))
    return {name: found[name] for name in ("outcome", "step", "metrics", "certifiedStep")}


def merged_history(attempts: list[AttemptPaths]) -> list[dict[str, Any]]:
    """Return one line of records: each attempt goes on where the next one took over."""
    merged: list[dict[str, Any]] = []
    for paths in attempts:
        records = []
        if paths.history.exists():
            records = [json.loads(line) for line in paths.history.read_text("utf-8").splitlines()]
        if records:
            merged = [one for one in merged if one["step"] < records[0]["step"]] + records
    return [{k: v for k, v in one.items() if k not in CLOCK_FIELDS} for one in merged]


def newest_checkpoint(paths: AttemptPaths) -> int | None:
    return max(complete_steps(paths), default=None)


def state(folder: Path) -> tuple[dict[str, Any], list[bytes]]:
    """Return what a checkpoint says besides weights: state, and every rank's generators."""
    generators = [
        torch.load(path, weights_only=True)["cpu"].numpy().tobytes()
        for path in sorted(folder.glob("generators-*.pt"))
    ]
    return json.loads((folder / "state.json").read_text("utf-8")), generators
