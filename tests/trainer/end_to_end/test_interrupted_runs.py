"""`rlhf run` on the toy run, with real phases killed, interrupted and started twice."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from toy import training_config

from rlhf_trainer.contract import AttemptPaths, Phase, Workspace

RLHF = [str(Path(sys.executable).with_name("rlhf")), "run"]
DEADLINE_SECONDS = 600
Start = Callable[[Path, Path], "subprocess.Popen[str]"]
LONG_SFT = {"sft": {"epochs": 100, "maximumSteps": 300}}


def write_manifest(data_root: Path, name: str, **changes: Any) -> Path:
    manifest = {
        "apiVersion": "rlhf.dev/v1alpha1",
        "kind": "RLHFRun",
        "metadata": {"name": name},
        "spec": training_config(**changes),
    }
    path = data_root / f"{name}.yaml"
    path.write_text(json.dumps(manifest), encoding="utf-8")  # JSON is YAML 1.2
    return path


@pytest.fixture
def start() -> Iterator[Start]:
    """Start `rlhf run`; what a failed test leaves running is ended."""
    started: list[subprocess.Popen[str]] = []

    def start_run(manifest: Path, workspace: Path) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*RLHF, str(manifest), f"--workspace={workspace}"],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            # A shell that runs the tests in the background ignores it for all its children.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
        )
        started.append(process)
        return process

    yield start_run
    for process in started:
        if process.poll() is None:
            process.terminate()
            process.communicate()


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, f"not within {DEADLINE_SECONDS} s"
        time.sleep(0.1)  # noqa: TID251 - waits for another process, which cannot call back


def attempt(workspace: Path, phase: Phase, number: int = 1) -> AttemptPaths:
    return Workspace(workspace).attempt(1, phase, number)


def steps(paths: AttemptPaths) -> int:
    return len(paths.history.read_text("utf-8").splitlines()) if paths.history.exists() else 0


def ranks(workspace: Path) -> list[int]:
    found = subprocess.run(
        ["pgrep", "-f", "--", rf"-m rlhf_trainer sft .*{workspace}"],
        capture_output=True,
        text=True,
        check=True,
    )
    return [int(line) for line in found.stdout.split()]


def sft_attempts(workspace: Path) -> int:
    status = json.loads((workspace / "run.json").read_text("utf-8"))["status"]
    entry = next(entry for entry in status["phases"] if entry["phase"] == Phase.SFT)
    return int(entry["attempts"])


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return tmp_path / "run"


def test_killed_rank_is_retried_and_an_interrupted_run_goes_on_with_the_same_command(
    toy_data: Path, workspace: Path, start: Start
) -> None:
    manifest = write_manifest(toy_data, "disturbed", **LONG_SFT)
    run = start(manifest, workspace)
    wait_until(lambda: steps(attempt(workspace, Phase.SFT)) > 0, run)
    for pid in ranks(workspace):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: steps(attempt(workspace, Phase.SFT, 2)) > 0, run)
    second = subprocess.run(
        [*RLHF, str(manifest), f"--workspace={workspace}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert second.returncode == 42, second.stdout
    run.send_signal(signal.SIGINT)
    output, _ = run.communicate()
    assert run.returncode == 130, output
    assert sft_attempts(workspace) == 2
    prepared = attempt(workspace, Phase.PREPARATION).result.stat().st_mtime_ns
    resumed = start(manifest, workspace)
    output, _ = resumed.communicate()
    assert resumed.returncode == 0, output
    assert attempt(workspace, Phase.PREPARATION).result.stat().st_mtime_ns == prepared
    assert sft_attempts(workspace) == 3
    assert attempt(workspace, Phase.SFT, 3).model.exists()
    assert attempt(workspace, Phase.EVALUATION).result.exists()
