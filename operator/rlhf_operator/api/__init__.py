"""The resource `RLHFRun`: spec, status, and how a manifest becomes one."""

from rlhf_operator.api.keys import AttemptKey, PhaseKey, RunKey
from rlhf_operator.api.outcome import RunOutcome
from rlhf_operator.api.placement import PlacedPhase, Placement, placed
from rlhf_operator.api.pool import Pool, host_network_warning, placement_refusal
from rlhf_operator.api.run import Metadata, RLHFRun
from rlhf_operator.api.run_policy import KeepJobs, RunPolicy
from rlhf_operator.api.spec import RLHFRunSpec
from rlhf_operator.api.status import (
    AttemptStatus,
    AttemptStop,
    Condition,
    ConditionStatus,
    ConditionType,
    Headline,
    LiveAttempt,
    PhaseSize,
    PhaseState,
    PhaseStatus,
    RunStatus,
    StoppedBy,
    StopStatus,
    WatchStatus,
)
from rlhf_operator.api.workspace import Retention

__all__ = [
    "AttemptKey",
    "AttemptStatus",
    "AttemptStop",
    "Condition",
    "ConditionStatus",
    "ConditionType",
    "Headline",
    "KeepJobs",
    "LiveAttempt",
    "Metadata",
    "PhaseKey",
    "PhaseSize",
    "PhaseState",
    "PhaseStatus",
    "PlacedPhase",
    "Placement",
    "Pool",
    "RLHFRun",
    "RLHFRunSpec",
    "Retention",
    "RunKey",
    "RunOutcome",
    "RunPolicy",
    "RunStatus",
    "StopStatus",
    "StoppedBy",
    "WatchStatus",
    "host_network_warning",
    "placed",
    "placement_refusal",
]
