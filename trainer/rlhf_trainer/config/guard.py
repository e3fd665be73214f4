"""When training stops by itself."""

from enum import StrEnum
from typing import Self

from pydantic import Field, field_validator, model_validator

from rlhf_trainer.config.base import ConfigModel


class GuardAction(StrEnum):
    """What a breached rule does."""

    WARN = "Warn"
    """Counts and logs the breach; training goes on."""
    REDUCE_LEARNING_RATE = "ReduceLearningRate"
    """Halves the learning rate, once per breach; training goes on."""
    STOP = "Stop"
    """Ends the phase with the last certified policy (exit 10)."""


class Enforcer(StrEnum):
    """Who applies the rule on KL."""

    TRAINER = "Trainer"
    """The trainer itself, after each rollout and before its update."""
    OPERATOR = "Operator"
    """The operator, which reads every step's KL from outside and ends the job if it has to."""


class KLGuardConfig(ConfigModel):
    """The limit on KL to the SFT reference: sum over response tokens, mean over the batch."""

    limit_nats: float | None = Field(default=None, gt=0, le=10_000)
    """KL per response that must not be exceeded in `consecutiveSteps` steps running, in nats.

    Default: 2.5 times `ppo.kl.targetNats` with the adaptive controller; required with the fixed
    one.
    """

    consecutive_steps: int = Field(default=2, ge=1, le=1000)
    """Steps running above the limit that make a breach.

    Default: 2, so that one noisy batch stops nothing.
    """

    ceiling_nats: float | None = Field(default=None, gt=0, le=100_000)
    """KL per response that is a breach at once, in nats. Default: twice the limit."""

    action: GuardAction = GuardAction.STOP
    """What a breach does: Stop, ReduceLearningRate or Warn. Default: Stop."""

    enforced_by: tuple[Enforcer, ...] = Field(
        default=(Enforcer.TRAINER, Enforcer.OPERATOR), min_length=1, max_length=2
    )
    """Who stops a run on a breach: Trainer, Operator or both.

    The operator only stops, and only where training goes on two readings after the breach; `rlhf
    run` has no operator. Default: both.
    """

    @field_validator("enforced_by")
    @classmethod
    def enforcers_differ(cls, value: tuple[Enforcer, ...]) -> tuple[Enforcer, ...]:
        """Nobody is named twice."""
        if len(set(value)) != len(value):
            msg = f"{', '.join(value)}: somebody is named twice; name everybody once"
            raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def ceiling_above_limit(self) -> Self:
        """A ceiling below the limit would make the limit pointless."""
        if (
            self.limit_nats is not None
            and self.ceiling_nats is not None
            and self.ceiling_nats < self.limit_nats
        ):
            msg = (
                f"ceilingNats={self.ceiling_nats}: below limitNats={self.limit_nats}; "
                "raise it or leave it out"
            )
            raise ValueError(msg)
        return self


class EntropyGuardConfig(ConfigModel):
    """The floor under the policy's entropy: below it the policy repeats itself."""

    floor_nats_per_token: float = Field(gt=0, le=20)
    """Mean entropy per response token that must not be undercut, in nats. Required."""

    consecutive_steps: int = Field(default=2, ge=1, le=1000)
    """Steps running below the floor that make a breach. Default: 2, as for KL."""

    action: GuardAction = GuardAction.WARN
    """What a breach does. Default: Warn."""


class LengthGuardConfig(ConfigModel):
    """The limit on response length, against the first step's mean."""

    growth_factor: float = Field(gt=1, le=1000)
    """Mean response length, as a multiple of the first step's, that must not be exceeded.

    Required; 2 is a usual choice.
    """

    consecutive_steps: int = Field(default=2, ge=1, le=1000)
    """Steps running above the limit that make a breach. Default: 2, as for KL."""

    action: GuardAction = GuardAction.WARN
    """What a breach does. Default: Warn."""


class GuardConfig(ConfigModel):
    """The signals watched during PPO."""

    kl: KLGuardConfig = KLGuardConfig()
    """Limit on KL to the SFT reference. Default: stops above 2.5 times the controller's target."""

    entropy: EntropyGuardConfig | None = None
    """Floor under entropy. Default: not watched."""

    length: LengthGuardConfig | None = None
    """Limit on response length. Default: not watched."""
