"""Which process is meant: a number is given to another process one day, with its start it is not.

Nothing in the harness signals a process by name or by a number alone.
"""

import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from rlhf_harness.errors import HarnessError
from rlhf_harness.waiting import until

_PARENT, _STARTED = 1, 19
"""Fields of /proc/<pid>/stat behind the command's closing parenthesis, counted from the state."""


@dataclass(frozen=True)
class ProcessId:
    """One process of this machine, for good."""

    pid: int
    started: int
    """Clock ticks after boot, from /proc."""

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """The process that has this number now; None if there is none, or only its remains."""
        fields = _stat(pid)
        return None if fields is None else cls(pid, int(fields[_STARTED]))

    @classmethod
    def own(cls) -> Self:
        """This process."""
        found = cls.of(os.getpid())
        if found is None:
            raise HarnessError("/proc does not show this process", "mount it")
        return found

    @property
    def alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        return ProcessId.of(self.pid) == self

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, unless it has ended."""
        if self.alive:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return

    def end(self, *, grace_seconds: float) -> None:
        """Ask it to end, end it if it does not within the grace period, return when it has."""
        if grace_seconds > 0:
            self.signal(signal.SIGTERM)
            with suppress(HarnessError):  # it did not listen: the next signal cannot be ignored
                until(lambda: not self.alive, "its end", timeout_seconds=grace_seconds)
        self.signal(signal.SIGKILL)
        until(lambda: not self.alive, f"process {self.pid} to be gone")


def child_of(parent: int) -> int | None:
    """The number of the first child of a process; None while it has none."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            fields = _stat(int(entry.name))
            if fields is not None and int(fields[_PARENT]) == parent:
                return int(entry.name)
    return None


def _stat(pid: int) -> list[str] | None:
    try:
        line = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = line.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields
