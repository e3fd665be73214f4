"""What the end of an attempt does to its phase and its run."""

import re
from datetime import datetime
from typing import assert_never

from rlhf_operator.api import (
    LiveAttempt,
    PhaseState,
    PhaseStatus,
    RLHFRunSpec,
    RunOutcome,
    RunStatus,
    StoppedBy,
    StopStatus,
)
from rlhf_operator.decide.observed import Ended
from rlhf_operator.decide.outcome import PhaseComplete, RunEnds, TryAgain, describe, judge
from rlhf_operator.decide.progress import storable, taken
from rlhf_operator.decide.retry import exhausted, retried
from rlhf_operator.decide.watch import (
    broken,
    certified_checkpoint,
    stopped_from_outside,
    watched,
)
from rlhf_trainer.contract import Outcome, Result

_REASON = re.compile(r"[A-Za-z][A-Za-z0-9]{0,127}")
"""What the API server takes as a condition's reason, and a little less."""


def settled(
    status: RunStatus, live: LiveAttempt, ended: Ended, spec: RLHFRunSpec, now: datetime
) -> RunStatus:
    """Return the status once the live attempt has ended.

    A stop that was recorded before stands, whatever the attempt has to say about it. A rule that
    was broken ends the run unless the trainer has its own verdict: the attempt came to its end, or
    was interrupted, before anybody could stop it.
    """
    attempt = live.attempt
    watch = watched(live.phase, attempt.watch, ended.progress.kl_nats, spec, now)
    last = _with_result(taken(live.phase, ended.progress), ended.result).evolve(
        running=None,
        pod=ended.pod,
        gpu_seconds=live.phase.gpu_seconds + _gpu_seconds(live, now),
    )
    stop = status.stop
    match judge(ended, attempt.stop):
        case RunEnds(outcome=outcome):
            stop = stop or _stop_by_trainer(last, ended, outcome, spec, now)
        case _ if stop is None and (broke := broken(watch, live.phase, spec)):
            stop = stopped_from_outside(status, last, broke, spec, now)
        case PhaseComplete():
            done = last.evolve(state=PhaseState.SUCCEEDED, finish_time=now, failures=0)
            return status.with_phase(done)
        case TryAgain() as verdict:
            last = last.evolve(watch=watch or last.watch)
            last = retried(last, attempt, verdict, now, node=ended.node)
            stop = stop or exhausted(last, spec.run_policy, now)
        case never:
            assert_never(never)
    if stop is not None:
        stop = _with_newest_certified(stop, status, last)
        last = last.evolve(
            state=_final_state(stop),
            finish_time=now,
            next_attempt_time=None,
            last_failure=f"attempt {attempt.number}: {describe(ended)}",
        )
    return status.with_phase(last).evolve(stop=stop)


def abandoned(status: RunStatus, live: LiveAttempt) -> RunStatus:
    """Return the status without an attempt that was decided on and must not start any more.

    A phase of which nothing has ever run is bound to no size: it has no checkpoints.
    """
    phase = live.phase
    size = phase.size if phase.last_failure else None
    return status.with_phase(phase.evolve(state=PhaseState.PENDING, running=None, size=size))


def let_go(status: RunStatus, live: LiveAttempt, now: datetime) -> RunStatus:
    """Return the status of a run that vanishes with its attempt, of which only the cost counts."""
    spent = live.phase.gpu_seconds + _gpu_seconds(live, now)
    return status.with_phase(
        live.phase.evolve(
            state=PhaseState.STOPPED, running=None, finish_time=now, gpu_seconds=spent
        )
    )


def _gpu_seconds(live: LiveAttempt, now: datetime) -> int:
    gpus = live.phase.size.gpus if live.phase.size else 0
    return gpus * max(0, int((now - live.attempt.start_time).total_seconds()))


def _with_result(phase: PhaseStatus, result: Result | None) -> PhaseStatus:
    if result is None:
        return phase
    certified = phase.certified_step if result.certified_step is None else result.certified_step
    measured = storable(result.metrics)
    if result.outcome in (Outcome.PREEMPTED, Outcome.CRASHED):
        # It says little, and what was measured last still tells why the run ended.
        measured = storable(phase.metrics | measured)
    checkpoints = (phase.checkpoint_step, result.checkpoint_step)
    return phase.evolve(
        step=result.step,
        checkpoint_step=max((step for step in checkpoints if step is not None), default=None),
        certified_step=certified,
        metrics=measured or phase.metrics,
        model_path=result.model_path or phase.model_path,
    )


def _stop_by_trainer(
    phase: PhaseStatus, ended: Ended, outcome: RunOutcome, spec: RLHFRunSpec, now: datetime
) -> StopStatus:
    reason = ended.result.reason if ended.result else ""
    kl_nats = phase.metrics.get("klNats") if outcome is RunOutcome.STOPPED else None
    limit_nats = phase.metrics.get("klLimitNats", spec.kl_limit_nats)
    return StopStatus(
        outcome=outcome,
        reason=reason if _REASON.fullmatch(reason) else outcome.value,
        by=StoppedBy.TRAINER,
        message=describe(ended),
        time=now,
        iteration=phase.iteration,
        phase=phase.phase,
        kl_nats=kl_nats,
        limit_nats=None if kl_nats is None else limit_nats,
        step=phase.step,
        certified_step=phase.certified_step,
        checkpoint=phase.model_path if outcome is RunOutcome.STOPPED else None,
    )


def _with_newest_certified(stop: StopStatus, status: RunStatus, phase: PhaseStatus) -> StopStatus:
    """Return a stop from outside with what was certified between its decision and the end."""
    is_ours = stop.by is StoppedBy.OPERATOR and stop.outcome is RunOutcome.STOPPED
    if not is_ours or phase.certified_step is None:
        return stop
    return stop.evolve(
        certified_step=phase.certified_step, checkpoint=certified_checkpoint(status, phase)
    )


def _final_state(stop: StopStatus) -> PhaseState:
    if stop.outcome in (RunOutcome.STOPPED, RunOutcome.DEADLINE_EXCEEDED):
        return PhaseState.STOPPED
    return PhaseState.FAILED
