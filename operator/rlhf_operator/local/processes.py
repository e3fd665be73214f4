"""Processes of an attempt: started with a mark in their environment, and found again by it.

torchrun gives each rank a session of its own, so a process group does not hold an attempt together;
the mark does, survives the death of the launcher and of `rlhf run`, and cannot be confused with a
reused process id. Needs Linux's /proc.
"""

import os
import select
import signal
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from rlhf_operator.errors import TrainerError

MARK = "RLHF_ATTEMPT_ROOT"
"""Environment variable that holds the attempt's folder in all of its processes."""

PROC = Path("/proc")

KILL_TIMEOUT_SECONDS = 10.0
"""How long a killed process may take to vanish: the kernel has to free all its memory."""


def start(command: Sequence[str], root: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start an attempt's launcher, its output going to `log`, beyond the reach of the terminal.

    Raises:
        TrainerError: it cannot be started.
    """
    environment = os.environ | {MARK: str(root)}
    with log.open("ab") as output:
        try:
            return subprocess.Popen(  # noqa: S603 -- our own launcher, no shell
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
        except OSError as error:
            raise TrainerError(f"{command[0]}: cannot be started ({error.strerror})") from error


def members(root: Path) -> list[int]:
    """Return the live processes of the attempt at `root`, or of all attempts below it."""
    return [int(entry.name) for entry in PROC.iterdir() if _is_marked(entry, root)]


def terminate(root: Path) -> None:
    """Ask the attempt's launcher, or what it left behind, to end."""
    pids = set(members(root))
    _send(signal.SIGTERM, (pid for pid in pids if _parent(pid) not in pids))


def kill(root: Path) -> None:
    """End all processes below `root` at once."""
    _send(signal.SIGKILL, members(root))


def kill_and_wait(root: Path, timeout_seconds: float) -> None:
    """End all processes below `root` and wait until they are gone."""
    descriptors = list(_watched(members(root)))
    try:
        kill(root)
        poller = select.poll()
        for descriptor in descriptors:
            poller.register(descriptor, select.POLLIN)
            poller.poll(timeout_seconds * 1000)
            poller.unregister(descriptor)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def exit_code(process: subprocess.Popen[bytes]) -> int | None:
    """Return the exit code of a process that has ended, a signal's as a shell would say it."""
    code = process.poll()
    return 128 - code if code is not None and code < 0 else code


def _is_marked(entry: Path, root: Path) -> bool:
    if not entry.name.isdigit():
        return False
    try:
        variables = (entry / "environ").read_bytes().split(b"\0")
    except OSError:
        # Gone in the meantime, or another user's: not ours.
        return False
    prefix = f"{MARK}={root}".encode()
    return any(entry == prefix or entry.startswith(prefix + b"/") for entry in variables)


def _parent(pid: int) -> int | None:
    try:
        text = (PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # The second field is a name in brackets and may contain anything.
    return int(text.rpartition(")")[2].split()[1])


def _send(number: signal.Signals, pids: Iterable[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _watched(pids: Iterable[int]) -> Iterator[int]:
    for pid in pids:
        with suppress(ProcessLookupError):
            yield os.pidfd_open(pid)
