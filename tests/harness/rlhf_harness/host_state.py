"""What a cluster could leave behind on this machine: read before and after, and compared.

A sandbox keeps nearly all of it from happening; this is how a test knows.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from rlhf_harness import cgroups, state
from rlhf_harness.commands import run

_PLACES = (
    "/etc/cni",
    "/opt/cni",
    "/opt/containerd",
    "/run/containerd",
    "/run/netns",
    "/var/lib/cni",
    "/var/lib/containerd",
    "/var/lib/kubelet",
    "/var/log/containers",
    "/var/log/pods",
    "/tmp/k8s-webhook-server",  # noqa: S108  only looked at
)
"""Where node components write unless they are kept from it."""

_SYSCTLS = ("kernel", "vm", "net/ipv4", "net/ipv6", "net/netfilter", "net/bridge")
_RESTLESS = ("kernel/random", "kernel/pty", "kernel/ns_last_pid", "kernel/perf", "/neigh/", "count")
"""Sysctls that change by themselves."""


@dataclass(frozen=True)
class HostState:
    """Everything of one kind as a set of lines; other clusters' things are left out."""

    links: frozenset[str]
    routes: frozenset[str]
    mounts: frozenset[str]
    control_groups: frozenset[str]
    processes: frozenset[str]
    sysctls: frozenset[str]
    packet_rules: frozenset[str]
    files: frozenset[str]

    @classmethod
    def read(cls, name: str) -> "HostState":
        """Read it now, with what belongs to the cluster `name` but to no other one."""
        others = [one for one in state.load_all() if one.name != name]
        foreign = [one.link for one in others if one.link]
        groups = {f"rlhf-{one.name}-" for one in others}
        return cls(
            links=frozenset(
                path.name for path in Path("/sys/class/net").iterdir() if path.name not in foreign
            ),
            routes=frozenset(
                line
                for line in run(["ip", "route", "show", "table", "all"]).splitlines()
                if not any(f"dev {link} " in f"{line} " for link in foreign)
                and "ff00::/8" not in line
            ),
            mounts=_lines("/proc/mounts"),
            control_groups=frozenset(
                str(path)
                for hierarchy in cgroups.hierarchies()
                for path in hierarchy.iterdir()
                if path.is_dir() and not any(path.name.startswith(one) for one in groups)
            ),
            processes=frozenset(_processes(name)),
            sysctls=frozenset(_sysctls(foreign)),
            packet_rules=frozenset(_packet_rules()),
            files=frozenset(str(path) for place in _PLACES for path in _tree(Path(place))),
        )

    def changes(self, later: "HostState") -> list[str]:
        """What was added and removed since; empty when all was given back."""
        told = []
        for kind in (one.name for one in fields(self)):
            before, after = getattr(self, kind), getattr(later, kind)
            told += [f"{kind}: added {line}" for line in sorted(after - before)]
            told += [f"{kind}: removed {line}" for line in sorted(before - after)]
        return told


def _lines(path: str) -> frozenset[str]:
    return frozenset(Path(path).read_text(encoding="utf-8").splitlines())


def _tree(place: Path) -> Iterator[Path]:
    if place.exists():
        yield place
        yield from place.rglob("*")


def _processes(name: str) -> Iterator[str]:
    """Processes that were started for the cluster, and those in its pods."""
    folder, group = f"{state.root() / name}/", f"/rlhf-{name}-"
    for entry in (one for one in Path("/proc").iterdir() if one.name.isdigit()):
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            groups = (entry / "cgroup").read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        if folder in command or group in groups:
            yield f"{entry.name} {command}"


def _sysctls(foreign_links: list[str]) -> Iterator[str]:
    """Settings of the machine, but not those of other clusters' network links."""
    for base in _SYSCTLS:
        for path in Path("/proc/sys", base).rglob("*"):
            name = str(path).removeprefix("/proc/sys/")
            skipped = any(word in name for word in (*_RESTLESS, *(f"/{x}/" for x in foreign_links)))
            if skipped or not path.is_file() or not path.stat().st_mode & 0o400:
                continue
            try:
                yield f"{name} = {path.read_text(encoding='utf-8').strip()}"
            except OSError:  # some settings can only be read in certain states
                continue


def _packet_rules() -> Iterator[str]:
    for command in (["nft", "list", "ruleset"], ["iptables-save"], ["ip6tables-save"]):
        if shutil.which(command[0]) is not None:
            lines = run(command).splitlines()
            yield from (line for line in lines if not line.startswith("#"))
