"""Whether adapters fit a model, told by configurations and file headers before a weight is loaded.

Decided here: adapters are of linear layers, and not of the output layer. Roles are switched per
layer and share embeddings and output layer, so an adapter there would belong to all of them.
"""

import re
from pathlib import Path

from torch import nn
from transformers import PreTrainedConfig
from transformers.pytorch_utils import Conv1D

from rlhf_trainer.config.model import LoRAConfig
from rlhf_trainer.data.adapter_folders import PREFIX
from rlhf_trainer.errors import InvalidError
from rlhf_trainer.models.architecture import HEAD, hollow_causal_lm, is_remote
from rlhf_trainer.models.reward_files import tensor_shapes

TENSOR = re.compile(r"(?P<layer>.+)\.lora_(?P<side>[AB])\.weight")
HEADS = (f"{HEAD}.weight",)

NUM_NAMES = 8
"""Layers that an error names."""


def require_targets(config: PreTrainedConfig, lora: LoRAConfig, place: str) -> None:
    """Refuse names that no linear layer of the architecture has.

    `place` is the field of the manifest that holds `lora`.

    Raises:
        InvalidError: a name stands for no layer that can have an adapter.
    """
    if is_remote(config):
        return
    layers = _linear_layers(config)
    for name in lora.target_modules or ():
        if not any(layer == name or layer.endswith(f".{name}") for layer in layers):
            known = sorted({layer.rpartition(".")[2] for layer in layers})
            raise InvalidError(
                f"{place}.targetModules",
                name,
                "is no linear layer of the model below its output layer",
                f"choose among {', '.join(known[:NUM_NAMES])}, or leave it out",
            )


def require_adapter(folder: Path, config: PreTrainedConfig, place: str, value: str) -> None:
    """Refuse an adapter that is not of linear layers of the architecture.

    Raises:
        InvalidError: it holds something else, or its sizes are another model's.
    """
    if is_remote(config):
        return
    layers = _linear_layers(config)
    fix = "name an adapter of the model's linear layers, as PEFT writes it"
    for name, shape in tensor_shapes(folder, place, value).items():
        plain = name.removeprefix(PREFIX)
        if plain in HEADS:
            continue
        match = TENSOR.fullmatch(plain)
        if match is None or match["layer"] not in layers:
            problem = f"holds {plain}, and only linear layers below the output layer have adapters"
            raise InvalidError(place, value, problem, fix)
        inputs, outputs = layers[match["layer"]]
        found, expected = (shape[1], inputs) if match["side"] == "A" else (shape[0], outputs)
        if found != expected:
            problem = f"its {plain} is {found} wide, and the model's layer {expected}"
            raise InvalidError(place, value, problem, fix)


def _linear_layers(config: PreTrainedConfig) -> dict[str, tuple[int, int]]:
    """Return inputs and outputs of the layers that can have an adapter, by name."""
    hollow = hollow_causal_lm(config)
    output = hollow.get_output_embeddings()
    sizes: dict[str, tuple[int, int]] = {}
    for name, layer in hollow.named_modules():
        if layer is output:
            continue
        if isinstance(layer, nn.Linear):
            sizes[name] = (layer.in_features, layer.out_features)
        elif isinstance(layer, Conv1D):
            sizes[name] = (layer.nx, layer.nf)
    return sizes
