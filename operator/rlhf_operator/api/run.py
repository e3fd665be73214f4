"""The resource: one RLHF run, `rlhf.dev/v1alpha1`."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, ConfigDict, Field

from rlhf_operator.api.keys import RunKey
from rlhf_operator.api.model import ApiModel, Time
from rlhf_operator.api.spec import RLHFRunSpec
from rlhf_operator.api.status import RunStatus

UID_CHARACTERS = 8
"""So much of a run's UID tells it from earlier runs of its name."""

API_VERSION = "rlhf.dev/v1alpha1"
KIND = "RLHFRun"

MAXIMUM_NAME_LENGTH = 30
"""A service is named `<run>-i<iteration>-<phase>-a<attempt>-worker-<i>`, in at most 63 characters.

This leaves two digits for iterations and three for attempts and workers, next to the longest phase.
"""


NAME_PATTERN = "^[a-z]([-a-z0-9]*[a-z0-9])?$"
"""A DNS label, RFC 1035: a job's name begins with it."""


def _dns_label(name: str) -> str:
    if not re.fullmatch(NAME_PATTERN, name):
        msg = (
            f"{name}: not a DNS label; use lower-case letters, digits and '-', "
            "beginning with a letter and not ending with '-'"
        )
        raise ValueError(msg)
    return name


class Metadata(ApiModel):
    """What is read of a Kubernetes object's metadata; the rest is Kubernetes' own business."""

    name: Annotated[
        str, Field(min_length=1, max_length=MAXIMUM_NAME_LENGTH), AfterValidator(_dns_label)
    ]
    """Name of the run. Required."""

    namespace: str = ""
    """Namespace of the run; `rlhf run` knows none."""

    uid: str = ""
    """Given by the API server."""

    generation: int = 1
    """Counts the changes of the spec."""

    resource_version: str = ""
    """Version of the object as it was read: a write that names it fails if another came first."""

    finalizers: tuple[str, ...] = ()
    """Who has to let go before the object can vanish."""

    deletion_timestamp: Time | None = None
    """When somebody asked for its deletion."""


class RLHFRun(ApiModel):
    """One run of RLHF: what is asked for, and how far it has come."""

    model_config = ConfigDict(extra="forbid")

    api_version: Literal["rlhf.dev/v1alpha1"]
    """Version of the resource. Required."""

    kind: Literal["RLHFRun"]
    """Type of the resource. Required."""

    metadata: Metadata
    """Name of the run. Required."""

    spec: RLHFRunSpec
    """What is asked for. Required."""

    status: RunStatus = RunStatus()
    """How far it has come; written by whoever drives the run."""

    @property
    def key(self) -> RunKey:
        """Name of the run."""
        return RunKey(self.metadata.namespace, self.metadata.name)

    @property
    def root_folder(self) -> str:
        """The run's folder on its volume, in a cluster."""
        return f"{self.metadata.name}-{self.metadata.uid[:UID_CHARACTERS]}"

    @property
    def claim_name(self) -> str:
        """The claim of its volume, in a cluster: the one it names, or the one made for it."""
        return self.spec.workspace.claim_name or f"{self.metadata.name}-workspace"
