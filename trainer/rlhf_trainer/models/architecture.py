"""Which architectures are trained here, told by a configuration before any weight is loaded.

Decided here: a policy has a trunk and an output layer and keeps keys and values while it decodes; a
network with one number per position is a sequence classifier of transformers with a linear head
named `score`, so that plain transformers loads what is exported.
"""

from typing import Any

import torch
from torch import nn
from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
)

from rlhf_trainer.errors import InvalidError

HEAD = "score"
"""Name of the linear head of transformers' causal sequence classifiers."""

LOGIT_TRANSFORMS = ("final_logit_softcapping", "logit_scale", "logits_scaling")
"""Settings by which some architectures change logits after the output layer; ours end with it."""

OTHER_MODEL = "choose a model of another architecture"


def require_policy(config: PreTrainedConfig, place: str, source: object) -> None:
    """Refuse an architecture that cannot be a policy here.

    Code that comes with a model is not known here: its classes are tried when they are loaded.

    Raises:
        InvalidError: it is no causal language model, changes its logits, or decodes with a state.
    """
    for name in LOGIT_TRANSFORMS:
        # A composite configuration (Gemma 3) has a language model's settings in a part of it.
        value = getattr(config.get_text_config(), name, getattr(config, name, None))
        if value not in (None, 1, 1.0):
            problem = f"its {name} is {value}, and logits are used as its output layer gives them"
            raise InvalidError(place, source, problem, OTHER_MODEL)
    if is_remote(config):
        return
    kind: Any = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    if kind is None:
        problem = f"transformers has no causal language model of type {config.model_type!r}"
        raise InvalidError(place, source, problem, OTHER_MODEL)
    if getattr(kind, "_is_stateful", False):
        problem = (
            f"{kind.__name__} decodes with a recurrent state, and rollouts need keys and values"
        )
        raise InvalidError(place, source, problem, OTHER_MODEL)


def require_trunk(lm: PreTrainedModel, source: object) -> None:
    """Refuse a loaded model whose trunk and output layer cannot be told apart.

    Raises:
        InvalidError: there is no trunk below the output layer.
    """
    if lm.base_model is lm or lm.get_output_embeddings() is None:
        problem = f"{type(lm).__name__} has no trunk apart from its output layer"
        raise InvalidError("model", source, problem, OTHER_MODEL)


def require_scalar_head(config: PreTrainedConfig, place: str, source: object, reader: str) -> None:
    """Refuse an architecture that no reward model or critic can start from.

    `reader` says what is to start from it.

    Raises:
        InvalidError: it has no sequence classifier whose head is linear.
    """
    if is_remote(config):
        return
    if not has_scalar_head(config):
        problem = (
            f"transformers has no sequence classifier of type {config.model_type!r} with a "
            f"linear head named {HEAD}, and the {reader} starts from it"
        )
        raise InvalidError(place, source, problem, OTHER_MODEL)


def has_scalar_head(config: PreTrainedConfig) -> bool:
    """Return whether the architecture's sequence classifier reads tokens as ours do."""
    if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        return False
    return isinstance(getattr(hollow_classifier(config), HEAD, None), nn.Linear)


def hollow_classifier(config: PreTrainedConfig) -> PreTrainedModel:
    """Return a sequence classifier with one label and no weights (torch's meta device)."""
    one_label = type(config).from_dict(config.to_dict() | {"num_labels": 1, "id2label": None})
    one_label.num_labels = 1
    auto: Any = AutoModelForSequenceClassification
    with torch.device("meta"):
        model: PreTrainedModel = auto.from_config(one_label)
    return model


def hollow_causal_lm(config: PreTrainedConfig) -> PreTrainedModel:
    """Return a causal language model with no weights (torch's meta device)."""
    auto: Any = AutoModelForCausalLM
    with torch.device("meta"):
        model: PreTrainedModel = auto.from_config(config)
    return model


def is_remote(config: PreTrainedConfig) -> bool:
    """Return whether a model's classes come with it, and are not known before it is loaded."""
    return bool(getattr(config, "auto_map", None))
