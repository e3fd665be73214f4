"""Which errors mean that memory has run out: users are told another remedy than for a crash."""

import pytest
import torch

from rlhf_trainer.phases.running import is_out_of_memory


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        MemoryError(),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"
        ),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("NCCL error: unhandled cuda error\nCuda failure 'out of memory'"),
    ],
    ids=["torch", "python", "cpu", "cuda", "cublas", "nccl"],
)
def test_allocators_of_every_layer_are_known(error: Exception) -> None:
    assert is_out_of_memory(error)


def test_other_errors_of_a_gpu_are_not_taken_for_it() -> None:
    assert not is_out_of_memory(RuntimeError("CUDA error: an illegal memory access"))
