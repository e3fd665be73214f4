"""What the operator's process is told on its command line."""

import argparse
import socket
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from rlhf_operator.leader.timing import LEASE_SECONDS
from rlhf_trainer.contract import METRICS_PORT

DEFAULT_WORKERS = 16
"""Passes wait for the API server most of their time."""

DEFAULT_PORT = 8080
DEFAULT_RESYNC_SECONDS = 300.0


@dataclass(frozen=True)
class Settings:
    """Where the operator works, and how."""

    namespaces: tuple[str, ...]
    """Namespaces to work in; empty for the whole cluster."""
    pools: Path
    """Folder with one file per node pool: the mounted ConfigMap."""
    image: str
    """The trainer's, for runs that name none."""
    host: str
    port: int
    """Serves /metrics, /healthz and /readyz."""
    workers: int
    """Passes at the same time, each over another run."""
    resync_seconds: float
    """How often lists find what the watches may have missed."""
    metrics_port: int
    """Where trainers serve their metrics."""
    lease_namespace: str
    lease_name: str
    """Of several processes, the one that holds this Lease works."""
    lease_seconds: float
    """How long the others wait for a leader that has gone silent."""

    @classmethod
    def parse(cls, argv: Sequence[str]) -> Self:
        """Read a command line."""
        read = vars(_parser().parse_args(argv))
        return cls(**{**read, "namespaces": tuple(read["namespaces"])})

    @property
    def scopes(self) -> tuple[str | None, ...]:
        """The namespaces to list, or None for the whole cluster."""
        return self.namespaces or (None,)


def identity() -> str:
    """Return a name for this process alone; it begins with its pod's."""
    return f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m rlhf_operator.main",
        description="Run RLHFRuns as PyTorchJobs.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--namespace",
        dest="namespaces",
        action="append",
        default=[],
        help="namespace to work in, may be repeated; default: the whole cluster",
    )
    parser.add_argument(
        "--pools", type=Path, required=True, help="folder of the mounted pools ConfigMap"
    )
    parser.add_argument("--image", required=True, help="the trainer's image")
    parser.add_argument("--host", default="0.0.0.0", help="default: every address")  # noqa: S104 -- probes come from outside
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help=f"default: {DEFAULT_PORT}")
    parser.add_argument(
        "--workers", type=int, default=DEFAULT_WORKERS, help=f"default: {DEFAULT_WORKERS}"
    )
    parser.add_argument(
        "--resync-seconds",
        type=float,
        default=DEFAULT_RESYNC_SECONDS,
        help=f"default: {DEFAULT_RESYNC_SECONDS:g}",
    )
    parser.add_argument(
        "--metrics-port", type=int, default=METRICS_PORT, help=f"default: {METRICS_PORT}"
    )
    parser.add_argument("--lease-namespace", default="default", help="default: default")
    parser.add_argument("--lease-name", default="rlhf-operator", help="default: rlhf-operator")
    parser.add_argument(
        "--lease-seconds",
        type=float,
        default=LEASE_SECONDS,
        help=f"how long others wait for a silent leader; default: {LEASE_SECONDS:g}",
    )
    return parser
