"""What is removed, and when: jobs that nobody needs, and runs that ended long ago."""

from collections.abc import Iterator
from datetime import datetime, timedelta

from rlhf_operator.api import AttemptKey, LiveAttempt, RLHFRun, RunPolicy, RunStatus
from rlhf_operator.api.run_policy import KeepJobs
from rlhf_operator.decide.decision import Action, RemoveJob, RemoveRun
from rlhf_operator.decide.observed import Observed, Running


def superfluous(status: RunStatus, observed: Observed, keep: KeepJobs) -> Iterator[Action]:
    """Yield the removal of jobs that are over: those of complete phases once the next runs."""
    live = status.live
    unwanted = _unwanted(live, observed)
    yield from map(RemoveJob, unwanted)
    if keep is KeepJobs.ALL:
        return
    if status.outcome is None and not (live and isinstance(observed.execution(live.key), Running)):
        return
    done = {phase.key for phase in status.phases if phase.state.is_done}
    last = next((phase.key for phase in reversed(status.phases) if phase.attempts), None)
    for key in sorted(observed.jobs):
        if key in unwanted or (live is not None and key == live.key):
            continue
        phase = key[:2]
        kept_for_its_log = keep is KeepJobs.FAILED and (phase not in done or phase == last)
        if not kept_for_its_log:
            yield RemoveJob(key)


def _unwanted(live: LiveAttempt | None, observed: Observed) -> list[AttemptKey]:
    """Return the jobs that are alive, or could come to life again, besides the live attempt's.

    The node of one was lost before its end, and a newer attempt took its place: once the node is
    back, its pods would be made again. Another was made by a leader that froze on the way to the
    API server, and woke up after its time.
    """
    unwanted = observed.alive
    if live is not None:
        unwanted = (unwanted - {live.key}) | {
            key
            for key in observed.unfinished
            if key[:2] == live.key[:2] and key.attempt < live.key.attempt
        }
    return sorted(unwanted & observed.jobs)


def removal_time(status: RunStatus, policy: RunPolicy) -> datetime | None:
    """Return when a run that has ended is deleted, or None."""
    ttl = policy.ttl_seconds_after_finished
    if ttl is None or status.finish_time is None:
        return None
    return status.finish_time + timedelta(seconds=ttl)


def expired(run: RLHFRun, now: datetime) -> tuple[Action, ...]:
    """Return the deletion of a run whose time has come."""
    due = removal_time(run.status, run.spec.run_policy)
    return (RemoveRun(),) if due is not None and now >= due else ()
