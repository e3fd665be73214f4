"""A phase that is killed at a chosen moment: its KILL_AT-th file operation or heartbeat.

Such moments are the same in every run, and many of them lie within the writing of checkpoints.
KILL_LOG names a file for their number, so that a run which is not killed tells how many there are.
"""

import os
import signal
import sys
from pathlib import Path
from threading import Event

from rlhf_trainer.__main__ import main
from rlhf_trainer.telemetry.telemetry import RecordingTelemetry

OPERATIONS = frozenset({"open", "os.rename", "os.mkdir", "os.remove", "os.link", "os.rmdir"})
ATTEMPT = os.environ["KILL_FOLDER"]
AT = int(os.environ.get("KILL_AT", "0"))
KIND = os.environ.get("KILL_KIND", "")
RANK = int(os.environ["RANK"])
FOREVER_SECONDS = 600.0


class Moments:
    """Counts moments, and kills at the chosen one."""

    def __init__(self) -> None:
        self.count = 0

    def pass_one(self) -> None:
        self.count += 1
        if self.count == AT:
            kill()

    def audited(self, event: str, arguments: tuple[object, ...]) -> None:
        if event not in OPERATIONS:
            return
        path = str(arguments[0])
        # Progress is written by the clock: such moments are not the same in every run.
        if ATTEMPT in path and "progress" not in path:
            self.pass_one()


def kill() -> None:
    launcher = os.getppid()
    others = siblings(launcher)
    if KIND == "sigterm":
        os.kill(launcher, signal.SIGTERM)
        return
    if KIND == "launcher":
        os.kill(launcher, signal.SIGKILL)
        # The kernel ends this process once its parent has gone.
        Event().wait(FOREVER_SECONDS)
    if KIND == "one-rank" and others:
        os.kill(others[-1], signal.SIGKILL)
        return
    for pid in (*others, os.getpid()):
        os.kill(pid, signal.SIGKILL)


def siblings(launcher: int) -> list[int]:
    tasks = Path(f"/proc/{launcher}/task").glob("*/children")
    children = {int(pid) for task in tasks for pid in task.read_text(encoding="utf-8").split()}
    return sorted(children - {os.getpid()})


def counted_heartbeats(moments: Moments) -> None:
    beat = RecordingTelemetry.heartbeat

    def heartbeat(self: RecordingTelemetry) -> None:
        beat(self)
        moments.pass_one()

    RecordingTelemetry.heartbeat = heartbeat  # type: ignore[method-assign]


if __name__ == "__main__":
    moments = Moments()
    if RANK == 0:
        counted_heartbeats(moments)
        sys.addaudithook(moments.audited)
    code = main(sys.argv[1:])
    if RANK == 0 and (log := os.environ.get("KILL_LOG")):
        Path(log).write_text(str(moments.count), encoding="utf-8")
    sys.exit(code)
