"""The guard from outside: KL by step, as read from the attempt's metrics, against the run's rule.

Steps are counted, not readings, and limits come from the spec, never from the pod. It covers a
guard in the trainer that failed, so the trainer has the time of two readings to end by itself. A
streak goes on in the next attempt, in which steps that are taken again count once.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from rlhf_operator.api import (
    LiveAttempt,
    PhaseStatus,
    RLHFRunSpec,
    RunOutcome,
    RunStatus,
    StoppedBy,
    StopStatus,
    WatchStatus,
)
from rlhf_operator.decide.observed import Execution, Running
from rlhf_trainer.config.guard import Enforcer
from rlhf_trainer.contract import AttemptPaths, Phase, Workspace
from rlhf_trainer.guard import Action, GuardRules, GuardState, Measurement, Verdict, observe

PATIENCE_READINGS = 2
"""Readings that the trainer has to end by itself."""


def is_watched(phase: Phase, spec: RLHFRunSpec) -> bool:
    """Return whether the rule on KL is applied from outside."""
    return phase is Phase.PPO and Enforcer.OPERATOR in spec.guard.kl.enforced_by


def watched(
    phase: PhaseStatus,
    watch: WatchStatus | None,
    kl_nats: Sequence[tuple[int, float]],
    spec: RLHFRunSpec,
    now: datetime,
) -> WatchStatus | None:
    """Return the guard's state after the steps of an attempt that it has not judged yet.

    Steps are judged when they are seen, whoever enforces the rule: where the operator does not, no
    breach comes of it, and none later, when it is asked to.
    """
    if not kl_nats or phase.phase is not Phase.PPO:
        return watch
    watch = watch or _carried(phase.watch, first=kl_nats[0][0])
    rules = GuardRules(kl=GuardRules.from_config(spec, Enforcer.OPERATOR).kl)
    for step, value in kl_nats:
        if watch.breach is not None:
            break
        watch = _judged(rules, watch, step, value, now)
    return watch


def broken(watch: WatchStatus | None, phase: PhaseStatus, spec: RLHFRunSpec) -> WatchStatus | None:
    """Return the guard's state if it ends the run: a breach, while the rule is still ours."""
    if watch is None or watch.breach is None or not is_watched(phase.phase, spec):
        return None
    return watch


def breached(
    status: RunStatus, live: LiveAttempt, execution: Execution, spec: RLHFRunSpec, now: datetime
) -> StopStatus | None:
    """Return the end of a run whose trainer goes on although it had time to stop, or None."""
    watch = live.attempt.watch
    due = patience_time(live, spec)
    if watch is None or due is None or now < due or not isinstance(execution, Running):
        return None
    certified = execution.progress.certified_step
    phase = live.phase if certified is None else live.phase.evolve(certified_step=certified)
    return stopped_from_outside(status, phase, watch, spec, now)


def stopped_from_outside(
    status: RunStatus, phase: PhaseStatus, watch: WatchStatus, spec: RLHFRunSpec, now: datetime
) -> StopStatus:
    """Return the end of a run whose KL broke the rule, as seen from outside."""
    return StopStatus(
        outcome=RunOutcome.STOPPED,
        reason=watch.breach or "",
        by=StoppedBy.OPERATOR,
        message=watch.breach_message,
        time=now,
        iteration=phase.iteration,
        phase=phase.phase,
        kl_nats=watch.breach_kl_nats,
        limit_nats=spec.kl_limit_nats,
        step=watch.breach_step,
        certified_step=phase.certified_step,
        checkpoint=certified_checkpoint(status, phase),
    )


def patience_time(live: LiveAttempt, spec: RLHFRunSpec) -> datetime | None:
    """Return when a breach seen from outside ends the attempt, or None."""
    watch = broken(live.attempt.watch, live.phase, spec)
    if watch is None or watch.breach_time is None:
        return None
    seconds = PATIENCE_READINGS * spec.monitoring.scrape_interval_seconds
    return watch.breach_time + timedelta(seconds=seconds)


def certified_checkpoint(status: RunStatus, phase: PhaseStatus) -> str | None:
    """Return the folder of the certified policy below the run's root; step 0 is the SFT model."""
    step = phase.certified_step
    if step is None:
        return None
    if step == 0:
        sft = (one for one in status.phases if one.phase is Phase.SFT)
        return next((one.model_path for one in sft), None)
    return str(_paths(phase).checkpoint(step))


def _paths(phase: PhaseStatus) -> AttemptPaths:
    return Workspace(Path()).attempt(phase.iteration, phase.phase, max(phase.attempts, 1))


def _carried(before: WatchStatus | None, first: int) -> WatchStatus:
    """Return the state in which an attempt begins whose first step is `first`.

    It may take steps again that the last one took after its checkpoint. The streak is what it was
    before them: they are judged by what they measure now, and none is counted twice. `last_step` is
    this attempt's own, or nobody would read those steps.
    """
    if before is None or before.last_step is None:
        return WatchStatus()
    if first > before.last_step + 1:
        # Steps that nobody saw lie between: what they measured, the trainer's own guard knows.
        return WatchStatus(kl_over_ceiling=before.kl_over_ceiling)
    again = before.last_step - first + 1
    return WatchStatus(
        kl_streak=max(before.kl_streak - again, 0), kl_over_ceiling=before.kl_over_ceiling
    )


def _judged(
    rules: GuardRules, watch: WatchStatus, step: int, value: float, now: datetime
) -> WatchStatus:
    state = GuardState(
        last_step=watch.last_step,
        kl_streak=watch.kl_streak,
        kl_over_ceiling=watch.kl_over_ceiling,
    )
    seen, verdict = observe(rules, state, step, Measurement(value, None, None))
    if not isinstance(verdict, Verdict):
        # What is no number is the trainer's to report: exit 30.
        return watch
    changed = watch.evolve(
        last_step=seen.last_step, kl_streak=seen.kl_streak, kl_over_ceiling=seen.kl_over_ceiling
    )
    if verdict.action is not Action.STOP:
        return changed
    return changed.evolve(
        breach=verdict.reason,
        breach_message=verdict.message,
        breach_step=step,
        breach_kl_nats=value,
        breach_time=now,
    )
