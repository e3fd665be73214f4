"""The last layer, computed only at the positions whose hidden states are read.

Every token's keys and values are needed there; but queries' outputs, and all that follows attention
position by position, only where a log-probability, a value or a score is read. The model's own
modules compute, with the rows that are wanted: hooks give the attention all rows, and what stands
around it the others. Legend: B = rows, T = tokens, N = wanted positions, H = hidden size.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rlhf_trainer.models.packing import hidden_states


@dataclass(frozen=True)
class _Names:
    """Where an architecture's layers have their parts."""

    layers: str
    norm: str
    """Gives the attention its input, and nothing else."""
    output: str
    """The attention's last linear layer."""


_LLAMA = _Names("layers", "input_layernorm", "self_attn.o_proj")
KNOWN = {
    "gemma": _LLAMA,
    "gpt2": _Names("h", "ln_1", "attn.c_proj"),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "mixtral": _LLAMA,
    "phi3": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
}
"""By type of model; each is tested. Others compute their last layer everywhere."""


def hidden_at(
    trunk: nn.Module, tokens_BT: Tensor, wanted_N: Tensor, positions_BT: Tensor | None
) -> Tensor:
    """Return the last hidden states at flat positions (b * T + t), [N, H]; no two are the same."""
    with last_layer_at(trunk, wanted_N):
        hidden_BTH = hidden_states(trunk, tokens_BT, positions_BT)
    return hidden_BTH.flatten(0, 1).index_select(0, wanted_N)


@contextmanager
def last_layer_at(trunk: nn.Module, wanted_N: Tensor) -> Iterator[None]:
    """Let `trunk` compute its last hidden states at `wanted_N` alone; elsewhere they mean nothing.

    Not where activations are recomputed: the backward pass finds the hooks gone.
    """
    parts = _parts(trunk)
    if parts is None or _recomputes(parts[0]):
        yield
        return
    layer, norm, output = parts
    rows = _Rows(wanted_N)
    with ExitStack() as stack:
        # Ours come first: DeepSpeed's hooks then see what the modules are given.
        for module, hook in ((layer, rows.pick), (norm, rows.restore), (output, rows.pick_again)):
            stack.callback(module.register_forward_pre_hook(hook, prepend=True).remove)
        stack.callback(layer.register_forward_hook(rows.spread).remove)
        yield


class _Rows:
    """Rows of the last layer's input: all of them, and the wanted ones."""

    def __init__(self, wanted_N: Tensor) -> None:
        self._wanted_N = wanted_N
        self._all_BTH = wanted_N.new_empty(0)

    def _pick(self, rows_BTH: Tensor) -> Tensor:
        return rows_BTH.flatten(0, 1).index_select(0, self._wanted_N).unsqueeze(0)

    def pick(self, _layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        self._all_BTH, *others = inputs
        return (self._pick(self._all_BTH), *others)

    def restore(self, _norm: nn.Module, _inputs: tuple[Any, ...]) -> tuple[Tensor]:
        return (self._all_BTH,)

    def pick_again(self, _output: nn.Module, inputs: tuple[Any, ...]) -> tuple[Tensor]:
        return (self._pick(inputs[0]),)

    def spread(self, _layer: nn.Module, _inputs: object, output_1NH: Tensor) -> Tensor:
        """Return rows at their places, so that whatever follows finds the shape it expects."""
        shape, self._all_BTH = self._all_BTH.shape, self._wanted_N.new_empty(0)
        flat = output_1NH.new_zeros(shape[0] * shape[1], shape[2])
        return flat.index_copy(0, self._wanted_N, output_1NH[0]).view(shape)


def _parts(trunk: nn.Module) -> tuple[nn.Module, nn.Module, nn.Module] | None:
    """Return a known trunk's last layer, and of that the first norm and attention's output."""
    config: Any = getattr(trunk, "config", None)
    names = KNOWN.get(getattr(config, "model_type", ""))
    if names is None:
        return None
    layers: Any = trunk.get_submodule(names.layers)
    layer: nn.Module = layers[-1]
    return layer, layer.get_submodule(names.norm), layer.get_submodule(names.output)


def _recomputes(layer: nn.Module) -> bool:
    return bool(
        torch.is_grad_enabled()
        and layer.training
        and getattr(layer, "gradient_checkpointing", False)
    )
