"""What is left to do for a run that its user has deleted: end what is alive, then let it go."""

from datetime import datetime, timedelta

from rlhf_operator.api import AttemptStop, RLHFRun
from rlhf_operator.decide.decision import Action, Decision, LetGo, StopAttempt
from rlhf_operator.decide.observed import Observed, Running
from rlhf_operator.decide.stop import grace_left, kill_time

DELETED = "Deleted"

LAST_RESORT = timedelta(seconds=120)
"""Past the grace period, the run is let go even if something seems alive: a node may be lost."""


def deleted(run: RLHFRun, observed: Observed, now: datetime) -> Decision:
    """Return what is due for a run that is to vanish; it has no further history."""
    if not observed.held:
        return Decision(run.status)
    live = run.status.live
    if live is None or not isinstance(observed.execution(live.key), Running):
        return Decision(run.status, (LetGo(),))
    stop = live.attempt.stop or AttemptStop(reason=DELETED, time=now)
    status = run.status
    if live.attempt.stop is None:
        status = status.with_phase(live.phase.evolve(running=live.attempt.evolve(stop=stop)))
    policy = run.spec.run_policy
    last = kill_time(stop, policy) + LAST_RESORT
    actions: list[Action] = [StopAttempt(live.key, stop.reason, grace_left(stop, policy, now))]
    if now >= last:
        actions.append(LetGo())
    return Decision(status, tuple(actions), last if now < last else None)
