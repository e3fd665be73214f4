"""The control groups of a node: its pods' groups lie below one of its own, removed at the end."""

import errno
import signal
from functools import partial
from pathlib import Path

from rlhf_harness.identity import ProcessId
from rlhf_harness.waiting import until

ROOT = Path("/sys/fs/cgroup")


def hierarchies() -> list[Path]:
    """The roots of all hierarchies: one with version 2, one per controller with version 1."""
    if (ROOT / "cgroup.controllers").exists():
        return [ROOT]
    return [path for path in sorted(ROOT.iterdir()) if path.is_dir() and not path.is_symlink()]


def make(name: str) -> None:
    """Make the group in every hierarchy, as a kubelet's `cgroupRoot` must be there before it."""
    for hierarchy in hierarchies():
        group = hierarchy / name
        _delegate(hierarchy)
        group.mkdir(exist_ok=True)
        for setting in ("cpuset.cpus", "cpuset.mems"):  # version 1: empty, and nothing may run
            if (hierarchy / setting).exists() and (group / setting).exists():
                inherited = (hierarchy / setting).read_text(encoding="utf-8")
                (group / setting).write_text(inherited, encoding="utf-8")


def _delegate(hierarchy: Path) -> None:
    """Version 2: groups below get the controllers that a kubelet asks for."""
    offered = hierarchy / "cgroup.controllers"
    if not offered.exists():
        return
    wanted = {"cpu", "cpuset", "hugetlb", "io", "memory", "pids"}
    names = sorted(wanted.intersection(offered.read_text(encoding="utf-8").split()))
    enabled = " ".join(f"+{name}" for name in names)
    (hierarchy / "cgroup.subtree_control").write_text(enabled, encoding="utf-8")


def remove(name: str) -> None:
    """Remove the group and those below; its processes have been ended before."""
    for hierarchy in hierarchies():
        until(partial(_removed, hierarchy / name), f"control group {name} to be empty")


def kill(name: str) -> None:
    """Kill every process in the group and below, until there are none."""
    until(partial(_killed, name), f"the processes of control group {name} to be gone")


def _killed(name: str) -> bool:
    pids = {
        int(pid)
        for hierarchy in hierarchies()
        for listed in (hierarchy / name).rglob("cgroup.procs")
        for pid in listed.read_text(encoding="utf-8").split()
    }
    for pid in pids:
        if process := ProcessId.of(pid):
            process.signal(signal.SIGKILL)
    return not pids


def _removed(group: Path) -> bool:
    if not group.exists():
        return True
    try:
        for child in (one for one in group.iterdir() if one.is_dir()):
            if not _removed(child):
                return False
        group.rmdir()
    except OSError as failed:
        if failed.errno not in {errno.EBUSY, errno.ENOENT}:
            raise
        return not group.exists()
    return True
