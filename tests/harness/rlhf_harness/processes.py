"""The components of a cluster as processes that tests may kill, pause and start again."""

import logging
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rlhf_harness.errors import HarnessError
from rlhf_harness.identity import ProcessId, child_of
from rlhf_harness.packages import SEARCH
from rlhf_harness.placement import Placement
from rlhf_harness.state import State
from rlhf_harness.waiting import until

_logger = logging.getLogger(__name__)

_START_SECONDS = 120
"""Longest start of one component on a machine that is busy with other work."""


_END_SECONDS = 30


@dataclass(frozen=True, kw_only=True)
class Command:
    """How one component is started, and how to see that it works."""

    name: str
    argv: list[str]
    ready: Callable[[], bool]
    environment: Mapping[str, str] = field(default_factory=dict)


class Component:
    """One component: started, killed, paused and restarted by name."""

    def __init__(self, command: Command, placement: Placement, state: State) -> None:
        self.command = command
        self._placement = placement
        self._state = state
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def name(self) -> str:
        """The component's name, as in its log file."""
        return self.command.name

    @property
    def log(self) -> Path:
        """Everything that it wrote, over all its starts."""
        return self._state.logs / f"{self.name}.log"

    @property
    def id(self) -> ProcessId:
        """The process itself, by its number on this machine."""
        found = self._state.processes.get(self.name)
        if found is None:
            raise HarnessError(f"{self.name} was never started")
        return found

    @property
    def running(self) -> bool:
        """Whether its process lives."""
        return self.name in self._state.processes and self.id.alive

    def start(self) -> None:
        """Start it and return when it works."""
        began = time.monotonic()
        self.spawn()
        self.wait_ready()
        _logger.info("  %s in %.1f s", self.name, time.monotonic() - began)

    def spawn(self) -> None:
        """Start its process and do not wait until it works."""
        if self.running:
            raise HarnessError(f"{self.name} already runs as process {self.id.pid}")
        self.reap()
        tie = self._state.tied and not self._placement.isolated
        argv = self._placement.command(self.command.argv)
        environment = {
            "PATH": SEARCH,
            "HOME": str(self._state.folder),
            "TMPDIR": os.environ.get("TMPDIR", "/tmp"),  # noqa: S108  only the fallback
            **self.command.environment,
        }
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                [*(["setpriv", "--pdeathsig", "KILL"] if tie else []), *argv],
                env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip
        self._record(self._process)

    def wait_ready(self) -> None:
        """Return when it works; HarnessError with the end of its log if it ends or does not."""

        def decided() -> bool:
            return not self.id.alive or self.command.ready()

        try:
            until(decided, f"{self.name} to work", timeout_seconds=_START_SECONDS)
        except HarnessError as late:
            raise HarnessError(f"{late}; its log ends with:\n{self.log_end()}") from late
        if not self.id.alive:
            raise HarnessError(f"{self.name} has ended; its log ends with:\n{self.log_end()}")

    def stop(self, *, grace_seconds: float = 10) -> None:
        """Ask it to end, and return when it has."""
        self.id.end(grace_seconds=grace_seconds)
        self.reap()

    def kill(self) -> None:
        """End it as a crash would, and return when it has."""
        self.stop(grace_seconds=0)

    def restart(self, command: Command | None = None) -> None:
        """Kill it and start it again, with another command line if one is given."""
        self.kill()
        self.command = command or self.command
        self.start()

    def pause(self) -> None:
        """Stop it in its tracks: it keeps its connections and answers nothing."""
        self.id.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        self._state.entries[self.name].signal(signal.SIGCONT)  # nsenter stops with its child
        self.id.signal(signal.SIGCONT)

    def log_end(self, characters: int = 3000) -> str:
        """The last of what it wrote."""
        return self.log.read_text(encoding="utf-8", errors="replace")[-characters:]

    def reap(self) -> None:
        """Collect what is left once the process has been ended, by whatever means."""
        entry = self._state.entries.get(self.name)
        if entry is None or self._process is None:
            return
        entry.signal(signal.SIGCONT)
        # Only its end tells that the last thread is gone, and with it the ports that it held.
        self._process.wait(timeout=_END_SECONDS)

    def _record(self, started: subprocess.Popen[bytes]) -> None:
        """Note the component's process: in a sandbox it is the child of the one started here."""
        inner: int | None = None if self._placement.isolated else started.pid

        def known() -> bool:
            nonlocal inner
            inner = inner or child_of(started.pid)
            return inner is not None or started.poll() is not None

        until(known, f"{self.name} to be started", every_seconds=0.02)
        entry, process = ProcessId.of(started.pid), ProcessId.of(inner or started.pid)
        if entry is None or process is None:
            started.wait()
            raise HarnessError(f"{self.name} ended at once:\n{self.log_end()}")
        self._state.entries[self.name] = entry
        self._state.processes[self.name] = process
        self._state.save()
