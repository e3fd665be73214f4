"""A phase that is killed at a chosen moment: its KILL_AT-th file operation or heartbeat.

Such moments are the same in every run, and many of them lie within the writing of checkpoints.
"""

import os
import signal
import sys
from pathlib import Path
from threading import Event

from moments import Moments

from rlhf_trainer.__main__ import main

FOREVER_SECONDS = 600.0


def kill() -> None:
    kind, launcher = os.environ["KILL_KIND"], os.getppid()
    others = siblings(launcher)
    if kind == "sigterm":
        os.kill(launcher, signal.SIGTERM)
        return
    if kind == "launcher":
        os.kill(launcher, signal.SIGKILL)
        # The kernel ends this process once its parent has gone.
        Event().wait(FOREVER_SECONDS)
    if kind == "one-rank" and others:
        os.kill(others[-1], signal.SIGKILL)
        return
    for pid in (*others, os.getpid()):
        os.kill(pid, signal.SIGKILL)


def siblings(launcher: int) -> list[int]:
    tasks = Path(f"/proc/{launcher}/task").glob("*/children")
    children = {int(pid) for task in tasks for pid in task.read_text(encoding="utf-8").split()}
    return sorted(children - {os.getpid()})


if __name__ == "__main__":
    if os.environ["RANK"] == "0":
        at = int(os.environ.get("KILL_AT", "0"))
        Moments(os.environ["KILL_FOLDER"], lambda count: kill() if count == at else None).watch()
    sys.exit(main(sys.argv[1:]))
