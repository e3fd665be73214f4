"""CPU seconds and memory of processes, as the kernel counts them."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_USER, _SYSTEM = 11, 12
"""Fields of /proc/<pid>/stat behind the command's closing parenthesis, counted from the state."""


OTHERS = "others here"
"""Processes that the measurement has not started."""

_MACHINE = "machine"


@dataclass(frozen=True)
class Memory:
    """Of one process, in MB."""

    resident: float
    peak: float


def cpu_seconds(pid: int) -> float:
    """Return the CPU time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[_USER]) + int(fields[_SYSTEM])) / _TICKS


def memory(pid: int) -> Memory:
    """Return the memory that a process holds and has held at most."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    found = dict(line.split(":", 1) for line in lines)
    return Memory(_megabytes(found["VmRSS"]), _megabytes(found["VmHWM"]))


def _megabytes(text: str) -> float:
    return round(int(text.split(maxsplit=1)[0]) * 1024 / 1e6, 1)


def machine_seconds() -> float:
    """Return the CPU time that all processes of the machine have used, on all cores."""
    line = Path("/proc/stat").read_text(encoding="utf-8").splitlines()[0]
    user, nice, system, _idle, _waiting, *interrupts = (int(one) for one in line.split()[1:8])
    return (user + nice + system + sum(interrupts)) / _TICKS


class Meter:
    """CPU seconds of several processes since a moment."""

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = dict(pids)
        self._began = self._all()

    def read(self) -> dict[str, float]:
        """Return what each has used since, and what all others on the machine have."""
        now = self._all()
        used = {name: round(seconds - self._began[name], 2) for name, seconds in now.items()}
        machine = used.pop(_MACHINE)
        return {**used, OTHERS: round(max(machine - sum(used.values()), 0.0), 2)}

    def _all(self) -> dict[str, float]:
        found = {name: cpu_seconds(pid) for name, pid in self._pids.items()}
        return {**found, _MACHINE: machine_seconds()}
