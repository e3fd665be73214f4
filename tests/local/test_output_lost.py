"""`rlhf run` whose terminal is closed, or whose output nobody reads any more."""

import os
import pty
import signal
import subprocess
from contextlib import suppress
from itertools import count
from typing import Any

from rlhf_operator.decide import Event
from rlhf_trainer.contract import Phase


def assert_paused(process: subprocess.Popen[str], bench: Any) -> None:
    assert process.returncode == 130
    assert bench.attempt(Phase.SFT).result.exists()
    status = bench.stored().status
    assert status.outcome is None
    assert status.phases[1].state == "Pending"
    assert status.phases[1].failures == 0


def drain(master: int) -> None:
    """Read what the terminal would show: a full one would block its writer."""
    with suppress(BlockingIOError):
        while os.read(master, 4096):
            pass


def test_run_terminal_closed_pauses(bench: Any) -> None:
    bench.plan(sft=[{"wait": True}])
    master, slave = pty.openpty()
    os.set_blocking(master, False)
    process = bench.start(stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    bench.wait_for(bench.attempt(Phase.SFT).progress, meanwhile=lambda: drain(master))
    os.close(master)
    # The kernel's, as the terminal goes, and a shell's, which passes it on.
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=60)
    assert_paused(process, bench)


def test_run_hung_up_again_is_no_second_wish(bench: Any) -> None:
    bench.plan(sft=[{"wait": True, "deaf": True}, {"exit": 0}])
    process = bench.start()
    bench.wait_for(bench.attempt(Phase.SFT).progress)
    process.send_signal(signal.SIGHUP)
    for line in process.stdout:
        if "interrupt again" in line:
            break
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out.count("ending the phase at once") == 1


def test_run_reader_gone_and_interrupted_pauses(bench: Any) -> None:
    bench.plan(sft=[{"wait": True}])
    process = bench.start()
    bench.wait_for(bench.attempt(Phase.SFT).progress)
    process.stdout.close()
    process.send_signal(signal.SIGINT)
    error = process.stderr.read()
    process.wait(timeout=60)
    process.stderr.close()
    assert error == ""
    assert_paused(process, bench)


def test_run_reader_gone_goes_on_to_its_end(bench: Any) -> None:
    reader, writer = os.pipe()
    process = bench.start(stdout=writer)
    os.close(writer)
    os.close(reader)
    _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (0, "")
    assert bench.stored().status.outcome == "Completed"


def test_drive_interruption_that_cannot_be_told_pauses(bench: Any, monkeypatch: Any) -> None:
    bench.plan(sft=[{"wait": True}])
    looks = count()

    def tell(event: Event) -> None:
        if event.reason == "Interrupted":
            raise LookupError

    def wait(_: object) -> None:
        assert next(looks) < 500, "it goes on"

    def look(_: object) -> None:
        if bench.attempt(Phase.SFT).progress.exists():
            os.kill(os.getpid(), signal.SIGTERM)
            bench.listener.at_look = wait

    monkeypatch.setattr(bench.listener, "tell", tell)
    bench.listener.at_look = look
    status = bench.drive()
    assert status.phase == "Suspended"
    assert bench.attempt(Phase.SFT).result.exists()
