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
    base = _setting(folder, "base_model_name_or_path")
    if not base:
        raise InvalidError(
            f"{folder}/{CONFIG}:base_model_name_or_path",
            base,
            "names no model",
            "name the folder or hub id of the model that the adapter was trained on",
        )
    return base


def revision_of(folder: str | Path) -> str | None:
    """Return the base model's branch, tag or commit; None if the adapter names none."""
    return _setting(folder, "revision")


def _setting(folder: str | Path, name: str) -> str | None:
    file = Path(folder) / CONFIG
    try:
        value = json.loads(file.read_text(encoding="utf-8")).get(name)
    except (AttributeError, ValueError) as error:
        problem = f"is no JSON object: {error}"
        raise InvalidError("adapter", file, problem, "let PEFT write it again") from error
    return value if isinstance(value, str) else None
