"""How many threads a rank computes with on the host.

One: more than there are cores per rank make training on a CPU ten times slower, and sums would
depend on their number. Where GPUs compute and the optimiser's states are on the host, a step over
them keeps everything waiting; it goes element by element, so that each rank's share of the cores
changes no result.
"""

import os
from pathlib import Path

CPU_MAXIMUM = Path("/sys/fs/cgroup/cpu.max")
"""Microseconds of processor time that a container may use in a period, and the period."""


def threads_per_rank(num_ranks: int, *, on_gpu: bool, offload_optimizer: bool) -> int:
    """Return the threads of one of this machine's ranks."""
    if not (on_gpu and offload_optimizer):
        return 1
    return max(1, usable_cores() // num_ranks)


def usable_cores(limit: Path = CPU_MAXIMUM) -> int:
    """Return how many cores this process may keep busy: a container may have a part of them."""
    cores = len(os.sched_getaffinity(0))
    try:
        allowed, period = limit.read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        return cores
    return cores if allowed == "max" else max(1, min(cores, int(allowed) // int(period)))
