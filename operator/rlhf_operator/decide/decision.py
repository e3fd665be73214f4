"""What follows from a look at a run: a status to write, things to do, when to look again."""

from dataclasses import dataclass
from datetime import datetime

from rlhf_operator.api import AttemptKey, RunStatus
from rlhf_trainer.config import TrainingConfig


@dataclass(frozen=True)
class StartAttempt:
    """Bring an attempt to life; doing it twice must start it once."""

    key: AttemptKey
    config: TrainingConfig


@dataclass(frozen=True)
class StopAttempt:
    """Ask an attempt to end; asking twice must not hurry it."""

    key: AttemptKey
    reason: str
    grace_seconds: float
    """What is left of the grace period: at 0 it is to be killed."""


@dataclass(frozen=True)
class RemoveJob:
    """Remove what an attempt left behind that nobody needs any more."""

    key: AttemptKey


@dataclass(frozen=True)
class Hold:
    """See to it that the run cannot vanish while something of it is alive."""


@dataclass(frozen=True)
class LetGo:
    """Nothing of the run is alive: it may vanish."""


@dataclass(frozen=True)
class RemoveRun:
    """Delete the run: it ended long enough ago."""


Action = StartAttempt | StopAttempt | RemoveJob | Hold | LetGo | RemoveRun


@dataclass(frozen=True)
class Decision:
    """The outcome of one pass. The status is written before any action is taken."""

    status: RunStatus
    actions: tuple[Action, ...] = ()
    wake_at: datetime | None = None
    """When to look again even if nothing is seen to change."""
