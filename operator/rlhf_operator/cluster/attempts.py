"""What an attempt's job and all its pods show together, as one execution.

A job is judged by every pod: a worker that fails first gets the master deleted, and torchrun's
other ranks are then told to end.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from rlhf_operator.api import AttemptKey, AttemptStatus
from rlhf_operator.cluster.kinds import Json
from rlhf_operator.cluster.pods import PodFacts, instant
from rlhf_operator.decide import (
    AttemptProgress,
    Ended,
    Execution,
    NotStarted,
    Running,
    Trouble,
)
from rlhf_trainer.contract import Outcome, Phase
from rlhf_trainer.contract.outcomes import PRECEDENCE

ITERATION_LABEL, PHASE_LABEL, ATTEMPT_LABEL = (
    "rlhf.dev/iteration",
    "rlhf.dev/phase",
    "rlhf.dev/attempt",
)

JOB_DELETED = "its job was deleted"


@dataclass(frozen=True)
class AttemptSight:
    """All that the caches show of one attempt."""

    job: Json | None
    pods: Sequence[PodFacts]
    was_seen: bool = False
    """Its job is known to have existed."""
    progress: AttemptProgress = field(default_factory=AttemptProgress)

    @property
    def trouble(self) -> Trouble | None:
        """What keeps its pods, the first of them."""
        return next((pod.trouble for pod in self.pods if pod.trouble), None)

    @property
    def num_existing(self) -> int:
        """How many pods there are, those on their way out included: each is in another's place."""
        return sum(pod.exists or pod.lost_at is not None for pod in self.pods)

    @property
    def lost_at(self) -> datetime | None:
        """When the next of its pods counts as lost."""
        return min((pod.lost_at for pod in self.pods if pod.lost_at), default=None)


def attempt_key(obj: Json) -> AttemptKey | None:
    """Return the attempt that a job or pod belongs to, by its labels."""
    labels = obj["metadata"].get("labels") or {}
    try:
        return AttemptKey(
            int(labels[ITERATION_LABEL]),
            Phase.from_slug(labels[PHASE_LABEL]),
            int(labels[ATTEMPT_LABEL]),
        )
    except (KeyError, ValueError):
        return None


def job_ended(job: Json) -> bool:
    """Return whether a job has come to its end, well or not."""
    conditions = (job.get("status") or {}).get("conditions") or ()
    return any(
        one.get("type") in ("Succeeded", "Failed") and one.get("status") == "True"
        for one in conditions
    )


def replicas(job: Json) -> int:
    """Return how many pods a job is to have."""
    specs = job["spec"].get("pytorchReplicaSpecs") or {}
    return sum(int(spec.get("replicas", 1)) for spec in specs.values())


def is_suspended(job: Json) -> bool:
    """Return whether a queue holds the job back."""
    return bool((job["spec"].get("runPolicy") or {}).get("suspend"))


def age_seconds(job: Json, now: datetime) -> float:
    """Return how long ago a job was created."""
    return (now - instant(job["metadata"]["creationTimestamp"])).total_seconds()


def execution(sight: AttemptSight, attempt: AttemptStatus) -> Execution:
    """Return what the attempt is: not there, alive, or over."""
    job = sight.job
    uid = job["metadata"].get("uid") if job else None
    ending = job is None or bool(job["metadata"].get("deletionTimestamp"))
    if any(pod.alive for pod in sight.pods):
        return Running(sight.progress, uid, ending=ending)
    if job is None:
        if sight.pods or sight.was_seen or attempt.job_uid is not None:
            return _ended(sight)
        return NotStarted()
    if job_ended(job) or _all_ended(sight, job):
        return _ended(sight)
    return Running(sight.progress, uid, ending=ending)


def is_hearsay(sight: AttemptSight, seen: Execution) -> bool:
    """Return whether an end is concluded from what is missing, which a late watch would miss too.

    The watches of jobs and of pods do not wait for each other: a job may be seen to end before its
    pods are seen at all.
    """
    if not isinstance(seen, Ended):
        return False
    told = [pod for pod in sight.pods if pod.exit_code is not None]
    return sight.job is None or len(told) < replicas(sight.job)


def _all_ended(sight: AttemptSight, job: Json) -> bool:
    """Every pod that the job is to have has ended: true even without a training operator."""
    over = [pod for pod in sight.pods if pod.exit_code is not None or pod.is_lost]
    return len(over) >= replicas(job)


def _ended(sight: AttemptSight) -> Ended:
    """Judge the end of an attempt by all of its pods."""
    decisive = _decisive(sight.pods)
    if decisive is None:
        text = JOB_DELETED if sight.job is None else "its job failed without a pod"
        return Ended(None, message=text, disrupted=sight.job is None, progress=sight.progress)
    crashed = decisive.outcome in (Outcome.CRASHED, Outcome.PREEMPTED)
    return Ended(
        decisive.exit_code,
        decisive.result,
        JOB_DELETED if sight.job is None and crashed else decisive.message,
        disrupted=crashed and (sight.job is None or _is_disrupted(sight.pods)),
        progress=sight.progress,
        pod=_pod_with_log(sight, decisive),
        node=decisive.node,
    )


def _is_disrupted(pods: Sequence[PodFacts]) -> bool:
    """Return whether the attempt was ended from outside.

    A pod that vanished says so only where none crashed: a crash takes the other pods with it.
    """
    if any(pod.disrupted for pod in pods):
        return True
    crashed = any(pod.exit_code is not None and pod.outcome is Outcome.CRASHED for pod in pods)
    return not crashed and any(pod.vanished for pod in pods)


def _pod_with_log(sight: AttemptSight, pod: PodFacts) -> str | None:
    """Return the pod's name if it stays: its log then tells more."""
    stays = sight.job is not None and not sight.job["metadata"].get("deletionTimestamp")
    return pod.name if stays and pod.exists else None


def _decisive(pods: Sequence[PodFacts]) -> PodFacts | None:
    """Return the pod that speaks for the attempt, a master before a worker."""
    ordered = sorted(pods, key=lambda pod: (not pod.is_master, pod.name))
    complete = next((pod for pod in ordered if pod.is_master and pod.exit_code == 0), None)
    if complete is not None:
        # What becomes of workers once the phase is complete does not matter.
        return complete
    outcomes = [outcome for outcome in PRECEDENCE if outcome is not Outcome.COMPLETED]
    for outcome in outcomes:
        of_it = [pod for pod in ordered if pod.outcome is outcome]
        told = next((pod for pod in of_it if pod.result or pod.exit_code is not None), None)
        if of_it:
            return told or of_it[0]
    return next(iter(ordered), None)
