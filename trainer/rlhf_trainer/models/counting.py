"""A model's sizes for a memory plan, counted on torch's meta device: a configuration suffices."""

from torch import nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.pytorch_utils import Conv1D

from rlhf_trainer.models.architecture import hollow_causal_lm, hollow_classifier, is_remote
from rlhf_trainer.planning.architecture import Architecture, Linear

NEEDED = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
"""Settings without which activations and caches cannot be told."""

INTERMEDIATE = ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size")
"""Names of the intermediate size, by architecture."""

USUAL_FACTOR = 4
"""Intermediate size over hidden size where a configuration names none, as GPT-2's."""


def architecture_of(config: PreTrainedConfig) -> Architecture | None:
    """Return the sizes of a model of this configuration; None if they cannot be told.

    That is so for models whose code comes with them, and where settings have names of their own.
    A reward model need not be a causal language model.
    """
    text = config.get_text_config()
    if is_remote(config) or not all(getattr(text, name, None) for name in NEEDED):
        return None
    is_causal = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING
    model = hollow_causal_lm(config) if is_causal else hollow_classifier(config)
    hidden, heads = int(text.hidden_size), int(text.num_attention_heads)
    named = (getattr(text, name, None) for name in INTERMEDIATE)
    return Architecture(
        family=str(text.model_type),
        hidden=hidden,
        layers=int(text.num_hidden_layers),
        heads=heads,
        key_value_heads=int(getattr(text, "num_key_value_heads", None) or heads),
        head_size=int(getattr(text, "head_dim", None) or hidden // heads),
        intermediate=int(next((size for size in named if size), USUAL_FACTOR * hidden)),
        vocabulary=int(text.vocab_size),
        sizes=_sizes(model),
        classifier_parameters=_classifier_parameters(config, model),
        linears=_linears(model),
    )


def _sizes(model: nn.Module) -> tuple[int, ...]:
    return tuple(parameter.numel() for parameter in model.parameters())


def _classifier_parameters(config: PreTrainedConfig, model: PreTrainedModel) -> int:
    """Return those of a classifier with one label; where there is none, no phase needs one."""
    if type(config) in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        return sum(_sizes(hollow_classifier(config)))
    return sum(_sizes(model.base_model))


def _linears(model: PreTrainedModel) -> tuple[Linear, ...]:
    """Return the layers that can have an adapter: PEFT's `all-linear` leaves the output layer."""
    output = model.get_output_embeddings()
    linears = []
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear) and layer is not output:
            linears.append(Linear(name, layer.in_features, layer.out_features))
        elif isinstance(layer, Conv1D):
            linears.append(Linear(name, layer.nx, layer.nf))
    return tuple(linears)
