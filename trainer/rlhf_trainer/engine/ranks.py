"""The processes of a phase: how they start, and what they tell each other."""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed

from rlhf_trainer.config.model import Device
from rlhf_trainer.contract.outcomes import MAIN_RANK_FAILED
from rlhf_trainer.errors import InvalidError, PhaseError

PATIENCE = timedelta(days=1)
"""How long ranks wait for each other. DeepSpeed's 10 minutes are less than the main rank may take
to load or write a large model; a phase that gives no sign of life is ended from outside, where
its heartbeat can be read."""

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together."""

    rank: int
    world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes what all share."""
        return self.rank == 0

    def sums(self, values: Sequence[float]) -> list[float]:
        """Return each value summed over all ranks."""
        if self.world_size == 1:
            return [float(value) for value in values]
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        torch.distributed.all_reduce(tensor)
        summed: list[float] = tensor.tolist()
        return summed

    def any(self, flag: bool) -> bool:  # noqa: FBT001 - the flag is the message
        """Return whether the flag is set on any rank."""
        return self.sums([float(flag)])[0] > 0

    def gather(self, value: T) -> list[T]:
        """Return every rank's value, by rank, on all ranks."""
        if self.world_size == 1:
            return [value]
        gathered: list[T | None] = [None] * self.world_size
        torch.distributed.all_gather_object(gathered, value)
        return gathered  # type: ignore[return-value] # every place has been filled

    def from_main(self, work: Callable[[], T]) -> T:
        """Do some work on the main rank, and return its result on all ranks.

        Raises:
            Exception: the main rank's work raised it; other ranks raise a `PhaseError` that says
                so, which counts less than an outcome of the main rank's own.
        """
        if self.world_size == 1:
            return work()
        results: list[T] = []
        problem: Exception | None = None
        if self.is_main:
            try:
                results = [work()]
            except Exception as error:  # noqa: BLE001 - raised below, once the others know
                problem = error
        results, said = self.gather((results, repr(problem)))[0]
        if problem is not None:
            raise problem
        if not results:
            raise PhaseError(f"the main rank failed: {said}", reason=MAIN_RANK_FAILED)
        return results[0]

    def barrier(self) -> None:
        """Wait for all ranks."""
        if self.world_size > 1:
            torch.distributed.barrier()


def start(device: Device) -> Ranks:
    """Join the process group that torchrun's environment describes.

    Raises:
        InvalidError: CUDA is asked for and no driver answers, or there are fewer GPUs than ranks.
    """
    use_cuda = _use_cuda(device)
    os.environ["DS_ACCELERATOR"] = "cuda" if use_cuda else "cpu"
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    import deepspeed  # noqa: PLC0415 - it picks its accelerator when it is imported
    from deepspeed.utils import groups  # noqa: PLC0415 - as above

    if not use_cuda:
        # DeepSpeed would compile an all-reduce with g++ for a minute, and not start without one.
        sys.modules["deepspeed.comm.torch"].build_shm_op = lambda: None  # type: ignore[attr-defined]
    name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if use_cuda else "cpu"
    if use_cuda:
        # NCCL takes the device that is current when the ranks first meet.
        torch.cuda.set_device(name)
    deepspeed.init_distributed(
        dist_backend="nccl" if use_cuda else "gloo", timeout=PATIENCE, verbose=False
    )
    # DeepSpeed would make this group itself, for gradients, with its default patience.
    groups._WORLD_GROUP = torch.distributed.new_group(timeout=PATIENCE)  # noqa: SLF001 - as above
    return Ranks(
        torch.distributed.get_rank(), torch.distributed.get_world_size(), torch.device(name)
    )


def stop() -> None:
    """Leave the process group."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _use_cuda(device: Device) -> bool:
    available = torch.cuda.is_available()
    if device is Device.CUDA and not available:
        raise InvalidError(
            "spec.model.device",
            device.value,
            "no CUDA driver answers",
            "use Auto or CPU, or run on a node with a GPU",
        )
    use_cuda = available and device is not Device.CPU
    if use_cuda:
        _require_gpus(int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    return use_cuda


def _require_gpus(num_ranks: int) -> None:
    """Refuse more ranks than this machine has GPUs: CUDA's own error would be tried again."""
    num_gpus = torch.cuda.device_count()
    if num_ranks > num_gpus:
        raise InvalidError(
            "spec.placement.gpusPerNode",
            num_ranks,
            f"each process trains on a GPU of its own, of which this machine has {num_gpus}",
            f"use at most {num_gpus}, of processesPerNode too, or set spec.model.device=CPU",
        )
