"""An attempt taken for dead wakes up after its successor has started, and changes nothing."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from launching import Launching
from one_start import Case, run_in_one_start
from resuming import merged_history, newest_checkpoint, resume_config, weights

from rlhf_trainer.contract import AttemptPaths, Phase, ResumedFrom, Workspace

STEPS, EVERY = 300, 10
CONFIG = {
    **resume_config(0),
    "sft": {"maximumSteps": STEPS, "epochs": 1000, "validateEverySteps": STEPS},
    "checkpoint": {"everySteps": EVERY, "keepLast": 2},
}
DEADLINE_SECONDS = 600


def until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)  # noqa: TID251 - waits for another process, which cannot call back


def newest(paths: AttemptPaths) -> int:
    return newest_checkpoint(paths) or 0


def everybody(launcher: subprocess.Popen[str], number: signal.Signals) -> None:
    tasks = Path(f"/proc/{launcher.pid}/task").glob("*/children")
    ranks = {pid for task in tasks for pid in task.read_text(encoding="utf-8").split()}
    for pid in (launcher.pid, *map(int, ranks)):
        os.kill(pid, number)


def resumed(paths: AttemptPaths) -> ResumedFrom:
    return ResumedFrom.model_validate_json(paths.resumed_from.read_text("utf-8"))


@pytest.mark.fault(
    "an old attempt wakes up after its successor has started",
    "nothing that counts changes; a third goes on from the second",
)
def test_attempt_that_wakes_up_late_changes_nothing_that_counts(
    toy_data: Path, tmp_path: Path
) -> None:
    launching = Launching(toy_data, tmp_path / "run")
    prepared = Workspace(launching.workspace).phase(1, Phase.PREPARATION)
    prepared.mkdir(parents=True)  # the undisturbed run points at it before it is filled
    beside = launching.beside(Phase.SFT)
    cases = [Case(launching, Phase.PREPARATION, CONFIG), Case(beside, Phase.SFT, CONFIG)]
    *_, whole = run_in_one_start(cases, tmp_path)
    assert whole.code == 0, whole.output[-3000:]

    first, first_paths = launching.start(Phase.SFT, CONFIG, 1)
    until(lambda: newest(first_paths) >= 2 * EVERY, first)
    everybody(first, signal.SIGSTOP)
    frozen_at = newest(first_paths)

    second, second_paths = launching.start(Phase.SFT, CONFIG, 2)
    until(lambda: newest(second_paths) > frozen_at, second)
    assert resumed(second_paths) == ResumedFrom(attempt=1, step=frozen_at)
    everybody(first, signal.SIGCONT)
    until(lambda: newest(first_paths) > frozen_at, first)
    everybody(second, signal.SIGKILL)
    second.communicate()
    reached = newest(second_paths)

    third = launching.run(Phase.SFT, CONFIG, 3)
    assert third.code == 0, third.output[-3000:]
    assert resumed(third.paths) == ResumedFrom(attempt=2, step=reached)
    output, _ = first.communicate()
    assert first.returncode in (0, 1), output[-3000:]
    assert weights(third.paths.model) == weights(whole.paths.model)
    line = merged_history([first_paths, second_paths, third.paths])
    assert line == merged_history([whole.paths])
