"""Linear layers on a CPU with their weights laid out for oneDNN, while nothing is trained.

Packed once for many calls, the same product takes an eighth less time over a thousand rows and half
over sixteen: decoding and scoring pay for the packing many times over. The modules stay: their
weights, hooks and adapters are as they were, and the packed copies go when the block ends.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from rlhf_trainer.models.trained_linear import (
    LEAST_FEATURES,
    TrainedConv1D,
    TrainedLinear,
    onednn_multiplies,
)

KINDS = (nn.Linear, Conv1D, TrainedLinear, TrainedConv1D)
"""Other subclasses compute something else."""

LinearForward = Callable[[Tensor], Tensor]


@contextmanager
def packed(model: nn.Module) -> Iterator[None]:
    """Let the linear layers of `model` compute with packed weights, which must not change.

    Without gradient only: a pass that records one finds the layers as they were. Layers whose
    weights are not here whole (ZeRO-3), or not on a CPU, are left out; so are those of a block
    around this one, which are packed already.
    """
    found = [part for part in model.modules() if isinstance(part, nn.Linear | Conv1D)]
    layers: list[Any] = [layer for layer in found if _can_be_packed(layer)]
    for layer in layers:
        # An attribute of the instance hides the class's method, and leaves all hooks in place.
        layer.forward = _packed_forward(layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward


def _can_be_packed(layer: nn.Linear | Conv1D) -> bool:
    if type(layer) not in KINDS or "forward" in vars(layer):
        return False
    weight = layer.weight
    return (
        weight.device.type == "cpu"
        and weight.dim() == 2  # noqa: PLR2004 - a matrix; ZeRO-3 leaves an empty vector
        and min(weight.shape) >= LEAST_FEATURES
        and _is_supported(weight.dtype)
    )


def _is_supported(dtype: torch.dtype) -> bool:
    if not onednn_multiplies():
        return False
    if dtype is torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001 - torch has no other name
    return dtype is torch.float32


def _packed_forward(layer: nn.Linear | Conv1D) -> LinearForward:
    plain: LinearForward = layer.forward
    weight_OI = layer.weight.detach()
    if isinstance(layer, Conv1D):
        weight_OI = weight_OI.t().contiguous()
    # The number of rows is a hint that makes no difference to the layout.
    packed_OI = torch.ops.mkldnn._reorder_linear_weight(weight_OI, None)  # noqa: SLF001 - torch has no other name
    bias: Tensor | None = layer.bias
    bias_O = None if bias is None else bias.detach()

    def forward(rows: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return plain(rows)
        result: Tensor = torch.ops.mkldnn._linear_pointwise(  # noqa: SLF001 - as above
            rows, packed_OI, bias_O, "none", [], ""
        )
        return result

    return forward
