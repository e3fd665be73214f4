"""The resource `RLHFRun`: spec, status, and how a manifest becomes one."""

from rlhf_operator.api.keys import AttemptKey, PhaseKey, RunKey
from rlhf_operator.api.outcome import RunOutcome
from rlhf_operator.api.run import Metadata, RLHFRun
from rlhf_operator.api.spec import Placement, RLHFRunSpec, RunPolicy
from rlhf_operator.api.status import (
    AttemptStatus,
    AttemptStop,
    Condition,
    ConditionStatus,
    ConditionType,
    LiveAttempt,
    PhaseState,
    PhaseStatus,
    RunStatus,
    StoppedBy,
    StopStatus,
    WatchStatus,
)

__all__ = [
    "AttemptKey",
    "AttemptStatus",
    "AttemptStop",
    "Condition",
    "ConditionStatus",
    "ConditionType",
    "LiveAttempt",
    "Metadata",
    "PhaseKey",
    "PhaseState",
    "PhaseStatus",
    "Placement",
    "RLHFRun",
    "RLHFRunSpec",
    "RunKey",
    "RunOutcome",
    "RunPolicy",
    "RunStatus",
    "StopStatus",
    "StoppedBy",
    "WatchStatus",
]
