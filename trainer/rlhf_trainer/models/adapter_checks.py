"""Whether adapters fit a model, told by configurations and file headers before a weight is loaded.

Decided here: adapters are of linear layers, and not of the output layer. Roles are switched per
layer and share embeddings and output layer, so an adapter there would belong to all of them.
"""

import re
from collections.abc import Iterable
from pathlib import Path

import peft
from torch import nn
from transformers import PreTrainedConfig
from transformers.pytorch_utils import Conv1D

from rlhf_trainer.config.model import LoRAConfig
from rlhf_trainer.data.adapter_folders import PREFIX
from rlhf_trainer.errors import InvalidError
from rlhf_trainer.models.architecture import HEAD, hollow_causal_lm, is_remote
from rlhf_trainer.models.weight_files import tensor_shapes

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
        if not any(_is_named(layer, name) for layer in layers):
            known = _ends(layers)
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


def require_same_sizes(
    folder: Path, config: PreTrainedConfig, lora: LoRAConfig, place: str, value: str
) -> None:
    """Refuse an adapter that `lora` does not describe: it is trained on as it is.

    Raises:
        InvalidError: its rank, alpha or layers are others.
    """
    saved = peft.LoraConfig.from_pretrained(str(folder))
    tensors = [
        (match, shape)
        for name, shape in tensor_shapes(folder, place, value).items()
        if (match := TENSOR.fullmatch(name.removeprefix(PREFIX)))
    ]
    ranks = {shape[0] for match, shape in tensors if match["side"] == "A"}
    if len(ranks) > 1 or set(saved.alpha_pattern.values()) - {saved.lora_alpha}:
        problem = "its layers have several ranks or alphas, and spec.model.lora has one of each"
        raise InvalidError(place, value, problem, "name an adapter with one rank and one alpha")
    sizes: dict[str, tuple[object, object]] = {
        "rank": (ranks.pop() if ranks else saved.r, lora.rank),
        "alpha": (saved.lora_alpha, lora.alpha),
    }
    if not is_remote(config):
        adapted, wanted = {match["layer"] for match, _ in tensors}, set(_targets(config, lora))
        sizes["targetModules"] = (_ends(adapted), _ends(wanted))
        if _ends(adapted) == _ends(wanted) and adapted != wanted:
            name = min(adapted ^ wanted)
            has, lacks = ("it", "spec.model.lora") if name in adapted else ("spec.model.lora", "it")
            problem = f"{has} adapts {name}, and {lacks} does not"
            raise InvalidError(place, value, problem, "name an adapter of the same layers")
    others = {name: pair for name, pair in sizes.items() if pair[0] != pair[1]}
    if others:
        found = ", ".join(f"{name} {_plain(pair[0])}" for name, pair in others.items())
        asked = ", ".join(f"{name} {_plain(pair[1])}" for name, pair in others.items())
        needed = ", ".join(f"{name}: {_plain(pair[0])}" for name, pair in others.items())
        raise InvalidError(
            place,
            value,
            f"it is trained on as it is, with {found}, and spec.model.lora has {asked}",
            f"write {needed} in spec.model.lora",
        )


def _plain(value: object) -> str:
    """Return a size as a manifest spells it."""
    if isinstance(value, list):
        return f"[{', '.join(value)}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _targets(config: PreTrainedConfig, lora: LoRAConfig) -> list[str]:
    """Return the layers that get an adapter by `lora`."""
    layers, names = _linear_layers(config), lora.target_modules
    if names is None:
        return list(layers)
    return [layer for layer in layers if any(_is_named(layer, name) for name in names)]


def _is_named(layer: str, name: str) -> bool:
    """Return whether a layer has a name, or ends with it."""
    return layer == name or layer.endswith(f".{name}")


def _ends(layers: Iterable[str]) -> list[str]:
    return sorted({layer.rpartition(".")[2] for layer in layers})


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
