"""The volume that holds a run's data, checkpoints and models."""

from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from rlhf_operator.api.text import ObjectName, Quantity
from rlhf_trainer.config.base import ConfigModel

DEFAULT_SIZE = "100Gi"
"""Room for a model of 7 billion parameters: two checkpoints of its optimiser and the exports."""


class AccessMode(StrEnum):
    """Who may mount a volume."""

    READ_WRITE_ONCE = "ReadWriteOnce"
    READ_WRITE_MANY = "ReadWriteMany"


class Retention(StrEnum):
    """What becomes of a workspace when its run is deleted."""

    RETAIN = "Retain"
    DELETE = "Delete"


class WorkspaceVolume(ConfigModel):
    """The volume of a run; `rlhf run` has its `--workspace` folder and ignores this."""

    claim_name: ObjectName | None = None
    """Existing claim to use; runs that share one have folders of their own on it.

    Default: none, a claim is made for the run.
    """

    size: Quantity | None = None
    """Size of the claim that is made, in bytes with a suffix, such as 500Gi.

    Default: 100Gi, a 7B model with its checkpoints; goes without `claimName`.
    """

    storage_class_name: str | None = Field(default=None, max_length=253)
    """Storage class of the claim that is made; empty for a volume that exists already.

    Default: the cluster's default class.
    """

    access_mode: AccessMode = AccessMode.READ_WRITE_ONCE
    """Access of the claim that is made: ReadWriteMany for more than one node.

    Default: ReadWriteOnce, which every class can do.
    """

    retention: Retention = Retention.RETAIN
    """What becomes of the claim that was made when the run is deleted: Retain or Delete.

    Default: Retain.
    """

    @model_validator(mode="after")
    def claim_or_size(self) -> Self:
        """An existing claim has its size and class already."""
        given = {"size": self.size, "storageClassName": self.storage_class_name}
        for name, value in given.items():
            if self.claim_name is not None and value is not None:
                msg = f"{name}={value}: goes without claimName only; keep one of the two"
                raise ValueError(msg)
        return self
