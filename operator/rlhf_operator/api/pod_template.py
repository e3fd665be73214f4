"""The overlay on the trainer's pods: a few named things, not a whole PodSpec."""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from rlhf_operator.api.handover import HandedOver
from rlhf_operator.api.text import AbsolutePath, DNSLabel, LabelValue, ObjectName, Quantity
from rlhf_trainer.config.base import ConfigModel

RESERVED_PREFIX = "rlhf-"
"""Names of the operator's own volumes begin so."""

VariableName = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[A-Za-z_][\w.-]*$")]

DataKey = Annotated[str, Field(min_length=1, max_length=253, pattern=r"^[-\w.]+$")]


class KeyReference(HandedOver):
    """One key of a Secret or ConfigMap of the run's namespace."""

    name: ObjectName
    """Name of the Secret or ConfigMap. Required."""

    key: DataKey
    """Key in it. Required."""

    optional: bool = False
    """Whether it may be missing. Default: false."""


class EnvironmentSource(HandedOver):
    """Where the value of a variable comes from."""

    secret_key_ref: KeyReference | None = None
    """Key of a Secret. Default: none."""

    config_map_key_ref: KeyReference | None = None
    """Key of a ConfigMap. Default: none."""

    @model_validator(mode="after")
    def one_source_of_a_value(self) -> Self:
        """Exactly one of the two."""
        if (self.secret_key_ref is None) == (self.config_map_key_ref is None):
            msg = "secretKeyRef and configMapKeyRef: exactly one must be set; name one of the two"
            raise ValueError(msg)
        return self


class EnvironmentVariable(HandedOver):
    """A variable of the trainer's environment."""

    name: VariableName
    """Name of the variable. Required."""

    value: Annotated[str, Field(max_length=32_768)] | None = None
    """Its value. Default: none; one of `value` and `valueFrom` is required."""

    value_from: EnvironmentSource | None = None
    """Where its value comes from. Default: none."""

    @model_validator(mode="after")
    def value_or_source(self) -> Self:
        """Exactly one of the two."""
        if (self.value is None) == (self.value_from is None):
            msg = "value and valueFrom: exactly one must be set; name one of the two"
            raise ValueError(msg)
        return self


class NamedReference(HandedOver):
    """A Secret or ConfigMap of the run's namespace."""

    name: ObjectName
    """Its name. Required."""

    optional: bool = False
    """Whether it may be missing. Default: false."""


class EnvironmentFrom(HandedOver):
    """All keys of a Secret or ConfigMap as variables."""

    prefix: VariableName | None = None
    """What the names of the variables begin with. Default: nothing."""

    secret_ref: NamedReference | None = None
    """The Secret. Default: none."""

    config_map_ref: NamedReference | None = None
    """The ConfigMap. Default: none."""

    @model_validator(mode="after")
    def one_source_of_variables(self) -> Self:
        """Exactly one of the two."""
        if (self.secret_ref is None) == (self.config_map_ref is None):
            msg = "secretRef and configMapRef: exactly one must be set; name one of the two"
            raise ValueError(msg)
        return self


class ClaimVolume(HandedOver):
    """A claim of the run's namespace."""

    claim_name: ObjectName
    """Its name. Required."""

    read_only: bool = False
    """Whether it is mounted for reading only. Default: false."""


class SecretVolume(HandedOver):
    """A Secret of the run's namespace, as files."""

    secret_name: ObjectName
    """Its name. Required."""

    optional: bool = False
    """Whether it may be missing. Default: false."""


class Medium(StrEnum):
    """What holds an empty volume."""

    MEMORY = "Memory"


class EmptyVolume(HandedOver):
    """An empty folder that lives as long as its pod."""

    medium: Medium | None = None
    """What holds it: Memory. Default: the node's disk."""

    size_limit: Quantity | None = None
    """How much it may hold, in bytes with a suffix, such as 10Gi. Default: no limit."""


class Volume(HandedOver):
    """A volume of the trainer's pods; kinds that Pod Security `restricted` refuses are left out."""

    name: DNSLabel
    """Its name, for `volumeMounts`; not beginning with rlhf-. Required."""

    persistent_volume_claim: ClaimVolume | None = None
    """A claim. Default: none."""

    secret: SecretVolume | None = None
    """A Secret. Default: none."""

    config_map: NamedReference | None = None
    """A ConfigMap. Default: none."""

    empty_dir: EmptyVolume | None = None
    """An empty folder. Default: none."""

    @model_validator(mode="after")
    def one_kind_of_volume(self) -> Self:
        """Exactly one of the four."""
        kinds = (self.persistent_volume_claim, self.secret, self.config_map, self.empty_dir)
        if sum(kind is not None for kind in kinds) != 1:
            msg = (
                "persistentVolumeClaim, secret, configMap and emptyDir: exactly one must be set; "
                "name one of them"
            )
            raise ValueError(msg)
        return self


class VolumeMount(HandedOver):
    """Where a volume appears in the trainer's container."""

    name: DNSLabel
    """The volume. Required."""

    mount_path: AbsolutePath
    """Folder in the container. Required."""

    sub_path: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    """Folder of the volume. Default: its root."""

    read_only: bool = False
    """Whether it is mounted for reading only. Default: false."""


OWN_MOUNTS = ("/workspace", "/data", "/etc/rlhf", "/dev/shm", "/tmp")  # noqa: S108 -- a pod's own
"""Where the operator mounts something itself."""


class SecretReference(HandedOver):
    """A Secret with credentials for images."""

    name: ObjectName
    """Its name. Required."""


class PodTemplate(ConfigModel):
    """What is added to the trainer's pods; `rlhf run` ignores it."""

    labels: dict[str, LabelValue] | None = Field(default=None, max_length=64)
    """Labels of the pods. Default: the operator's own."""

    annotations: dict[str, Annotated[str, Field(max_length=4096)]] | None = Field(
        default=None, max_length=64
    )
    """Annotations of the pods. Default: the operator's own."""

    env: tuple[EnvironmentVariable, ...] | None = Field(default=None, max_length=128)
    """Variables, such as NCCL's. Default: none."""

    env_from: tuple[EnvironmentFrom, ...] | None = Field(default=None, max_length=16)
    """Secrets and ConfigMaps whose keys become variables. Default: none."""

    volumes: tuple[Volume, ...] | None = Field(default=None, max_length=16)
    """Volumes of the pods. Default: the operator's own."""

    volume_mounts: tuple[VolumeMount, ...] | None = Field(default=None, max_length=16)
    """Where those volumes appear. Default: nowhere."""

    image_pull_secrets: tuple[SecretReference, ...] | None = Field(default=None, max_length=8)
    """Credentials for the image. Default: those of the service account."""

    @model_validator(mode="after")
    def names_are_free(self) -> Self:
        """The operator has volumes and mounts of its own."""
        for volume in self.volumes or ():
            if volume.name.startswith(RESERVED_PREFIX):
                msg = f"volumes={volume.name}: begins with {RESERVED_PREFIX}; choose another name"
                raise ValueError(msg)
        for mount in self.volume_mounts or ():
            if mount.mount_path in OWN_MOUNTS:
                msg = (
                    f"volumeMounts={mount.mount_path}: the operator mounts something there; "
                    "choose another path"
                )
                raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def mounts_name_volumes(self) -> Self:
        """A mount shows a volume of this overlay."""
        volumes = {volume.name for volume in self.volumes or ()}
        for mount in self.volume_mounts or ():
            if mount.name not in volumes:
                msg = f"volumeMounts={mount.name}: no such volume here; add it to volumes"
                raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def entries_differ(self) -> Self:
        """Variables, volumes and mounts appear once."""
        keys = {
            "env": [variable.name for variable in self.env or ()],
            "volumes": [volume.name for volume in self.volumes or ()],
            "volumeMounts": [mount.mount_path for mount in self.volume_mounts or ()],
            "imagePullSecrets": [secret.name for secret in self.image_pull_secrets or ()],
        }
        for name, values in keys.items():
            twice = next((value for value in values if values.count(value) > 1), None)
            if twice is not None:
                msg = f"{name}={twice}: appears twice; keep one of the two"
                raise ValueError(msg)
        return self
