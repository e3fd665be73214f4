"""What the guard watches for, resolved from the configuration: every limit is a number here."""

from dataclasses import dataclass
from typing import Self

from rlhf_trainer.config import TrainingConfig
from rlhf_trainer.config.guard import Enforcer, EntropyGuardConfig, GuardAction, LengthGuardConfig
from rlhf_trainer.guard.verdict import Action


@dataclass(frozen=True, slots=True)
class KLRule:
    """Breached by KL above its limit in consecutive steps, at once by a rise above the ceiling."""

    limit_nats: float
    ceiling_nats: float
    consecutive_steps: int
    action: Action

    def __post_init__(self) -> None:
        """A ceiling below the limit would stop policies that count as certified.

        Raises:
            ValueError: it is.
        """
        if self.ceiling_nats < self.limit_nats:
            msg = (
                f"guard.kl.ceilingNats={self.ceiling_nats}: below the limit of {self.limit_nats} "
                "nats; raise it or leave it out"
            )
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class EntropyRule:
    """Breached by entropy below the floor in consecutive steps."""

    floor_nats_per_token: float
    consecutive_steps: int
    action: Action

    @classmethod
    def from_config(cls, config: EntropyGuardConfig) -> Self:
        """Read the rule that `guard.entropy` declares."""
        return cls(
            floor_nats_per_token=config.floor_nats_per_token,
            consecutive_steps=config.consecutive_steps,
            action=Action(config.action.value),
        )


@dataclass(frozen=True, slots=True)
class LengthRule:
    """Breached by responses longer than a multiple of the first step's, in consecutive steps."""

    growth_factor: float
    consecutive_steps: int
    action: Action

    @classmethod
    def from_config(cls, config: LengthGuardConfig) -> Self:
        """Read the rule that `guard.length` declares."""
        return cls(
            growth_factor=config.growth_factor,
            consecutive_steps=config.consecutive_steps,
            action=Action(config.action.value),
        )


@dataclass(frozen=True, slots=True)
class GuardRules:
    """All rules of a run; None stands for a signal that is not watched."""

    kl: KLRule
    entropy: EntropyRule | None = None
    length: LengthRule | None = None

    @classmethod
    def from_config(cls, config: TrainingConfig, enforcer: Enforcer = Enforcer.TRAINER) -> Self:
        """Resolve the rules that a configuration asks for; who does not enforce a stop warns.

        Raises:
            ValueError: the ceiling lies below the limit.
        """
        guard = config.guard
        action = Action(guard.kl.action.value)
        if guard.kl.action is GuardAction.STOP and enforcer not in guard.kl.enforced_by:
            action = Action.WARN
        return cls(
            kl=KLRule(
                limit_nats=config.kl_limit_nats,
                ceiling_nats=config.kl_ceiling_nats,
                consecutive_steps=guard.kl.consecutive_steps,
                action=action,
            ),
            entropy=EntropyRule.from_config(guard.entropy) if guard.entropy else None,
            length=LengthRule.from_config(guard.length) if guard.length else None,
        )
