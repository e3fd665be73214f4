"""What the guard remembers between steps. It travels in checkpoints and in a run's status."""

from typing import Self

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from rlhf_trainer.guard.verdict import Breach


class GuardState(BaseModel):
    """What `observe` needs besides rules and measurement; a new guard starts from the defaults."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore"
    )

    last_step: int | None = None
    """Newest step observed; that step and earlier ones change nothing any more."""
    kl_streak: int = Field(default=0, ge=0)
    """Steps running with KL above its limit, since the last breach."""
    kl_over_ceiling: bool = False
    """Whether KL was above its ceiling when it was last seen."""
    entropy_streak: int = Field(default=0, ge=0)
    """Steps running with entropy below its floor, since the last breach."""
    length_streak: int = Field(default=0, ge=0)
    """Steps running with responses too long, since the last breach."""
    reference_length_tokens: float | None = None
    """Mean response length at the first step that measured one, even if no rule asks for it."""
    stop: Breach | None = None
    """The breach that stopped training; once there it stays."""

    def to_json(self) -> str:
        """Return JSON that `from_json` reads back to an equal state."""
        return self.model_dump_json(by_alias=True)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` wrote.

        Raises:
            pydantic.ValidationError: the text is not a guard's state.
        """
        return cls.model_validate_json(text)
