"""Records of `history.jsonl` and `/history`: one per step, so that none is missed by scrapes."""

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel


class HistoryRecord(BaseModel):
    """What one step measured; metrics go by their Prometheus name without the `rlhf_` prefix."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        extra="ignore",
        ser_json_inf_nan="strings",  # JSON has no other spelling for them
    )

    step: int
    """Completed updates when the record was written; PPO's last record belongs to a rollout without
    update.
    """
    time: float
    """Unix time, in seconds: a clock field, left out when histories are compared."""
    values: dict[str, float] = Field(default_factory=dict)
    """Such as `kl_nats`, `reward_score`, `loss{name="policy"}`."""
    stage_seconds: dict[str, float] = Field(default_factory=dict)
    """Wall time of each stage of the step: clock fields too."""
    event: str = ""
    """What people should see at this step, such as a guard's verdict."""


class ResumedFrom(BaseModel):
    """What an attempt went on from: `resumed-from.json`, written once at its start."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore"
    )

    attempt: int | None = None
    """The earlier attempt that wrote the checkpoint; None where the phase began anew."""
    step: int = 0
    """Completed updates of the checkpoint."""


class Progress(BaseModel):
    """How far a phase has come: `progress.json`."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        frozen=True,
        extra="ignore",
        ser_json_inf_nan="strings",  # JSON has no other spelling for them
    )

    step: int
    total_steps: int
    """Steps at which the phase ends if nothing stops it; 0 while unknown."""
    text: str = ""
    """Headline numbers or the current activity, for a progress bar."""
