"""Linear layers on a CPU that multiply with oneDNN while they are trained.

torch multiplies float32 matrices with MKL; oneDNN takes a tenth less time for outputs and for
gradients of inputs, and as long for gradients of weights, which stay torch's. Weights change with
each update, so nothing is packed here: see `models.packed_linear`.
Legend: R = rows, I = inputs, O = outputs.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from typing_extensions import override

LEAST_FEATURES = 16
"""Narrower layers (heads with one number, adapters of small rank) stay torch's."""


class OneDNNLinear(nn.Linear):
    """A linear layer whose passes with gradient are multiplied by oneDNN."""

    @override
    def forward(self, input: Tensor) -> Tensor:
        # A shard of ZeRO 3 is gathered for as long as DeepSpeed's own product takes.
        is_plain = not torch.is_grad_enabled() or hasattr(self.weight, "ds_id")
        if is_plain or input.dtype is not torch.float32 or torch.is_autocast_enabled("cpu"):
            return super().forward(input)
        output: Tensor = _Product.apply(input, self.weight, self.bias)  # type: ignore[no-untyped-call] # torch has no type for it
        return output


def multiply_by_onednn(model: nn.Module) -> None:
    """Let a model's linear layers multiply with oneDNN where they are torch's own, on a CPU.

    Their class changes and nothing else: weights, hooks, adapters and copies are as they were.
    """
    if not (torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled):
        return
    for layer in model.modules():
        if type(layer) is nn.Linear and _gains(layer.weight):
            layer.__class__ = OneDNNLinear


def _gains(weight_OI: Tensor) -> bool:
    return (
        weight_OI.device.type == "cpu"
        and weight_OI.dtype is torch.float32
        and min(weight_OI.shape) >= LEAST_FEATURES
    )


class _Product(torch.autograd.Function):
    """rows x weight + bias."""

    @staticmethod
    @override
    def forward(ctx: Any, rows_RI: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows_RI, weight_OI)
        return _multiplied(rows_RI, weight_OI, bias_O)

    @staticmethod
    @override
    @once_differentiable
    def backward(ctx: Any, gradient_RO: Tensor) -> tuple[Tensor | None, ...]:
        rows_RI, weight_OI = ctx.saved_tensors
        of_rows, of_weight, of_bias = ctx.needs_input_grad
        flat_RO = gradient_RO.flatten(0, -2)
        return (
            _multiplied(gradient_RO, weight_OI.t(), None) if of_rows else None,
            flat_RO.t() @ rows_RI.flatten(0, -2) if of_weight else None,
            flat_RO.sum(0) if of_bias else None,
        )


def _multiplied(rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")  # noqa: SLF001 - torch has no other name
    return product
