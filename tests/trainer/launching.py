"""Starting phases through the launcher, as a container or `rlhf run` does."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

from rlhf_trainer.contract import AttemptPaths, Phase, Result, Workspace
from rlhf_trainer.contract.outcomes import MAXIMUM_RESULT_BYTES

_NUMBERS = count(1)


@dataclass(frozen=True)
class Ended:
    """A launcher that has ended."""

    code: int
    paths: AttemptPaths
    output: str

    @property
    def result(self) -> Result:
        return Result.from_json(self.paths.result.read_text(encoding="utf-8"))

    @property
    def history(self) -> list[dict[str, Any]]:
        text = self.paths.history.read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]


@dataclass(frozen=True)
class Launching:
    """A workspace in which phases are started one after the other."""

    data_root: Path
    workspace: Path
    processes: int = 1
    program: tuple[str, ...] = ("-m", "rlhf_trainer.launch")

    def beside(self, phase: Phase) -> "Launching":
        """Return another workspace in which all phases before `phase` are those of this one."""
        number = next(_NUMBERS)
        other = self.workspace.with_name(f"{self.workspace.name}-beside-{number}")
        iteration = other / "iteration-1"
        iteration.mkdir(parents=True)
        for before in list(Phase)[: list(Phase).index(phase)]:
            folder = self.workspace / "iteration-1" / before.slug
            if folder.exists():
                (iteration / before.slug).symlink_to(folder)
        return replace(self, workspace=other)

    def command(
        self, phase: Phase, config: dict[str, Any], attempt: int = 1
    ) -> tuple[list[str], AttemptPaths]:
        self.workspace.mkdir(parents=True, exist_ok=True)
        file = self.workspace / f"config-{phase.slug}-{attempt}.json"
        file.write_text(json.dumps(config), encoding="utf-8")
        arguments = [
            *(phase.slug, f"--config={file}", f"--workspace={self.workspace}"),
            *(f"--data-root={self.data_root}", f"--attempt={attempt}", "--run-name=toy"),
            *(f"--processes={self.processes}", "--metrics-port=0", "--grace-seconds=30"),
        ]
        paths = Workspace(self.workspace).attempt(1, phase, attempt)
        return [sys.executable, *self.program, *arguments], paths

    def start(
        self,
        phase: Phase,
        config: dict[str, Any],
        attempt: int = 1,
        *,
        prefix: Sequence[str] = (),
    ) -> tuple[subprocess.Popen[str], AttemptPaths]:
        command, paths = self.command(phase, config, attempt)
        process = subprocess.Popen(
            [*prefix, *command],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        return process, paths

    def run(
        self,
        phase: Phase,
        config: dict[str, Any],
        attempt: int = 1,
        *,
        prefix: Sequence[str] = (),
    ) -> Ended:
        process, paths = self.start(phase, config, attempt, prefix=prefix)
        output, _ = process.communicate()
        if paths.result.exists():
            assert paths.result.stat().st_size <= MAXIMUM_RESULT_BYTES
        return Ended(process.returncode, paths, output)
