"""Which attention kernel a model is loaded with.

Decided here: FlashAttention 2 is taken where it will run, and `Auto` asks for nothing that fails
after the weights are loaded.
"""

import importlib
from typing import Any

import torch

from rlhf_trainer.config.model import Attention
from rlhf_trainer.errors import InvalidError

LEAST_CAPABILITY = (8, 0)
"""CUDA compute capability that FlashAttention 2 needs: Ampere's."""


def attention_implementation(
    attention: Attention, dtype: torch.dtype, device: torch.device, kind: type[Any] | None
) -> str | None:
    """Return transformers' name of the attention kernel; None for what suits the architecture.

    Some architectures have no SDPA (ALiBi, attention sinks); transformers then computes plainly.

    kind: class of the model; None if it comes with the model, and is not known before.

    Raises:
        InvalidError: FlashAttention 2 is asked for where it cannot run.
    """
    if attention is Attention.SDPA:
        return "sdpa"
    problem = _flash_problem(dtype, device)
    supported = getattr(kind, "_supports_flash_attn", False)
    if problem is None and kind is not None and not supported:
        problem = f"{kind.__name__} has no FlashAttention 2"
    if attention is Attention.FLASH_ATTENTION_2:
        if problem is None:
            return "flash_attention_2"
        raise InvalidError(
            "spec.model.attention",
            attention.value,
            problem,
            "use Auto or SDPA, or give it what it needs",
        )
    return "flash_attention_2" if problem is None and supported else None


def _flash_problem(dtype: torch.dtype, device: torch.device) -> str | None:
    """Return why FlashAttention 2 cannot run; None if it can."""
    if device.type != "cuda":
        return "needs a GPU"
    if dtype is not torch.bfloat16:
        return f"computes in BFloat16, and the model is held in {dtype}"
    if not _has_package():
        return "needs the flash-attn package (the gpu extra), and it cannot be imported"
    if torch.cuda.get_device_capability(device) < LEAST_CAPABILITY:
        return "needs a GPU of compute capability 8.0"
    return None


def _has_package() -> bool:
    """Return whether the package works: its kernels are compiled for one version of torch."""
    try:
        package = importlib.import_module("flash_attn")
    except ImportError:
        return False
    # FlashAttention 4 goes by the same name, and has no such function.
    return hasattr(package, "flash_attn_varlen_func")
