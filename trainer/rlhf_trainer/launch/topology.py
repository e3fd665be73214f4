"""Where this launcher stands among the nodes of its job.

A PyTorchJob tells it by PET_* variables, as torchrun reads them; without them there is one node.
"""

import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from rlhf_trainer.contract import Phase
from rlhf_trainer.errors import InvalidError

DEFAULT_JOIN_SECONDS = 1800
"""How long to wait for the other nodes: one may have to be bought, and to pull the image, first."""

_DEFAULT_MASTER_PORT = 23456
"""The training operator's."""


@dataclass(frozen=True)
class Topology:
    """Nodes, ranks and the address where they meet."""

    nodes: int
    node_rank: int
    processes: int
    """Ranks on this node, the same on every node."""
    address: str
    port: int
    join_seconds: int

    @classmethod
    def read(cls, environment: Mapping[str, str], phase: Phase, processes: int | None) -> Self:
        """Read the job's variables; `processes` overrides theirs, Preparation always has one rank.

        Raises:
            InvalidError: a variable is not what a PyTorchJob would set.
        """
        nodes = _whole(environment, "PET_NNODES", 1, 1)
        join_seconds = _join_seconds(environment)
        if phase is Phase.PREPARATION:
            nodes, processes = 1, 1
        elif processes is None:
            processes = _whole(environment, "PET_NPROC_PER_NODE", 1, 1)
        if nodes == 1:
            # Needs no name service, and no port that another run on this machine may hold.
            return cls(1, 0, processes, "127.0.0.1", _free_port(), join_seconds)
        return cls(
            nodes=nodes,
            node_rank=_whole(environment, "PET_NODE_RANK", None, 0),
            processes=processes,
            address=_text(environment, "PET_MASTER_ADDR"),
            port=_whole(environment, "PET_MASTER_PORT", _DEFAULT_MASTER_PORT, 1),
            join_seconds=join_seconds,
        )

    @property
    def local_ranks(self) -> range:
        """Global ranks of this node's processes."""
        first = self.node_rank * self.processes
        return range(first, first + self.processes)


def _text(environment: Mapping[str, str], name: str) -> str:
    text = environment.get(name, "")
    if not text:
        raise InvalidError(
            name, repr(text), "not set", "PET_NNODES > 1 needs it: start by a PyTorchJob"
        )
    return text


def _whole(environment: Mapping[str, str], name: str, default: int | None, at_least: int) -> int:
    text = environment.get(name, "") if default is None else environment.get(name) or str(default)
    if not text.isdecimal() or int(text) < at_least:
        problem = f"not a whole number from {at_least}"
        raise InvalidError(name, repr(text), problem, "set it as a PyTorchJob does")
    return int(text)


def _join_seconds(environment: Mapping[str, str]) -> int:
    """Read torchrun's own spelling: PET_RDZV_CONF=timeout=600."""
    pairs = re.split(r"\s*,\s*", environment.get("PET_RDZV_CONF", ""))
    given = dict(pair.split("=", 1) for pair in pairs if "=" in pair)
    return _whole(given, "timeout", DEFAULT_JOIN_SECONDS, 1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
