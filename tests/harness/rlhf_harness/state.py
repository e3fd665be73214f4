"""The folder of one cluster: everything that it writes, and the record of what must be ended.

Another process can end a cluster from this record alone, also when the one that started it was
killed.
"""

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rlhf_harness.errors import HarnessError
from rlhf_harness.identity import ProcessId
from rlhf_harness.sandbox_init import COVERED


def root() -> Path:
    """The folder of all clusters of this user: RLHF_TEST_STATE, or one under TMPDIR."""
    chosen = os.environ.get("RLHF_TEST_STATE")
    folder = Path(chosen or Path(tempfile.gettempdir()) / f"rlhf-harness-{os.getuid()}").resolve()
    if any(folder.is_relative_to(place) for place in ("/run", *COVERED)):
        raise HarnessError(
            f"RLHF_TEST_STATE={folder}: a sandbox hides {', '.join(('/run', *COVERED))}",
            "name a folder elsewhere, such as /tmp/clusters",
        )
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if folder.stat().st_uid != os.getuid():
        raise HarnessError(f"{folder} belongs to another user", "set RLHF_TEST_STATE")
    return folder


@contextmanager
def locked() -> Iterator[None]:
    """Hold the lock under which networks are chosen and leftovers are ended."""
    with (root() / "lock").open("a", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@dataclass
class State:
    """The folder and the record of one cluster."""

    name: str
    starter: ProcessId
    """The process that started it."""

    tied: bool = False
    """Whether it must not outlive that process."""

    sandbox: ProcessId | None = None
    link: str = ""
    """The network link on this machine's side; it goes with the sandbox."""

    cgroups: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)
    """Folders elsewhere, to be removed at the end."""

    processes: dict[str, ProcessId] = field(default_factory=dict)
    """The components by name."""

    entries: dict[str, ProcessId] = field(default_factory=dict)
    """The processes that brought components into the sandbox and wait outside for their end."""

    @property
    def folder(self) -> Path:
        """Everything that the cluster writes lies below."""
        return root() / self.name

    @property
    def logs(self) -> Path:
        """One file per component."""
        return self.folder / "logs"

    @property
    def pki(self) -> Path:
        """Certificates and keys."""
        return self.folder / "pki"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.folder / "admin.conf"

    @property
    def alive(self) -> bool:
        """Whether anything of it still runs."""
        known = [*self.processes.values(), *([self.sandbox] if self.sandbox else [])]
        return any(one.alive for one in known)

    @property
    def stale(self) -> bool:
        """Whether it was left behind: by who started it, or dead in itself."""
        return not self.starter.alive and (self.tied or not self.alive)

    def write(self, path: str, text: str, mode: int = 0o600) -> Path:
        """Write a file of the cluster, made with its folders."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        target.chmod(mode)
        return target

    def save(self) -> None:
        """Write the record; whole or not at all."""
        partial = self.write("cluster.json.partial", json.dumps(asdict(self), indent=1))
        partial.replace(self.folder / "cluster.json")

    def remove(self) -> None:
        """Remove what was written, here and elsewhere."""
        for folder in (*self.leftovers, str(self.folder)):
            shutil.rmtree(folder, ignore_errors=True)


def load(name: str) -> State | None:
    """The record of a cluster; None if there is none."""
    try:
        text = (root() / name / "cluster.json").read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    kept: dict[str, Any] = json.loads(text)
    return State(
        name=name,
        starter=ProcessId(**kept["starter"]),
        tied=kept["tied"],
        sandbox=ProcessId(**kept["sandbox"]) if kept["sandbox"] else None,
        link=kept["link"],
        cgroups=kept["cgroups"],
        leftovers=kept["leftovers"],
        processes={one: ProcessId(**process) for one, process in kept["processes"].items()},
        entries={one: ProcessId(**process) for one, process in kept["entries"].items()},
    )


def load_all() -> list[State]:
    """The records of all clusters of this user."""
    names = sorted(path.parent.name for path in root().glob("*/cluster.json"))
    return [state for name in names if (state := load(name)) is not None]
