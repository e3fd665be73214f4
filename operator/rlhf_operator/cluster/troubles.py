"""Why nothing moves: pods that cannot start, pods that are refused, a training operator missing.

Only here the API server is asked for more than the watches tell, at most once a minute and only
for a job that waits for its pods.
"""

from datetime import datetime, timedelta

from rlhf_operator.api import RunKey
from rlhf_operator.cluster.api import Api
from rlhf_operator.cluster.attempts import (
    AttemptSight,
    age_seconds,
    is_suspended,
    job_ended,
    replicas,
)
from rlhf_operator.cluster.kinds import EVENTS, Json
from rlhf_operator.cluster.pods import instant
from rlhf_operator.decide import Trouble
from rlhf_operator.errors import ClusterError
from rlhf_operator.render.job import QUEUE_LABEL

PATIENCE = timedelta(seconds=15)
"""How long a job may take to get its pods, or a request may fail, before people are told."""

INTERVAL = timedelta(seconds=60)
"""How often the API server is asked at most about one job."""

_SERVER_FAILED = 500
"""Statuses from here on: an admission webhook that does not answer is one of them."""

_NO_ANSWER = 0
"""Status of a request that timed out, or found nobody: it may be a webhook that takes too long."""

_POD_SECURITY = "violates PodSecurity"

_INIT_CONTAINER = '"init-pytorch"'
"""The training operator's own, as Pod Security names it."""


class Troubles:
    """What is known to keep runs from moving; all of it can be found again."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._refusals: dict[RunKey, Trouble] = {}
        self._failing_since: dict[RunKey, datetime] = {}
        self._asked: dict[RunKey, tuple[str, datetime, Trouble | None]] = {}

    def note(self, key: RunKey, error: ClusterError, now: datetime) -> None:
        """Remember a request that was refused for good, or that has been failing for a while."""
        failed = error.status >= _SERVER_FAILED or error.status == _NO_ANSWER
        since = self._failing_since.setdefault(key, now)
        if error.is_refusal or (failed and now >= since + PATIENCE):
            reason = error.reason or ("ServerFailed" if failed else "Refused")
            self._refusals[key] = Trouble(reason, str(error))

    def noted(self, key: RunKey) -> Trouble | None:
        """Return what was refused last."""
        return self._refusals.get(key)

    def clear(self, key: RunKey) -> None:
        """Forget a refusal: everything could be done."""
        self._refusals.pop(key, None)
        self._failing_since.pop(key, None)

    def forget(self, key: RunKey) -> None:
        """Forget a run."""
        self.clear(key)
        self._asked.pop(key, None)

    async def of(
        self, key: RunKey, sight: AttemptSight, now: datetime
    ) -> tuple[Trouble | None, datetime | None]:
        """Return what keeps an attempt, and when time alone may tell more."""
        job = sight.job
        if job is None or job_ended(job) or job["metadata"].get("deletionTimestamp"):
            return None, sight.lost_at
        if is_suspended(job):
            return _queued(job), sight.lost_at
        if sight.num_existing >= replicas(job):
            return sight.trouble, sight.lost_at
        due = instant(job["metadata"]["creationTimestamp"]) + PATIENCE
        if now < due:
            return sight.trouble, due
        found = await self._why_missing(key, job, now)
        return sight.trouble or found, now + INTERVAL

    async def _why_missing(self, key: RunKey, job: Json, now: datetime) -> Trouble | None:
        uid = job["metadata"]["uid"]
        asked = self._asked.get(key)
        if asked is not None and asked[0] == uid and now < asked[1] + INTERVAL:
            return asked[2]
        try:
            found = await self._ask(job, now)
        except ClusterError:
            found = None
        self._asked[key] = (uid, now, found)
        return found

    async def _ask(self, job: Json, now: datetime) -> Trouble | None:
        metadata = job["metadata"]
        query = {"fieldSelector": f"involvedObject.uid={metadata['uid']},type=Warning"}
        answer = await self._api.list(EVENTS, metadata["namespace"], query)
        told = [one for one in answer.get("items") or () if _is_about_creation(one)]
        if told:
            return _refused(str(told[-1].get("message", "")))
        if not (job.get("status") or {}).get("conditions"):
            return Trouble(
                "JobNotTakenUp",
                f"PyTorchJob {metadata['name']} has no pods after {age_seconds(job, now):.0f} s: "
                "is the training operator running?",
            )
        return None


def _is_about_creation(event: Json) -> bool:
    return "Create" in str(event.get("reason", ""))


def _refused(message: str) -> Trouble:
    message = " ".join(message.split())[:1500]
    if _POD_SECURITY in message and _INIT_CONTAINER in message:
        return Trouble(
            "PodForbidden",
            "the training operator's own init container breaks the namespace's Pod Security; "
            f"give it --pytorch-init-container-template-file: {message}",
        )
    return Trouble("PodForbidden", f"the API server refuses the pods: {message}")


def _queued(job: Json) -> Trouble:
    queue = (job["metadata"].get("labels") or {}).get(QUEUE_LABEL, "")
    return Trouble("Queued", f"PyTorchJob {job['metadata']['name']} waits in queue {queue}")
