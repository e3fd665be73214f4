"""Folders that hold a LoRA adapter in PEFT's format, and not a whole model; reads no weights."""

import json
from pathlib import Path

from rlhf_trainer.errors import InvalidError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
"""What PEFT puts before the names of a model's tensors."""


def is_adapter(folder: str | Path) -> bool:
    """Return whether a folder holds an adapter."""
    return (Path(folder) / CONFIG).is_file()


def base_of(folder: str | Path) -> str:
    """Return the model, a folder or hub id, that an adapter belongs to.

    Raises:
        InvalidError: the adapter does not name one.
    """
    file = Path(folder) / CONFIG
    try:
        base = json.loads(file.read_text(encoding="utf-8"))["base_model_name_or_path"]
    except (KeyError, TypeError, ValueError) as error:
        raise _no_base(file, type(error).__name__) from error
    if not isinstance(base, str) or not base:
        raise _no_base(file, base)
    return base


def _no_base(file: Path, found: object) -> InvalidError:
    return InvalidError(
        f"{file}:base_model_name_or_path",
        found,
        "names no model",
        "name the folder or hub id of the model that the adapter was trained on",
    )
