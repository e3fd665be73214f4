"""LoRA adapters (arXiv:2106.09685): several roles of one model, at the price of one.

Each role has an adapter under its name in the same layers. Which one is active is a state of the
layers; PEFT's own switch also decides what is trained, so it is not used here. Adapters are read
and written in PEFT's format.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from enum import StrEnum
from pathlib import Path
from typing import Any

import peft
import torch
from peft.tuners.lora import LoraLayer
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from rlhf_trainer.config.model import LoRAConfig, ModelConfig
from rlhf_trainer.data.adapter_folders import PREFIX, WEIGHTS
from rlhf_trainer.errors import InvalidError
from rlhf_trainer.models.architecture import HEAD

ALL_LINEAR = "all-linear"


class Role(StrEnum):
    """What a model with adapters is asked to be; a role without an adapter is the bare model."""

    POLICY = "policy"
    REFERENCE = "reference"
    CRITIC = "critic"
    REWARD = "reward"


def add_adapter(
    model: PreTrainedModel, lora: LoRAConfig, role: Role, held: ModelConfig, *, seed: int
) -> None:
    """Add an adapter that changes nothing yet: its second matrix is zero.

    seed: of the first matrix, so that all ranks draw the same.

    Raises:
        InvalidError: no layer has a name that `lora.targetModules` names.
    """
    config = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type] # PEFT only multiplies by it
        lora_dropout=lora.dropout,
        target_modules=list(lora.target_modules or ()) or ALL_LINEAR,
        exclude_modules=[HEAD] if hasattr(model, HEAD) else None,
        base_model_name_or_path=model.config.name_or_path,
        revision=held.revision,
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            _inject(model, config, role)
        except ValueError as error:
            raise InvalidError(
                "lora.targetModules",
                lora.target_modules,
                str(error).splitlines()[0],
                "name linear layers of the model, or leave it out",
            ) from error


def load_adapter(
    model: PreTrainedModel, folder: Path, role: Role, *, dropout: float | None = None
) -> dict[str, Tensor]:
    """Read a saved adapter into `model`; return what was saved besides, by name: a head.

    dropout: probability with which its input is dropped in training; None for its own.

    Raises:
        InvalidError: the adapter does not fit the model.
    """
    config = peft.LoraConfig.from_pretrained(str(folder))
    config.modules_to_save = None
    if dropout is not None:
        config.lora_dropout = dropout
    try:
        saved = load_file(folder / WEIGHTS)
        _inject(model, config, role)
        named, heads = _without_heads(saved)
        result: Any = set_peft_model_state_dict(model, named, adapter_name=role)
    except (OSError, ValueError, RuntimeError, TypeError, SafetensorError) as error:
        problem = next(iter(str(error).splitlines()), type(error).__name__)
        raise _unfit(folder, problem) from error
    missing = [name for name in result.missing_keys if f".{role}." in name]
    if unknown := [*result.unexpected_keys, *missing]:
        raise _unfit(folder, f"its layers are not the model's: {unknown[0]}")
    return heads


def _without_heads(saved: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return an adapter's own tensors, and those of a head, by their names in the model."""
    named = {name.removeprefix(PREFIX): value for name, value in saved.items()}
    heads = {name: named.pop(name) for name in list(named) if name.startswith(f"{HEAD}.")}
    if others := [name for name in named if ".lora_" not in name]:
        msg = f"it holds {others[0]} of the model itself, which all roles share"
        raise ValueError(msg)
    return named, heads


def _unfit(folder: Path, problem: str) -> InvalidError:
    return InvalidError(
        "adapter", folder, f"cannot be used: {problem}", "name one of this model's linear layers"
    )


def copy_adapter(model: PreTrainedModel, source: Role, target: Role) -> None:
    """Give `target` an adapter that is the same as that of `source`."""
    _inject(model, _config(model, source), target)
    state = get_peft_model_state_dict(model, adapter_name=source, save_embedding_layers=False)
    set_peft_model_state_dict(model, state, adapter_name=target)


def save_adapter(
    model: PreTrainedModel, role: Role, folder: Path, *, head: nn.Linear | None = None
) -> None:
    """Write an adapter, with a classifier's head if there is one, as PEFT reads it."""
    state = get_peft_model_state_dict(model, adapter_name=role, save_embedding_layers=False)
    config = _config(model, role)
    config.task_type = "CAUSAL_LM" if head is None else "SEQ_CLS"
    config.inference_mode = True
    if head is not None:
        config.modules_to_save = [HEAD]
        state[f"{HEAD}.weight"] = head.weight
    tensors = {f"{PREFIX}{name}": value.detach().contiguous() for name, value in state.items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    config.save_pretrained(str(folder))


def _config(model: PreTrainedModel, role: Role) -> peft.LoraConfig:
    configs: Any = model.peft_config
    config: peft.LoraConfig = copy.deepcopy(configs[role])
    config.exclude_modules = None
    if not isinstance(config.target_modules, str):
        config.target_modules = sorted(set(config.target_modules or ()) - {HEAD})
    return config


def _inject(model: PreTrainedModel, config: peft.LoraConfig, role: Role) -> None:
    peft.inject_adapter_in_model(config, model, role)
    model.requires_grad_(requires_grad=False)
    shared = (model.get_output_embeddings(), getattr(model, HEAD, None))
    for name, layer in model.named_modules():
        # What all roles share, or is switched otherwise, would change them all.
        if isinstance(layer, LoraLayer) and (
            layer in shared or not isinstance(layer.get_base_layer(), nn.Linear | Conv1D)
        ):
            msg = f"{name} cannot have an adapter: only linear layers below the output layer can"
            raise ValueError(msg)


def merge(model: PreTrainedModel) -> PreTrainedModel:
    """Add the active adapter to the model's own weights; return it without adapters, trainable."""
    for name, layer in list(model.named_modules()):
        if isinstance(layer, LoraLayer):
            layer.merge(adapter_names=layer.active_adapters)
            model.set_submodule(name, layer.get_base_layer())
    del model.peft_config
    return model.requires_grad_()


def parameters_of(model: nn.Module, role: Role) -> list[nn.Parameter]:
    """Return the parameters of a role's adapter."""
    return [value for name, value in model.named_parameters() if f".{role}." in name]


def train_adapter(model: nn.Module, role: Role) -> list[nn.Parameter]:
    """Let a role's adapter learn; return its parameters."""
    parameters = parameters_of(model, role)
    for parameter in parameters:
        parameter.requires_grad_()
    return parameters


def has_adapter(model: PreTrainedModel, role: Role) -> bool:
    """Return whether a role has an adapter of its own."""
    return role in getattr(model, "peft_config", {})


@contextmanager
def active(model: nn.Module, role: Role | None) -> Iterator[None]:
    """Let `model` be what `role` is; the bare model for a role without an adapter."""
    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    before = _state(layers)
    _set(layers, role)
    try:
        yield
    finally:
        _set(layers, before)


def same_role(
    model: nn.Module,
) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Return contexts of a layer's forward pass and of its recomputation, which is of one role."""
    layers = [module for module in model.modules() if isinstance(module, LoraLayer)]
    return nullcontext(), active(model, _state(layers))


def _state(layers: Sequence[LoraLayer]) -> Role | None:
    """Return the active role. Layers that it has no adapter in are disabled."""
    enabled = (layer for layer in layers if not layer.disable_adapters)
    layer = next(enabled, None)
    return None if layer is None else Role(layer.active_adapters[0])


def _set(layers: Sequence[LoraLayer], role: Role | None) -> None:
    for layer in layers:
        # PEFT's own setters would also decide what is trained.
        layer._disable_adapters = role is None or role not in layer.lora_A  # noqa: SLF001 - see above
        if role is not None:
            layer._active_adapter = [role]  # noqa: SLF001 - see above
