"""Runs the ranks of this node under torchrun's agent and tells how they ended.

What their ends mean is decided in `verdict`. This is the only module of the launcher that imports
torch, and it does so when it is called.
"""

import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rlhf_trainer.launch.topology import Topology

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig

_CLOSE_SECONDS = 30
"""torchrun's fixed time between SIGTERM and SIGKILL for the siblings of a failed rank."""

_MONITOR_SECONDS = 0.1


@dataclass(frozen=True)
class AgentEnd:
    """How the agent ended."""

    exit_codes: Mapping[int, int] = field(default_factory=dict)
    """Exit code by global rank, negative for signals, in the order in which they were seen."""
    terminated: bool = False
    """SIGTERM ended it: the codes are not known."""
    error: str = ""
    """What kept it from running the ranks."""


def run_agent(
    topology: Topology, module: str, argv: Sequence[str], shutdown_seconds: int
) -> AgentEnd:
    """Run `python -m module argv` on every rank until all have ended or one has failed."""
    # Here and not above: it takes seconds, in which SIGTERM must already be answered.
    from torch.distributed.elastic.multiprocessing.api import SignalException  # noqa: PLC0415
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError  # noqa: PLC0415
    from torch.distributed.launcher.api import launch_agent  # noqa: PLC0415

    config = _launch_config(topology, shutdown_seconds)
    _hush()
    try:
        launch_agent(config, sys.executable, ["-u", "-m", module, *argv])
    except ChildFailedError as error:
        failed = _exit_codes(error)
        return AgentEnd(failed | {rank: 0 for rank in topology.local_ranks if rank not in failed})
    except SignalException:
        return AgentEnd(terminated=True)
    except Exception as error:  # noqa: BLE001 - torch raises many kinds, which mean the same here
        return AgentEnd(error=_explained(topology, error))
    return AgentEnd(dict.fromkeys(topology.local_ranks, 0))


def _launch_config(topology: Topology, shutdown_seconds: int) -> "LaunchConfig":
    from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs  # noqa: PLC0415
    from torch.distributed.launcher.api import LaunchConfig  # noqa: PLC0415

    return LaunchConfig(
        min_nodes=topology.nodes,
        max_nodes=topology.nodes,
        nproc_per_node=topology.processes,
        run_id="rlhf",
        role="rank",
        rdzv_backend="static",
        rdzv_endpoint=f"{topology.address}:{topology.port}",
        rdzv_configs={"rank": topology.node_rank, "timeout": topology.join_seconds},
        max_restarts=0,
        monitor_interval=_MONITOR_SECONDS,
        signals_to_handle="SIGTERM",
        shutdown_timeout=shutdown_seconds,
        logs_specs=DefaultLogsSpecs(log_dir=os.devnull),
    )


def _hush() -> None:
    """Keep torchrun from reporting a guard's stop as an error of ten lines."""
    for name in list(logging.root.manager.loggerDict):
        if name.startswith(("torch.distributed.elastic", "torch.distributed.launcher")):
            logging.getLogger(name).setLevel(logging.CRITICAL)


def _exit_codes(error: "ChildFailedError") -> dict[int, int]:
    first = error.get_first_failure()[1].timestamp
    codes: dict[int, int] = {}
    for rank, failure in error.failures.items():
        late = failure.timestamp - first >= _CLOSE_SECONDS - 1
        # A late SIGKILL is torchrun's own, for a sibling that did not answer its SIGTERM in time.
        ended_by_agent = late and failure.exitcode == -signal.SIGKILL
        codes[rank] = -signal.SIGTERM if ended_by_agent else failure.exitcode
    return codes


def _explained(topology: Topology, error: Exception) -> str:
    cause = str(error).partition("\n")[0] or type(error).__name__
    return (
        f"node {topology.node_rank} of {topology.nodes} could not run its ranks "
        f"(meeting point {topology.address}:{topology.port}, {topology.join_seconds} s): {cause}"
    )
