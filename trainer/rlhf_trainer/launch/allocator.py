"""How ranks hold memory.

On a CPU what they have had stays with them: glibc gives large blocks back to the system at once and
takes fresh ones for the next tensors of the same size, each of whose pages the system then clears:
ten times what writing them costs. A rank computes in the same sizes at every step and ends with its
phase.

On a GPU the keys and values of a rollout grow by a token at a time, and torch would keep each size
as a block of its own that the next one does not fit into. Segments that can be extended avoid that
(PyTorch, "CUDA semantics", on memory management); it was not measured here.
"""

from collections.abc import Mapping
from pathlib import Path

from rlhf_trainer.config.model import Device

KEEPING = {"MALLOC_MMAP_THRESHOLD_": str(2**32), "MALLOC_TRIM_THRESHOLD_": str(2**34)}
"""In bytes: no tensor is large enough for a mapping of its own, nothing free large enough to give
back. Other C libraries do not look at them."""


EXTENDING = {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}
CUDA_SETTINGS = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
"""The second is its older name."""


def is_on_gpu(device: Device, devices: Path = Path("/dev")) -> bool:
    """Return whether ranks will compute on a GPU.

    devices: where the system shows what there is.
    """
    return device is Device.CUDA or (device is Device.AUTO and any(devices.glob("nvidia[0-9]*")))


def allocator_variables(
    environment: Mapping[str, str], device: Device, devices: Path = Path("/dev")
) -> dict[str, str]:
    """Return what to add to `environment` for the ranks; nothing of what the user has set.

    devices: where the system shows what there is.
    """
    if is_on_gpu(device, devices):
        return {} if any(name in environment for name in CUDA_SETTINGS) else dict(EXTENDING)
    if any(name.startswith("MALLOC_") for name in environment) or "LD_PRELOAD" in environment:
        return {}  # the user has chosen, or has another allocator
    return dict(KEEPING)
