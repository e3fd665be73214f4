"""What is handed to DeepSpeed, and how often a phase saves."""

from typing import Self

from pydantic import Field, JsonValue, ValidationInfo, field_validator, model_validator

from rlhf_trainer.config.base import ConfigModel

MANAGED_KEYS = frozenset(
    {
        "train_batch_size",
        "train_micro_batch_size_per_gpu",
        "gradient_accumulation_steps",
        "gradient_clipping",
        "optimizer",
        "scheduler",
        "bf16",
        "fp16",
    }
)
"""Keys of DeepSpeed's own configuration that this configuration decides."""


MAXIMUM_VALUES, MAXIMUM_LEVELS = 1000, 10
"""Of `overrides`: DeepSpeed's own configuration has some hundred settings, four levels deep."""

TOO_DEEP: dict[str, JsonValue] = {"": [[[[[[[[[[[]]]]]]]]]]]}
"""Stands for overrides that are too large where these must not be kept: refused as they are."""


def is_too_large(overrides: object) -> bool:
    """Return whether `overrides` have more values or levels than settings can have."""
    level: list[object] = [overrides]
    num_values = 0
    for _ in range(MAXIMUM_LEVELS + 1):
        inner: list[object] = []
        for one in level:
            if isinstance(one, (dict, list)):
                num_values += len(one)
                if num_values > MAXIMUM_VALUES:
                    return True
                inner += one.values() if isinstance(one, dict) else one
        level = inner
    return bool(level)


class DeepSpeedConfig(ConfigModel):
    """How states are sharded over the ranks (ZeRO, arXiv:1910.02054)."""

    zero_stage: int = Field(default=0, json_schema_extra={"enum": [0, 2, 3]}, ge=0, le=3)
    """Sharded states: 0 none, 2 optimizer states and gradients, 3 parameters too.

    Default: 0, plain data parallelism. BFloat16 is never trained below 2: without ZeRO, small
    updates are lost to its rounding.
    """

    offload_optimizer: bool = False
    """Keep optimizer states in the memory of the host and update there (ZeRO-Offload,
    arXiv:2101.06840): less GPU memory, slower steps. Needs `zeroStage` 2 or 3.

    Default: off.
    """

    overrides: dict[str, JsonValue] = Field(default_factory=dict, max_length=64)
    """Further keys of DeepSpeed's configuration, merged over ours; those of `zero_optimization` one
    by one, without its stage. Default: none.
    """

    @field_validator("zero_stage")
    @classmethod
    def supported_stage(cls, value: int) -> int:
        """Stage 1 is left out: stage 2 shards more at the same traffic."""
        if value not in (0, 2, 3):
            msg = f"{value}: unsupported ZeRO stage; use 0, 2 or 3"
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def offload_needs_sharding(self) -> Self:
        """Without ZeRO the optimizer is the framework's own, and stays where the weights are."""
        if self.offload_optimizer and self.zero_stage == 0:
            msg = "offloadOptimizer=true: needs zeroStage 2 or 3; raise zeroStage, or set it false"
            raise ValueError(msg)
        return self

    @field_validator("overrides", mode="before")
    @classmethod
    def overrides_are_settings(cls, value: object) -> object:
        """What is larger only takes memory of whoever reads it."""
        if is_too_large(value):
            msg = (
                f"overrides={{…}}: more than {MAXIMUM_VALUES} values, or nested more than "
                f"{MAXIMUM_LEVELS} deep; leave in it what DeepSpeed's configuration has"
            )
            raise ValueError(msg)
        return value

    @field_validator("overrides")
    @classmethod
    def overrides_leave_managed_keys(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        """Batch sizes, clipping, optimiser and precision have their own fields."""
        if taken := sorted(MANAGED_KEYS & value.keys()):
            msg = (
                f"{', '.join(taken)}: set by other fields of the manifest; remove it from overrides"
            )
            raise ValueError(msg)
        return value

    @field_validator("overrides")
    @classmethod
    def overrides_leave_the_stage(
        cls, value: dict[str, JsonValue], info: ValidationInfo
    ) -> dict[str, JsonValue]:
        """The trainer computes otherwise by stage: DeepSpeed must run the same."""
        zero = value.get("zero_optimization", {})
        if not isinstance(zero, dict):
            msg = f"zero_optimization={zero}: not a map; give its keys, such as reduce_bucket_size"
            raise ValueError(msg)  # noqa: TRY004 - what pydantic reads
        wanted = info.data.get("zero_stage")
        if wanted is not None and zero.get("stage", wanted) != wanted:
            msg = (
                f"zero_optimization.stage={zero['stage']}: zeroStage is {wanted}; set zeroStage, "
                "and leave the stage out of overrides"
            )
            raise ValueError(msg)
        return value


class CheckpointConfig(ConfigModel):
    """How often a phase saves, and how much it keeps."""

    every_steps: int = Field(default=10, ge=1, le=1_000_000)
    """Steps between checkpoints. Default: 10, the most that a crash loses."""

    keep_last: int = Field(default=2, ge=1, le=1000)
    """Newest checkpoints to keep; the newest certified one is always kept besides.

    Default: 2, so that one is left if the newest is damaged.
    """
