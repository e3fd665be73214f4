"""A volume that fills up or turns read-only: said clearly, and what was complete goes on."""

import errno
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest
import torch
from launching import Launching
from resuming import resume_config

from rlhf_trainer.contract import AttemptPaths, Phase, Result, ResumedFrom
from rlhf_trainer.engine.lineage import complete_steps
from rlhf_trainer.files import write_failure

VOLUME_BYTES = 64 * 2**20
LONG = {**resume_config(0), "sft": {"maximumSteps": 4000, "epochs": 1000}}


def until_saved(process: subprocess.Popen[str], paths: AttemptPaths) -> None:
    while not complete_steps(paths):
        assert process.poll() is None, process.communicate()[0]
        Event().wait(0.02)


def until(step: int) -> dict[str, object]:
    return {**LONG, "sft": {"maximumSteps": step, "epochs": 1000}}


@pytest.fixture
def volume(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    folder = tmp_path / "volume"
    folder.mkdir()
    if os.getuid() != 0:
        pytest.skip("only root can mount a volume")
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={VOLUME_BYTES}", "rlhf", folder], check=True
    )
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def launching(toy_data: Path, volume: Path) -> Launching:
    made = Launching(toy_data, volume / "run")
    assert made.run(Phase.PREPARATION, resume_config(0)).code == 0
    return made


def fill(volume: Path) -> Path:
    ballast = volume / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 65_536)
        except OSError:
            return ballast


def resumed_step(paths: AttemptPaths) -> int:
    record = ResumedFrom.model_validate_json(paths.resumed_from.read_text("utf-8"))
    assert record.attempt is not None
    return record.step


@pytest.mark.fault(
    "the volume is full",
    "a clear outcome; the last complete checkpoint goes on",
)
def test_full_volume_is_said_and_the_last_complete_checkpoint_goes_on(
    launching: Launching, volume: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = tmp_path / "termination-log"
    message.touch()
    monkeypatch.setenv("RLHF_TERMINATION_LOG", str(message))
    process, paths = launching.start(Phase.SFT, LONG)
    until_saved(process, paths)
    ballast = fill(volume)
    output, _ = process.communicate()
    assert process.returncode == 1, output[-3000:]
    verdict = Result.from_json(message.read_text("utf-8"))
    assert verdict.reason == "WorkspaceUnwritable", output[-3000:]
    assert "No space left" in verdict.message
    assert "make room" in verdict.message
    complete = complete_steps(paths)
    ballast.unlink()
    end = launching.run(Phase.SFT, until(complete[-1] + 2), attempt=2)
    assert end.code == 0, end.output[-3000:]
    assert resumed_step(end.paths) == complete[-1]


@pytest.mark.parametrize("size", [1, 4096, 2**20])
def test_torch_save_on_a_full_volume_is_known_as_that(volume: Path, size: int) -> None:
    fill(volume)
    with pytest.raises((RuntimeError, OSError)) as caught:
        torch.save({"values": torch.zeros(size)}, volume / "values.pt")
    cause = write_failure(caught.value, volume)
    assert isinstance(cause, OSError)
    assert cause.errno == errno.ENOSPC


@pytest.mark.fault(
    "the volume becomes read-only",
    "a clear outcome; nothing is lost",
)
def test_read_only_volume_is_said_and_loses_nothing(launching: Launching, volume: Path) -> None:
    config = LONG
    process, paths = launching.start(Phase.SFT, config)
    until_saved(process, paths)
    process.terminate()
    process.communicate()
    complete = complete_steps(paths)
    command, second = launching.command(Phase.SFT, config, 2)
    subprocess.run(["mount", "-o", "remount,ro", volume], check=True)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    subprocess.run(["mount", "-o", "remount,rw", volume], check=True)
    assert done.returncode == 1, done.stderr[-3000:]
    assert "Read-only file system" in done.stderr
    assert not second.root.exists()
    end = launching.run(Phase.SFT, until(complete[-1] + 2), attempt=3)
    assert end.code == 0, end.output[-3000:]
    assert resumed_step(end.paths) == complete[-1]
    assert json.loads(end.paths.result.read_text("utf-8"))["step"] == complete[-1] + 2
