"""A model's sizes for a memory plan, counted on torch's meta device: a configuration suffices."""

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from rlhf_trainer.models.architecture import hollow_causal_lm
from rlhf_trainer.planning.architecture import Architecture, Linear

GATED_FACTOR = 4
"""Intermediate size over hidden size where a configuration names none, as in GPT-2."""


def architecture_of(config: PreTrainedConfig) -> Architecture:
    """Return the sizes of a causal language model of this configuration."""
    text = config.get_text_config()
    lm = hollow_causal_lm(config)
    sizes = [parameter.numel() for parameter in lm.parameters()]
    hidden, heads = int(text.hidden_size), int(text.num_attention_heads)
    return Architecture(
        family=str(text.model_type),
        hidden=hidden,
        layers=int(text.num_hidden_layers),
        heads=heads,
        key_value_heads=int(getattr(text, "num_key_value_heads", None) or heads),
        head_size=int(getattr(text, "head_dim", None) or hidden // heads),
        intermediate=_intermediate(text, hidden),
        vocabulary=int(text.vocab_size),
        sizes=tuple(sizes),
        classifier_parameters=sum(p.numel() for p in lm.base_model.parameters()) + hidden,
        linears=_linears(lm),
    )


def _intermediate(text: PreTrainedConfig, hidden: int) -> int:
    named = (getattr(text, name, None) for name in ("intermediate_size", "n_inner", "ffn_dim"))
    return int(next((size for size in named if size), GATED_FACTOR * hidden))


def _linears(lm: PreTrainedModel) -> tuple[Linear, ...]:
    """Return the layers that can have an adapter: PEFT's `all-linear` leaves the output layer."""
    output = lm.get_output_embeddings()
    linears = []
    for name, layer in lm.named_modules():
        if isinstance(layer, nn.Linear) and layer is not output:
            linears.append(Linear(name, layer.in_features, layer.out_features))
        elif isinstance(layer, Conv1D):
            linears.append(Linear(name, layer.nx, layer.nf))
    return tuple(linears)
