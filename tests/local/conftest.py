"""A workspace, a plan for the stand-in launcher, and a clock that runs faster than the wall's."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import pytest

from rlhf_operator.api import RLHFRun, RunStatus
from rlhf_operator.api.manifest import parse_manifest
from rlhf_operator.cli.drive import drive
from rlhf_operator.decide import Event
from rlhf_operator.local import LocalBackend, RunStore, open_run
from rlhf_operator.local.processes import kill_and_wait
from rlhf_trainer.contract import AttemptPaths, Phase, Workspace

HERE = Path(__file__).parent
LAUNCHER = (sys.executable, str(HERE / "fake_launcher.py"))

MANIFEST = """\
apiVersion: rlhf.dev/v1alpha1
kind: RLHFRun
metadata: {name: demo}
spec:
  model: {source: base}
  data:
    demonstrations: {path: demonstrations.jsonl}
    comparisons: {path: comparisons.jsonl}
    prompts: {path: prompts.jsonl}
"""


@dataclass
class Listener:
    """Hears what is told, and may do something at every look."""

    told: list[Event] = field(default_factory=list)
    at_look: Callable[[RunStatus], None] = lambda _: None

    def tell(self, event: Event) -> None:
        self.told.append(event)

    def show(self, status: RunStatus) -> None:
        self.at_look(status)


@dataclass
class Bench:
    """One workspace and what is needed to run something in it."""

    folder: Path
    speed: float = 100.0
    """Seconds of the run's clock per second of the wall's."""
    listener: Listener = field(default_factory=Listener)
    _start: float = field(default_factory=monotonic)
    _started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def workspace(self) -> Workspace:
        return Workspace(self.folder / "workspace")

    @property
    def manifest(self) -> Path:
        return self.folder / "rlhfrun.yaml"

    def attempt(self, phase: Phase, number: int = 1) -> AttemptPaths:
        return self.workspace.attempt(1, phase, number)

    def plan(self, **acts: list[dict[str, Any]]) -> None:
        named = {name.replace("_", "-"): act for name, act in acts.items()}
        (self.folder / "plan.json").write_text(json.dumps(named))

    def now(self) -> datetime:
        elapsed = (monotonic() - self._start) * self.speed
        return datetime(2026, 11, 24, 12, tzinfo=UTC) + timedelta(seconds=elapsed)

    def backend(self) -> LocalBackend:
        return LocalBackend(self.workspace, self.folder, LAUNCHER)

    def open(self, *overrides: str, fresh: bool = False) -> RLHFRun:
        wanted = parse_manifest(MANIFEST, "rlhfrun.yaml", overrides)
        return open_run(RunStore(self.workspace, self.folder), wanted, fresh=fresh)

    def drive(self, *overrides: str, backend: LocalBackend | None = None) -> RunStatus:
        run = self.open(*overrides)
        return asyncio.run(drive(run, backend or self.backend(), self.listener, self.now))

    def start(self, root: Path | None = None, **streams: Any) -> subprocess.Popen[str]:
        """`rlhf run` as a process of its own; its workspace may be spelled as `root`."""
        arguments = [HERE / "fake_rlhf.py", self.manifest, root or self.workspace.root]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
        command = [sys.executable, *map(str, arguments)]
        self._started.append(subprocess.Popen(command, text=True, **streams))
        return self._started[-1]

    def close(self) -> None:
        """End what a test that failed has left behind."""
        for process in self._started:
            with process:
                process.kill()
        kill_and_wait(self.folder, 10)

    def wait_for(self, path: Path, meanwhile: Callable[[], object] = lambda: None) -> None:
        for _ in range(6000):
            if path.exists():
                return
            meanwhile()
            signal.sigtimedwait([], 0.01)
        pytest.fail(f"{path} did not appear")

    def stored(self) -> RLHFRun:
        run = RunStore(self.workspace, self.folder).load()
        assert run is not None
        return run


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr("rlhf_operator.cli.drive.POLL_SECONDS", 0.02)
    bench = Bench(tmp_path)
    bench.manifest.write_text(MANIFEST)
    yield bench
    bench.close()
