"""Loading pretrained models: number format, attention kernel, and what cannot be trained here."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
)
from transformers.modeling_layers import GradientCheckpointingLayer

from rlhf_trainer.config.model import DType, ModelConfig
from rlhf_trainer.data.adapter_folders import base_of, is_adapter, revision_of
from rlhf_trainer.data.special_tokens import SpecialTokens
from rlhf_trainer.errors import InvalidError
from rlhf_trainer.files import require_readable
from rlhf_trainer.models.adapters import Role, load_adapter, merge, same_role
from rlhf_trainer.models.architecture import require_policy, require_trunk
from rlhf_trainer.models.attention import attention_implementation
from rlhf_trainer.models.scalar_head import ScoreNormalisation
from rlhf_trainer.models.trained_linear import multiply_by_onednn, onednn_pays

MODEL_CLASSES: dict[Any, Any] = {
    AutoModelForCausalLM: MODEL_FOR_CAUSAL_LM_MAPPING,
    AutoModelForSequenceClassification: MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
}
"""By automatic class, the model's class of each class of configuration."""


def torch_dtype(dtype: DType, device: torch.device) -> torch.dtype:
    """Return the number format that `dtype` means on `device`."""
    if dtype is DType.AUTO:
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return torch.bfloat16 if dtype is DType.BFLOAT16 else torch.float32


def load_causal_lm(source: str | Path, model: ModelConfig, device: torch.device) -> PreTrainedModel:
    """Return a causal language model in evaluation mode, on `device`.

    A folder that holds an adapter gives the model that it belongs to, with the adapter's weights
    added to its own.

    Raises:
        InvalidError: there is no such model, or its architecture cannot be trained here.
    """
    if is_adapter(source):
        base = load_causal_lm(base_of(source), _held_as(source, model), device)
        return merge(_with_adapter(base, Path(source)))
    lm: PreTrainedModel = _load(AutoModelForCausalLM, source, model, device)
    require_policy(lm.config, "model", source)
    require_trunk(lm, source)
    return _prepared(lm, model, device)


def load_classifier(
    source: str | Path,
    model: ModelConfig,
    device: torch.device,
    *,
    new_head: bool = False,
    merging: bool = True,
) -> PreTrainedModel:
    """Return a classifier with one label, a trunk and a scalar head, in evaluation mode.

    An adapter's folder gives the whole model, as in `load_causal_lm`.

    new_head: the caller draws the head, so the source need not have one.
    merging: without it, an adapter stays beside the weights: in bfloat16 merging rounds it.

    Raises:
        InvalidError: there is no such model, or it has no head where one is needed.
    """
    if is_adapter(source):
        held = _held_as(source, model)
        base = load_classifier(base_of(source), held, device, new_head=True)
        classifier = _with_adapter(base, Path(source))
        return merge(classifier) if merging else classifier
    classifier, info = _load(
        AutoModelForSequenceClassification,
        source,
        model,
        device,
        num_labels=1,
        output_loading_info=True,
    )
    if not new_head and info["missing_keys"]:
        raise InvalidError(
            "model",
            source,
            f"is no reward model: it has no {', '.join(sorted(info['missing_keys']))}",
            "name a sequence classifier with one label",
        )
    return _prepared(classifier, model, device)


def _held_as(folder: str | Path, model: ModelConfig) -> ModelConfig:
    """Return how an adapter's base is held: as the model, at the adapter's own revision."""
    return model.model_copy(update={"revision": revision_of(folder)})


def _with_adapter(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """Return the model with the adapter in `folder` beside its weights, and with its head."""
    heads = load_adapter(model, folder, Role.POLICY)
    if heads:
        model.load_state_dict(heads, strict=False)
        ScoreNormalisation.read(folder).store(model)
    return model


def tell_special_tokens(model: PreTrainedModel, special: SpecialTokens) -> None:
    """Write into a model's configuration what ends and fills its sequences.

    Plain transformers needs the padding token to find the last token of a padded row, where a
    classifier is read, and stops generating at the tokens of the generation configuration.
    """
    for config in (model.config, model.config.get_text_config()):
        config.pad_token_id = special.pad
        if getattr(config, "eos_token_id", None) is None:  # a composite one need not have it
            config.eos_token_id = special.eos
    generation = getattr(model, "generation_config", None)
    if generation is not None:
        generation.pad_token_id = special.pad
        known = generation.eos_token_id
        ends = [known] if isinstance(known, int) else list(known or [])
        if special.eos not in ends:
            generation.eos_token_id = [*ends, special.eos] if ends else special.eos
        # Settings without effect (a temperature without do_sample) are written with a warning if
        # the configuration is as it was read, and refused if it was changed.
        generation._original_object_hash = hash(generation)  # noqa: SLF001 - no other way


def _load(
    kind: Any,  # noqa: ANN401 - transformers' auto classes share no type
    source: str | Path,
    model: ModelConfig,
    device: torch.device,
    **kwargs: object,
) -> Any:  # noqa: ANN401 - the model, with what is told about its loading if asked for
    if Path(source).is_dir():
        _refuse_pickle(Path(source))
        require_readable(Path(source), "model")
    held: dict[str, Any] = {
        "revision": model.revision or "main",
        "trust_remote_code": model.trust_remote_code,
    }
    dtype = torch_dtype(model.dtype, device)
    try:
        config = AutoConfig.from_pretrained(source, **held)
        known = MODEL_CLASSES[kind].get(type(config), None)
        return kind.from_pretrained(
            source,
            **held,
            dtype=dtype,
            attn_implementation=attention_implementation(model.attention, dtype, device, known),
            use_safetensors=True,
            **kwargs,
        )
    except (OSError, ValueError, RuntimeError, json.JSONDecodeError) as error:
        problem = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InvalidError(
            "model",
            source,
            f"cannot be loaded: {problem}",
            "name a folder below the data root or a hub id with safetensors weights",
        ) from error


def _prepared(model: PreTrainedModel, config: ModelConfig, device: torch.device) -> PreTrainedModel:
    if config.gradient_checkpointing:
        # Layers are recomputed as the role that they had, not as the one that is active by then.
        context_of = partial(same_role, model)
        model.activation_checkpointing_enable({"use_reentrant": False, "context_fn": context_of})
    placed: PreTrainedModel = model.to(device).eval()  # type: ignore[arg-type]
    if device.type == "cpu" and onednn_pays():
        multiply_by_onednn(placed)
    return placed


@contextmanager
def recomputed_activations(module: nn.Module) -> Iterator[None]:
    """Recompute activations in the backward pass, while dropout stays off.

    Layers of transformers recompute only in training mode. It is set for layers that are to, and
    taken back while they compute: some (OPT, Falcon) drop out by a flag of the layer itself.
    Without gradient checkpointing in the configuration this changes nothing.
    """
    # nn.Module hands out attributes it does not know the type of
    layers: list[Any] = [
        part
        for part in module.modules()
        if isinstance(part, GradientCheckpointingLayer) and part.gradient_checkpointing
    ]
    functions = [layer._gradient_checkpointing_func for layer in layers]  # noqa: SLF001 - no other way
    for layer, function in zip(layers, functions, strict=True):
        layer.training = True
        layer._gradient_checkpointing_func = _without_dropout(layer, function)  # noqa: SLF001
    try:
        yield
    finally:
        for layer, function in zip(layers, functions, strict=True):
            layer.training = False
            layer._gradient_checkpointing_func = function  # noqa: SLF001


def _without_dropout(layer: nn.Module, recompute: Callable[..., Any]) -> Callable[..., Any]:
    """Return `recompute` with the layer in evaluation mode whenever its forward pass runs."""

    def recompute_without(forward: Callable[..., Any], *args: object) -> Any:  # noqa: ANN401 - the layer's
        def evaluate(*inputs: object) -> Any:  # noqa: ANN401 - the layer's
            layer.training = False
            try:
                return forward(*inputs)
            finally:
                # the recomputing pass is left by an exception of torch's, too
                layer.training = True

        return recompute(evaluate, *args)

    return recompute_without


def _refuse_pickle(folder: Path) -> None:
    if not list(folder.glob("*.safetensors")) and list(folder.glob("pytorch_model*.bin")):
        raise InvalidError(
            "model",
            folder,
            "has pickled weights only, which can run code when loaded",
            "convert them to safetensors",
        )
