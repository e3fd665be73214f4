"""Policy: what to do about a run, decided by pure functions, one rule per module."""

from rlhf_operator.decide.accept import refusal
from rlhf_operator.decide.decision import Action, Decision, StartAttempt, StopAttempt
from rlhf_operator.decide.events import Event, events
from rlhf_operator.decide.observed import (
    AttemptProgress,
    Ended,
    Execution,
    NotStarted,
    Observed,
    Pool,
    Running,
)
from rlhf_operator.decide.run import decide

__all__ = [
    "Action",
    "AttemptProgress",
    "Decision",
    "Ended",
    "Event",
    "Execution",
    "NotStarted",
    "Observed",
    "Pool",
    "Running",
    "StartAttempt",
    "StopAttempt",
    "decide",
    "events",
    "refusal",
]
