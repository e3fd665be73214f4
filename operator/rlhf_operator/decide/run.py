"""One pass over one run: from what is asked for and what is seen to what is to be done.

Pure, total and deterministic. Each rule stands in a module of its own; here stands only their
order. Whatever an action depends on is in the status first, so that a crash between any two writes
converges: an attempt whose start was decided and not carried out is simply started, under the same
number.
"""

from datetime import datetime, timedelta
from typing import assert_never

from rlhf_operator.api import AttemptStop, LiveAttempt, RLHFRun, RLHFRunSpec, RunStatus
from rlhf_operator.decide.cleanup import expired, removal_time, superfluous
from rlhf_operator.decide.conditions import described
from rlhf_operator.decide.deadline import deadlines, passed
from rlhf_operator.decide.decision import Action, Decision, Hold, StartAttempt, StopAttempt
from rlhf_operator.decide.delete import deleted
from rlhf_operator.decide.finalise import finished
from rlhf_operator.decide.hang import hang_time
from rlhf_operator.decide.observed import Ended, NotStarted, Observed, Running
from rlhf_operator.decide.progress import recorded
from rlhf_operator.decide.sequence import begun, visited
from rlhf_operator.decide.settle import abandoned, settled
from rlhf_operator.decide.stop import grace_left, kill_time, stop_reason
from rlhf_operator.decide.suspend import paused, resumed
from rlhf_operator.decide.watch import breached, patience_time

REFUSED_INTERVAL = timedelta(seconds=60)
"""How often a run that cannot be placed is looked at: nobody is told that the pools have changed,
and the kubelet takes a minute to show it anyway.
"""


def decide(run: RLHFRun, observed: Observed, now: datetime) -> Decision:
    """Decide what is to be done about `run`, given what is seen of it at `now`."""
    now = now.replace(microsecond=0)
    if observed.deleting:
        return deleted(run, observed, now)
    if run.status.outcome is not None:
        return _over(run, observed, now)
    status = visited(run)
    if not observed.suspended:
        status = resumed(status, now)
    status = _with_what_is_seen(status, observed, run.spec, now)
    if status.stop is None:
        status = status.evolve(stop=passed(status, run.spec.run_policy, now))
    if status.stop is None and status.live is not None:
        execution = observed.execution(status.live.key)
        status = status.evolve(stop=breached(status, status.live, execution, run.spec, now))
    if status.live is not None:
        status = _with_intent_to_stop(status, status.live, observed, run.spec, now)
    if observed.refused is not None:
        status = _without_unstarted(status, observed)
    if status.live is None:
        status = _advanced(run, status, observed, now)
    status = described(run, status, observed, now)
    actions = (
        *(() if observed.held else (Hold(),)),
        *_actions(status, observed, run.spec, now),
        *superfluous(status, observed, run.spec.run_policy.keep_jobs),
    )
    return Decision(status, actions, _wake_at(status, observed, run.spec, now))


def _over(run: RLHFRun, observed: Observed, now: datetime) -> Decision:
    """A run that has ended changes no more; what it left behind is cleared away in time."""
    due = removal_time(run.status, run.spec.run_policy)
    actions = (
        *superfluous(run.status, observed, run.spec.run_policy.keep_jobs),
        *expired(run, now),
    )
    return Decision(run.status, actions, due if due is not None and due > now else None)


def _with_what_is_seen(
    status: RunStatus, observed: Observed, spec: RLHFRunSpec, now: datetime
) -> RunStatus:
    """Take in what is seen of the live attempt."""
    live = status.live
    if live is None:
        return status
    match observed.execution(live.key):
        case NotStarted():
            return status
        case Running() as running:
            return status.with_phase(recorded(live, running, spec, now, observed))
        case Ended() as ended:
            return settled(status, live, ended, spec, now)
        case never:
            assert_never(never)


def _with_intent_to_stop(
    status: RunStatus, live: LiveAttempt, observed: Observed, spec: RLHFRunSpec, now: datetime
) -> RunStatus:
    """Record that the live attempt is to end; one that never started is given up instead."""
    attempt, execution = live.attempt, observed.execution(live.key)
    reason = stop_reason(
        status, attempt, execution, spec.run_policy, now, suspended=observed.suspended
    )
    if isinstance(execution, NotStarted) and (reason or attempt.stop):
        return abandoned(status, live)
    if reason is None or attempt.stop is not None:
        return status
    stop = AttemptStop(reason=reason, time=now)
    return status.with_phase(live.phase.evolve(running=attempt.evolve(stop=stop)))


def _without_unstarted(status: RunStatus, observed: Observed) -> RunStatus:
    """Give up an attempt that was decided on and can no longer be placed."""
    live = status.live
    if live is None or not isinstance(observed.execution(live.key), NotStarted):
        return status
    return abandoned(status, live)


def _advanced(run: RLHFRun, status: RunStatus, observed: Observed, now: datetime) -> RunStatus:
    """Go on with a run of which nothing is alive: end, pause, wait, or begin the next attempt."""
    due = status.due
    if status.stop is not None or due is None:
        return finished(status, now)
    if observed.suspended:
        return paused(status, now)
    waits = due.next_attempt_time is not None and now < due.next_attempt_time
    return status if observed.refused is not None or waits else begun(status, due, run, now)


def _actions(
    status: RunStatus, observed: Observed, spec: RLHFRunSpec, now: datetime
) -> tuple[Action, ...]:
    """Return what the live attempt needs: to be started, to be stopped, or nothing."""
    live = status.live
    if live is None:
        return ()
    stop = live.attempt.stop
    if stop is not None:
        return (StopAttempt(live.key, stop.reason, grace_left(stop, spec.run_policy, now)),)
    if isinstance(observed.execution(live.key), NotStarted):
        return (StartAttempt(live.key, spec.training()),)
    return ()


def _wake_at(
    status: RunStatus, observed: Observed, spec: RLHFRunSpec, now: datetime
) -> datetime | None:
    """Return the next moment at which time alone changes what is to be done."""
    policy, due = spec.run_policy, status.due
    if status.outcome is not None:
        removal = removal_time(status, policy)
        return removal if removal and removal > now else None
    if due is None:
        return None
    times = [deadline.time for deadline in deadlines(status, policy)]
    times += [due.next_attempt_time or now, observed.recheck_at or now]
    if observed.refused is not None and status.suspend_time is None:
        times.append(now + REFUSED_INTERVAL)
    if status.live is not None:
        times.append(patience_time(status.live, spec) or now)
    if due.running is not None:
        times.append(hang_time(due.running, policy) or now)
        if due.running.stop is not None:
            times.append(kill_time(due.running.stop, policy))
    return min((time for time in times if time > now), default=None)
