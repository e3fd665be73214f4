"""Where the processes of a cluster run, and under which addresses they are reached.

With the rights for it, a cluster lives in a sandbox: own network, own mounts, own process numbers.
Whatever happens inside ends with it, and two clusters cannot disturb each other. Without them a
control plane still runs, as plain processes; real nodes do not.
"""

import socket
from contextlib import ExitStack
from dataclasses import dataclass, fields
from ipaddress import IPv4Network
from typing import Protocol

from rlhf_harness.errors import UnavailableError


@dataclass(frozen=True)
class Ports:
    """The ports of a cluster's components; in a sandbox they are always free."""

    etcd: int = 2379
    etcd_peer: int = 2380
    etcd_health: int = 2381
    apiserver: int = 6443
    webhook: int = 9443
    operator_health: int = 18081
    operator_metrics: int = 18080
    controller_manager: int = 10257
    scheduler: int = 10259
    kwok: int = 10247

    @classmethod
    def free(cls) -> "Ports":
        """Ports that nobody listens on now."""
        with ExitStack() as held:
            sockets = [held.enter_context(socket.create_server(("", 0))) for _ in fields(cls)]
            return cls(*(one.getsockname()[1] for one in sockets))


class Placement(Protocol):
    """Where a cluster runs."""

    address: str
    """The address of every component, from inside and from this machine."""

    ports: Ports
    services: IPv4Network
    """Cluster IPs."""

    isolated: bool
    """Whether it has a network and mounts of its own."""

    def start(self) -> None:
        """Make the place ready."""

    def stop(self) -> None:
        """End everything in it and give it back."""

    def command(self, argv: list[str]) -> list[str]:
        """The command that runs `argv` there."""


class Bare:
    """The machine itself, for a control plane without special rights."""

    isolated = False

    def __init__(self) -> None:
        self.address = _own_address()
        self.ports = Ports.free()
        self.services = IPv4Network("10.96.0.0/24")

    def start(self) -> None:
        """Nothing to prepare."""

    def stop(self) -> None:
        """Nothing to give back."""

    def command(self, argv: list[str]) -> list[str]:
        """The command itself."""
        return argv


def _own_address() -> str:
    """An address that is not the loopback's: Endpoints, and so webhooks, refuse that one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # chooses a route, sends nothing
        except OSError as none:
            raise UnavailableError(
                "the control plane needs a network address besides the loopback's",
                "run as root, where it gets its own network",
            ) from none
        address: str = probe.getsockname()[0]
        return address
