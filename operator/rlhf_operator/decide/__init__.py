"""Policy: what to do about a run, decided by pure functions, one rule per module."""

from rlhf_operator.decide.decision import (
    Action,
    Decision,
    Hold,
    LetGo,
    RemoveJob,
    RemoveRun,
    StartAttempt,
    StopAttempt,
)
from rlhf_operator.decide.events import Event, events
from rlhf_operator.decide.observed import (
    AttemptProgress,
    Ended,
    Execution,
    NotStarted,
    Observed,
    Running,
    Trouble,
)
from rlhf_operator.decide.run import decide

__all__ = [
    "Action",
    "AttemptProgress",
    "Decision",
    "Ended",
    "Event",
    "Execution",
    "Hold",
    "LetGo",
    "NotStarted",
    "Observed",
    "RemoveJob",
    "RemoveRun",
    "Running",
    "StartAttempt",
    "StopAttempt",
    "Trouble",
    "decide",
    "events",
]
