"""Sees to it that no rank, and nothing a rank started, outlives its launcher. Linux only.

Two ways, as a launcher may be killed at any time: the kernel kills a rank whose launcher has died,
and a launcher that ends by itself ends everything below it first.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event

LAUNCHER_PID_VARIABLE = "RLHF_LAUNCHER_PID"
"""Set by the launcher for its ranks."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
"""Of <linux/prctl.h>."""

_ENDED = "Z"
"""State of a process that has ended and only waits for its exit code to be asked for."""

_PASSES = 50
_SECONDS_BETWEEN_PASSES = 0.1
"""A killed process takes a moment to end, and its children show up only then."""


def die_with_parent() -> None:
    """Have the kernel kill this process when its launcher dies; a rank calls it first of all.

    A process without a launcher is left alone.
    """
    launcher = os.environ.get(LAUNCHER_PID_VARIABLE)
    if launcher is None or sys.platform != "linux":
        return
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(launcher):
        # It died before the kernel was asked.
        os.kill(os.getpid(), signal.SIGKILL)


def adopt_orphans() -> None:
    """Become the parent of every process below this one that loses its own."""
    if sys.platform == "linux":
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def has_children() -> bool:
    """Tell whether any process below this one still runs."""
    return next(_children(), None) is not None


def end_children() -> None:
    """Kill everything below this process, level by level, and wait for it to be gone."""
    pause = Event()
    for _ in range(_PASSES):
        children = list(_children())
        if not children:
            return
        for child in children:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        pause.wait(_SECONDS_BETWEEN_PASSES)


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"prctl({option}): {os.strerror(error)}")


def _children() -> Iterator[int]:
    me = os.getpid()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            # "pid (name) state ppid …", and the name may hold anything.
            fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            if int(fields[1]) == me and fields[0] != _ENDED:
                yield int(stat.parent.name)
