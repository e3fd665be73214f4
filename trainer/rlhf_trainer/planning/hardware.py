"""What a process takes before any tensor is there."""

from rlhf_trainer.contract import Place

GIB = 2**30

GPU_RUNTIME_BYTES = int(1.5 * GIB)
"""CUDA's context, workspaces of cuBLAS, buffers of NCCL: 1 to 1.5 GiB are usual. Not measured."""

CPU_RUNTIME_BYTES = GIB
"""A process that has imported torch, transformers and DeepSpeed: 0.7 to 1 GiB were seen."""


def runtime_bytes(place: Place) -> int:
    """Return what drivers and libraries take in each process."""
    return GPU_RUNTIME_BYTES if place.is_gpu else CPU_RUNTIME_BYTES
