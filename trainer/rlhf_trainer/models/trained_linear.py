"""Linear layers on a CPU that multiply by oneDNN while they are trained.

torch multiplies in float32 with MKL. oneDNN lays the weights out for each product anew, and with
AVX-512 it is still 4 to 15 % faster in nearly all shapes tried, forward and to the inputs; the
weights' gradients, products of two activations, are not, and stay torch's.
Legend: R = rows, I = inputs, O = outputs.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.pytorch_utils import Conv1D
from typing_extensions import override

LEAST_FEATURES = 16
"""Narrower layers (heads with one number, adapters of small rank) gain nothing."""


def multiply_by_onednn(model: nn.Module) -> None:
    """Let the linear layers of `model` multiply by oneDNN wherever a gradient is recorded.

    Layers become subclasses of what they were: parameters, names and hooks stay. Where oneDNN has
    no advantage, or parameters are sharded (ZeRO 3), they compute as before.
    """
    if not onednn_multiplies():
        return
    for layer in model.modules():
        # Subclasses compute something else.
        trained = _TRAINED.get(type(layer))
        weight: Any = getattr(layer, "weight", None)
        if trained is not None and min(weight.shape) >= LEAST_FEATURES:
            layer.__class__ = trained


class TrainedLinear(nn.Linear):
    """torch's linear layer, but for who multiplies."""

    @override
    def forward(self, input: Tensor) -> Tensor:
        if not _takes_part(input, self.weight):
            return super().forward(input)
        return _product(input, self.weight, self.bias)


class TrainedConv1D(Conv1D):
    """GPT-2's linear layer, whose weight is [I, O]."""

    @override
    def forward(self, x: Tensor) -> Tensor:
        if not _takes_part(x, self.weight):
            plain: Tensor = super().forward(x)  # type: ignore[no-untyped-call] # transformers' has no type
            return plain
        return _product(x, self.weight.t(), self.bias)


_TRAINED: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: TrainedLinear,
    Conv1D: TrainedConv1D,
}


def onednn_pays() -> bool:
    """Return whether this CPU trains faster by oneDNN: with AVX2 alone it trains more slowly.

    It is asked, not timed: what a run computes must not hang on who else uses the machine.
    """
    return torch.backends.cpu.get_cpu_capability() == "AVX512"


def onednn_multiplies() -> bool:
    """Return whether torch has oneDNN, and nobody has switched it off."""
    return torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)


def _takes_part(rows: Tensor, weight: Tensor) -> bool:
    return (
        torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and onednn_multiplies()
        and rows.numel() > 0
        and rows.device.type == weight.device.type == "cpu"
        and rows.dtype is weight.dtype is torch.float32
        # DeepSpeed frees shards between the passes.
        and not hasattr(weight, "ds_id")
    )


def _product(rows: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
    # Flat outside: a view that a function has made itself could not be changed in place.
    rows_RI = rows.reshape(-1, rows.shape[-1])
    output_RO: Tensor = _Product.apply(rows_RI, weight_OI, bias_O)  # type: ignore[no-untyped-call] # torch has no type for it
    return output_RO.view(*rows.shape[:-1], -1)


class _Product(torch.autograd.Function):
    """rows @ weight' + bias, keeping what the gradients that are asked for need."""

    @staticmethod
    @override
    def forward(ctx: Any, rows_RI: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
        to_rows, to_weight, _ = ctx.needs_input_grad
        ctx.save_for_backward(rows_RI if to_weight else None, weight_OI if to_rows else None)
        return _onednn(rows_RI, weight_OI, bias_O)

    @staticmethod
    @override
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        rows_RI, weight_OI = ctx.saved_tensors
        gradient_RO = gradient.contiguous()
        return (
            None if weight_OI is None else _onednn(gradient_RO, weight_OI.t(), None),
            None if rows_RI is None else gradient_RO.t() @ rows_RI,
            gradient_RO.sum(0) if ctx.needs_input_grad[2] else None,
        )


def _onednn(rows_RI: Tensor, weight_OI: Tensor, bias_O: Tensor | None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(  # noqa: SLF001 - torch has no other name
        rows_RI, weight_OI, bias_O, "none", [], ""
    )
    return product
