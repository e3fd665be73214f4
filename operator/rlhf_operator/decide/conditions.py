"""Conditions and the printed phase: derived from the status, for people and `kubectl wait`."""

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from rlhf_operator.api import (
    AttemptStatus,
    Condition,
    ConditionStatus,
    ConditionType,
    PhaseState,
    PhaseStatus,
    RLHFRun,
    RLHFRunSpec,
    RunOutcome,
    RunStatus,
)
from rlhf_operator.decide.ending import told
from rlhf_operator.decide.observed import Observed, Running
from rlhf_trainer.contract import Phase

TRUE, FALSE, UNKNOWN = ConditionStatus.TRUE, ConditionStatus.FALSE, ConditionStatus.UNKNOWN

KL_EXCEEDED = ("KLLimitExceeded", "KLCeilingExceeded")
"""Reasons of a stop by the rule on KL, whoever applied it."""


JOB_EDITED = "JobEdited"
"""Reason of `Progressing` while an attempt runs as somebody else would have it."""

READ, UNREADABLE = "Read", "Unreadable"
"""Reasons of `MetricsAvailable` once somebody has tried to read a live attempt's metrics."""


class _Finding(NamedTuple):
    type: ConditionType
    status: ConditionStatus
    reason: str
    message: str


def described(run: RLHFRun, status: RunStatus, observed: Observed, now: datetime) -> RunStatus:
    """Return the status with its conditions and printed phase brought up to date."""
    findings = (
        _accepted(observed),
        _progressing(status, observed),
        _metrics_available(status, observed),
        _kl_within_limit(status, run.spec),
        *_ended(run, status),
    )
    conditions = tuple(_condition(status, finding, now) for finding in findings)
    return status.evolve(conditions=conditions, phase=_printed_phase(status))


def _condition(status: RunStatus, finding: _Finding, now: datetime) -> Condition:
    before = status.condition(finding.type)
    changed = before is None or before.status is not finding.status
    return Condition(
        type=finding.type,
        status=finding.status,
        observed_generation=status.observed_generation,
        last_transition_time=now if before is None or changed else before.last_transition_time,
        reason=finding.reason,
        message=finding.message,
    )


def _accepted(observed: Observed) -> _Finding:
    if observed.refused is not None:
        return _Finding(ConditionType.ACCEPTED, FALSE, "CannotBePlaced", str(observed.refused))
    message = "the manifest can be run here"
    warned = f"{message}; {observed.warning}" if observed.warning else message
    return _Finding(ConditionType.ACCEPTED, TRUE, "Valid", warned)


def _progressing(status: RunStatus, observed: Observed) -> _Finding:
    type_, due = ConditionType.PROGRESSING, status.due
    if status.outcome is not None or due is None:
        return _Finding(type_, FALSE, "Finished", "the run has ended")
    if due.running is not None:
        return _running(due, due.running, observed)
    if status.suspend_time is not None:
        return _Finding(type_, FALSE, "Suspended", f"paused before {due.phase} is complete")
    if observed.refused is not None:
        return _Finding(
            type_, FALSE, "NotAccepted", "nothing starts until the manifest is accepted"
        )
    when = due.next_attempt_time
    until = f" until {when:%Y-%m-%dT%H:%M:%SZ}" if when else ""
    return _Finding(type_, TRUE, "BackingOff", f"{due.phase} waits{until} after {due.last_failure}")


def _running(due: PhaseStatus, attempt: AttemptStatus, observed: Observed) -> _Finding:
    type_, name = ConditionType.PROGRESSING, f"{due.phase}, attempt {due.attempts}"
    if attempt.stop is not None and observed.denied is None:
        return _Finding(type_, TRUE, "Stopping", f"{name}, is asked to end")
    # What keeps the pods of an attempt that is to end does not matter any more.
    trouble = observed.denied if attempt.stop else observed.trouble or observed.denied
    if trouble is not None:
        message = "; ".join(part for part in (trouble.message, observed.edited) if part)
        return _Finding(type_, FALSE, trouble.reason, message)
    if observed.edited is not None:
        return _Finding(type_, TRUE, JOB_EDITED, f"{name}; {observed.edited}")
    return _Finding(type_, TRUE, "AttemptRunning", name)


def _metrics_available(status: RunStatus, observed: Observed) -> _Finding:
    type_, live = ConditionType.METRICS_AVAILABLE, status.live
    if live is None:
        return _Finding(type_, UNKNOWN, "NothingRuns", "metrics are read while an attempt is alive")
    execution = observed.execution(live.key)
    available = execution.progress.metrics_available if isinstance(execution, Running) else None
    if available is None:
        return _Finding(type_, UNKNOWN, "NotReadYet", "nobody has read the attempt's metrics yet")
    if available:
        return _Finding(type_, TRUE, READ, "the attempt's metrics can be read")
    return _Finding(
        type_,
        UNKNOWN,
        UNREADABLE,
        "the attempt's metrics cannot be read: KL is watched by the trainer alone",
    )


def _kl_within_limit(status: RunStatus, spec: RLHFRunSpec) -> _Finding:
    type_, limit = ConditionType.KL_WITHIN_LIMIT, spec.kl_limit_nats
    if status.stop is not None and status.stop.reason in KL_EXCEEDED:
        return _Finding(type_, FALSE, status.stop.reason, status.stop.message)
    measured = [
        phase.metrics["klNats"]
        for phase in status.phases
        if phase.phase is Phase.PPO and "klNats" in phase.metrics
    ]
    if not measured:
        return _Finding(type_, UNKNOWN, "NotMeasured", "PPO has not measured KL yet")
    # Without the number, which changes with every step: it stands in the phase's metrics.
    if measured[-1] <= limit:
        return _Finding(type_, TRUE, "WithinLimit", f"KL is at most {limit:g} nats per response")
    return _Finding(type_, FALSE, "AboveLimit", f"KL is above {limit:g} nats per response")


def _ended(run: RLHFRun, status: RunStatus) -> Iterator[_Finding]:
    if status.outcome is None:
        yield _Finding(ConditionType.SUCCEEDED, UNKNOWN, "Running", "the run has not ended yet")
        yield _Finding(ConditionType.FINISHED, FALSE, "Running", "the run has not ended yet")
        return
    succeeded = TRUE if status.outcome is RunOutcome.COMPLETED else FALSE
    reason = status.stop.reason if status.stop else "Completed"
    why = status.stop.message if status.stop else "every phase is complete"
    yield _Finding(ConditionType.SUCCEEDED, succeeded, reason, why)
    yield _Finding(ConditionType.FINISHED, TRUE, reason, told(run, status))


def _printed_phase(status: RunStatus) -> str:
    if status.outcome is RunOutcome.COMPLETED:
        return "Succeeded"
    if status.outcome is not None:
        return "Stopped" if status.outcome is RunOutcome.STOPPED else "Failed"
    due = status.due
    if status.suspend_time is not None:
        return "Suspended"
    if due is None or status.start_time is None:
        return "Pending"
    return PhaseState.BACKING_OFF.value if due.next_attempt_time else due.phase.value
