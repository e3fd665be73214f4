"""What the guard says about one step: an action, its cause, and a sentence for people."""

from dataclasses import dataclass
from enum import StrEnum

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Action(StrEnum):
    """What the guard asks for; members stand from the weakest to the strongest."""

    CONTINUE = "Continue"
    WARN = "Warn"
    REDUCE_LEARNING_RATE = "ReduceLearningRate"
    STOP = "Stop"

    @property
    def strength(self) -> int:
        """Rank among the actions: of several, the strongest is taken."""
        return list(Action).index(self)


class Signal(StrEnum):
    """What is watched; of equally strong breaches the first in this order speaks."""

    KL = "KL"
    ENTROPY = "Entropy"
    LENGTH = "Length"


class Reason(StrEnum):
    """Why a rule was breached: the reason of conditions, events and results."""

    KL_LIMIT_EXCEEDED = "KLLimitExceeded"
    KL_CEILING_EXCEEDED = "KLCeilingExceeded"
    ENTROPY_BELOW_FLOOR = "EntropyBelowFloor"
    RESPONSE_TOO_LONG = "ResponseTooLong"


class Breach(BaseModel):
    """One rule, breached at one step; a stop is kept in the guard's state."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, frozen=True, extra="ignore"
    )

    signal: Signal
    action: Action
    reason: Reason
    step: int
    message: str
    """One sentence: value, limit, steps, and what to do."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the guard makes of one finite measurement."""

    within_limit: bool
    """Whether KL was at or below its limit: what certifies the measured policy."""

    breaches: tuple[Breach, ...] = ()
    """Rules breached at this step, the strongest action first; empty with Continue."""

    @property
    def action(self) -> Action:
        """The strongest action that a breached rule asks for."""
        return self.breaches[0].action if self.breaches else Action.CONTINUE

    @property
    def signal(self) -> Signal | None:
        """What the action is about; None with Continue."""
        return self.breaches[0].signal if self.breaches else None

    @property
    def reason(self) -> Reason | None:
        """Cause of the action; None with Continue."""
        return self.breaches[0].reason if self.breaches else None

    @property
    def message(self) -> str:
        """The sentence that explains the action; empty with Continue."""
        return self.breaches[0].message if self.breaches else ""


@dataclass(frozen=True, slots=True)
class NonFinite:
    """A measurement that is no number. It is no verdict: the phase has diverged (exit 30).

    A type of its own, so that a caller cannot mistake it for a Continue: mypy asks for its case.
    """

    signal: Signal
    step: int
    value: float

    @property
    def message(self) -> str:
        """The sentence that explains it."""
        return (
            f"{self.signal} was {self.value} at step {self.step}: training has diverged; "
            "lower ppo.learningRate, or look for the first non-finite loss in the history"
        )
