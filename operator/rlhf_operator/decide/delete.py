"""What is left to do for a run that its user has deleted: end what is alive, then let it go.

What its attempt has cost is settled before, or nobody would ever count it.
"""

from datetime import datetime, timedelta

from rlhf_operator.api import AttemptStop, RLHFRun
from rlhf_operator.decide.decision import Decision, LetGo, StopAttempt
from rlhf_operator.decide.observed import Ended, NotStarted, Observed
from rlhf_operator.decide.settle import let_go
from rlhf_operator.decide.stop import grace_left, kill_time

DELETED = "Deleted"

LAST_RESORT = timedelta(seconds=120)
"""Past the grace period, the run is let go even if something seems alive: a node may be lost."""


def deleted(run: RLHFRun, observed: Observed, now: datetime) -> Decision:
    """Return what is due for a run that is to vanish; it has no further history."""
    if not observed.held:
        return Decision(run.status)
    live = run.status.live
    execution = observed.execution(live.key) if live else NotStarted()
    if live is None or isinstance(execution, NotStarted):
        return Decision(run.status, (LetGo(),))
    if isinstance(execution, Ended):
        return Decision(let_go(run.status, live, now), (LetGo(),))
    stop = live.attempt.stop or AttemptStop(reason=DELETED, time=now)
    status = run.status
    if live.attempt.stop is None:
        status = status.with_phase(live.phase.evolve(running=live.attempt.evolve(stop=stop)))
    policy = run.spec.run_policy
    last = kill_time(stop, policy) + LAST_RESORT
    actions = (StopAttempt(live.key, stop.reason, grace_left(stop, policy, now)),)
    if now < last:
        return Decision(status, actions, last)
    return Decision(let_go(run.status, live, now), (*actions, LetGo()))
