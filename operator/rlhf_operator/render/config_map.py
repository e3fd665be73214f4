"""The configuration of an attempt: the training half and the guard, in an immutable ConfigMap.

That of Preparation says besides where the phases run, for the memory plan.
"""

import hashlib
from typing import Any

from rlhf_operator.api import AttemptKey, RLHFRun
from rlhf_operator.render.labels import TRAINER_IMAGE, attempt_metadata
from rlhf_trainer.config import TrainingConfig
from rlhf_trainer.contract import HARDWARE_FILE, Hardware

CONFIG_FILE = "config.json"

DIGEST_CHARACTERS = 16


def attempt_config(
    run: RLHFRun,
    key: AttemptKey,
    config: TrainingConfig,
    *,
    image: str,
    hardware: Hardware | None = None,
) -> dict[str, Any]:
    """Return the ConfigMap that an attempt reads; Preparation is told the hardware.

    `image` is the trainer's, for runs that name none: the next attempt finds it here.
    """
    data = {CONFIG_FILE: config_text(config)}
    if hardware is not None:
        data[HARDWARE_FILE] = hardware.to_json()
    metadata = attempt_metadata(run, key, config_digest(config))
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


def config_digest(config: TrainingConfig) -> str:
    """Return what tells one configuration from another."""
    return hashlib.sha256(config_text(config).encode()).hexdigest()[:DIGEST_CHARACTERS]
