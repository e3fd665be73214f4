"""The configuration of an attempt: the training half and the guard, in an immutable ConfigMap.

That of Preparation says besides where the phases run, for the memory plan.
"""

import hashlib
import json
from typing import Any

from pydantic import JsonValue, ValidationError
from pydantic_core import to_json

from rlhf_operator.api import AttemptKey, RLHFRun
from rlhf_operator.api.changes import MUTABLE
from rlhf_operator.render.labels import TRAINER_IMAGE, attempt_metadata
from rlhf_trainer.config import TrainingConfig
from rlhf_trainer.contract import HARDWARE_FILE, Hardware

CONFIG_FILE = "config.json"

DIGEST_CHARACTERS = 16


def attempt_config(
    run: RLHFRun,
    key: AttemptKey,
    text: str,
    *,
    image: str,
    hardware: Hardware | None = None,
) -> dict[str, Any]:
    """Return the ConfigMap that an attempt reads; Preparation is told the hardware.

    `text` is the configuration, as `config_text` or `carried_text` tell it. `image` is the
    trainer's: the next attempt finds it here.
    """
    data = {CONFIG_FILE: text}
    if hardware is not None:
        data[HARDWARE_FILE] = hardware.to_json()
    metadata = attempt_metadata(run, key, config_digest(text))
    metadata["annotations"][TRAINER_IMAGE] = image
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata,
        "immutable": True,
        "data": data,
    }


def config_text(config: TrainingConfig) -> str:
    """Return a configuration as the trainer reads it."""
    return config.model_dump_json(by_alias=True, indent=1) + "\n"


def carried_text(before: str, config: TrainingConfig) -> str:
    """Return what an earlier attempt read, with today's values of what may change in mid-phase.

    Another version may have written it for its own trainer, which refuses fields that it does not
    know: none is added or taken away.
    """
    tree: dict[str, JsonValue] = json.loads(before)
    today: dict[str, JsonValue] = config.model_dump(mode="json", by_alias=True)
    tree |= {name: _reshaped(today[name], tree[name]) for name in MUTABLE & tree.keys()}
    # Spelled as `config_text` does it: what has not changed has the digest that it had.
    return to_json(tree, indent=1).decode() + "\n"


def is_readable(text: str) -> bool:
    """Return whether a trainer of this version takes a configuration."""
    try:
        TrainingConfig.model_validate_json(text)
    except ValidationError:
        return False
    return True


def config_digest(text: str) -> str:
    """Return what tells one configuration from another."""
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_CHARACTERS]


def _reshaped(value: JsonValue, before: JsonValue) -> JsonValue:
    """Return a value with the fields of the one before, where both have fields."""
    if not (isinstance(value, dict) and isinstance(before, dict)):
        return value
    return {
        name: _reshaped(value[name], old) if name in value else old for name, old in before.items()
    }
