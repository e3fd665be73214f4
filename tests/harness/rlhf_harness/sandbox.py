"""A place of its own for a cluster: namespaces for the network, mounts and process numbers.

    this machine                      sandbox
    rlhf-<i>  10.244.<i>.254  -----  uplink in bridge `pods`, 10.244.<i>.1: components, node 1, DNS
                                     10.244.<i>.2 …                       : more nodes
                                     10.244.<i>.16 …                      : pods

This machine is a neighbour of the pods, so tests reach them by their addresses. There is no way
out: nothing in a cluster can reach anything but this machine.
"""

import json
import logging
import os
import subprocess
import sys
from ipaddress import IPv4Network
from pathlib import Path

from rlhf_harness import cgroups, sandbox_init
from rlhf_harness.commands import run, succeeds
from rlhf_harness.errors import HarnessError, UnavailableError
from rlhf_harness.identity import ProcessId, child_of
from rlhf_harness.placement import Ports
from rlhf_harness.state import State
from rlhf_harness.waiting import until

_logger = logging.getLogger(__name__)

BRIDGE = "pods"
_HARDWARE_ADDRESS = "02:00:00:00:00:01"

_LINK_SECONDS = 180
"""Longest end of a network: the kernel takes pods' down one by one, when it has time."""

_NAMESPACES = ["--mount", "--net", "--pid"]


def possible() -> bool:
    """Whether this process may make namespaces and network links."""
    attempt = f"ip link add {BRIDGE} type bridge && mount -t tmpfs tmpfs /run"
    unshare = ["unshare", *_NAMESPACES, "--fork", "--mount-proc", "sh", "-ec", attempt]
    return os.geteuid() == 0 and succeeds(unshare)


class Sandbox:
    """One cluster's namespaces. Killing their first process gives everything back."""

    isolated = True

    def __init__(self, state: State) -> None:
        self._state = state
        self._process: subprocess.Popen[bytes] | None = None
        index, self.pods, self.services = _free_networks()
        self.link = f"rlhf-{index}"
        self.address, self.machine_address = str(self.pods[1]), str(self.pods[254])
        self.ports = Ports()

    def start(self) -> None:
        """Make the namespaces and the network; call under the lock that keeps networks apart."""
        self._unshare()
        machine = f"{self.machine_address}/{self.pods.prefixlen}"
        first = str(self._first)
        _ip("link", "add", self.link, "type", "veth", "peer", "name", "uplink", "netns", first)
        self._inside("link", "set", "lo", "up")
        # Of its own accord a bridge takes its smallest member's hardware address, and another one
        # with the next pod: until this machine noticed, it would reach nobody.
        self._inside("link", "add", BRIDGE, "address", _HARDWARE_ADDRESS, "type", "bridge")
        self._inside("link", "set", "uplink", "master", BRIDGE, "up")
        self.add_address(self.address)
        self._inside("link", "set", BRIDGE, "up")
        _ip("address", "add", machine, "dev", self.link)
        _ip("link", "set", self.link, "up")
        _ip("route", "add", str(self.services), "via", self.address)

    def stop(self) -> None:
        """Kill the first process, and with it everything; return when nothing is left."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        end(self._state)

    def command(self, argv: list[str]) -> list[str]:
        """Run `argv` inside."""
        return inside(self._state, argv)

    def add_address(self, address: str) -> None:
        """Give the sandbox one more address on the pods' network, for one more node."""
        self._inside("address", "add", f"{address}/{self.pods.prefixlen}", "dev", BRIDGE)

    def _unshare(self) -> None:
        ready = self._state.folder / "sandbox.ready"
        tied = ["setpriv", "--pdeathsig", "KILL"] if self._state.tied else []
        argv = [*tied, "unshare", *_NAMESPACES, "--fork", "--kill-child", "--mount-proc",
                "--propagation", "private", sys.executable, "-I", str(sandbox_init.__file__),
                str(ready)]  # fmt: skip
        log = self._state.logs / "sandbox.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        process = self._process
        self._state.sandbox = ProcessId.of(process.pid)
        self._state.link = self.link
        self._state.save()
        until(
            lambda: ready.exists() or process.poll() is not None, "the sandbox", every_seconds=0.02
        )
        if process.poll() is not None:
            raise HarnessError(f"the sandbox did not start: {log.read_text(encoding='utf-8')}")

    @property
    def _first(self) -> int:
        return _first(self._state)

    def _inside(self, *arguments: str) -> None:
        run(["nsenter", "--target", str(self._first), "--net", "ip", *arguments])


def inside(state: State, argv: list[str]) -> list[str]:
    """The command that runs `argv` in a sandbox, whoever started it."""
    return ["nsenter", "--target", str(_first(state)), *_NAMESPACES, "--", *argv]


def _first(state: State) -> int:
    """The first process of the namespaces, by its number outside."""
    found = child_of(state.sandbox.pid) if state.sandbox else None
    if found is None:
        raise HarnessError(f"cluster {state.name!r} does not run")
    return found


def end(state: State) -> None:
    """End a sandbox by its record: processes, then what the kernel does not remove by itself."""
    if state.sandbox is not None:
        state.sandbox.end(grace_seconds=0)
    for process in (*state.processes.values(), *state.entries.values()):
        process.end(grace_seconds=0)
    if state.link:
        link = Path("/sys/class/net") / state.link
        until(
            lambda: not link.exists(),
            f"network link {state.link} to be gone",
            timeout_seconds=_LINK_SECONDS,
        )
    for name in state.cgroups:
        cgroups.remove(name)


def _ip(*arguments: str) -> None:
    run(["ip", *arguments])


def _free_networks() -> tuple[int, IPv4Network, IPv4Network]:
    """Networks for pods and services that overlap with nothing this machine has a route to."""
    routes = json.loads(run(["ip", "-json", "-4", "route", "show", "table", "all"]))
    taken = [
        IPv4Network(route["dst"], strict=False)
        for route in routes
        if route["dst"] != "default" and not route["dst"].startswith("127.")
    ]
    for index in range(250):
        pods, services = IPv4Network(f"10.244.{index}.0/24"), IPv4Network(f"10.96.{index}.0/24")
        if not any(pods.overlaps(one) or services.overlaps(one) for one in taken):
            return index, pods, services
    raise UnavailableError(
        "no free network under 10.244.0.0/16 and 10.96.0.0/16", "end the clusters that hold them"
    )
