"""Runs in a cluster: what the caches show of an attempt, and how one is started and stopped.

What to do about it is decided in `decide`. The status is written first, against the version that
was looked at; jobs and ConfigMaps are created and never changed; deletes carry a UID.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Protocol, assert_never

from rlhf_operator.api import AttemptKey, Pool, RLHFRun, RunKey
from rlhf_operator.cluster.api import CONFLICT, GONE, Api
from rlhf_operator.cluster.attempts import (
    AttemptSight,
    attempt_key,
    execution,
    is_hearsay,
    job_ended,
)
from rlhf_operator.cluster.cache import Cache, own_key
from rlhf_operator.cluster.edits import edit
from rlhf_operator.cluster.events import event_manifest
from rlhf_operator.cluster.kinds import EVENTS, JOBS, RUNS, Json
from rlhf_operator.cluster.placing import Judge
from rlhf_operator.cluster.pods import pod_facts
from rlhf_operator.cluster.reading import RunReader, is_deleting, is_held, with_hold
from rlhf_operator.cluster.resync import refresh
from rlhf_operator.cluster.starting import Starter
from rlhf_operator.cluster.troubles import Troubles
from rlhf_operator.cluster.unreadable import unreadable_status
from rlhf_operator.cluster.write_pace import WritePace
from rlhf_operator.decide import (
    Action,
    AttemptProgress,
    Decision,
    Execution,
    Hold,
    LetGo,
    Observed,
    RemoveJob,
    RemoveRun,
    StartAttempt,
    StopAttempt,
    events,
)
from rlhf_operator.errors import ClusterError, SpecError

logger = logging.getLogger(__name__)


class Readings(Protocol):
    """What has been read of an attempt's metrics from outside."""

    def progress(self, key: RunKey, attempt: AttemptKey, since: int | None) -> AttemptProgress:
        """Return how far an attempt has come; the steps up to `since` are known already."""

    def forget(self, key: RunKey) -> None:
        """Drop what belongs to a run that is gone."""


class ClusterBackend:
    """All runs of a cluster or of one namespace."""

    def __init__(
        self,
        api: Api,
        cache: Cache,
        pools: Callable[[], Mapping[str, Pool]],
        readings: Readings,
        clock: Callable[[], datetime],
        *,
        image: str,
    ) -> None:
        self._api, self._cache, self._pools, self._clock = api, cache, pools, clock
        self._readings = readings
        self._starter = Starter(api, cache, image)
        self._troubles = Troubles(api)
        self._looked_at: dict[RunKey, Json] = {}
        self._deleted: dict[RunKey, set[str]] = {}
        self._pace = WritePace(clock)
        self._reader, self._judge = RunReader(), Judge(pools)

    async def observe(self, key: RunKey) -> tuple[RLHFRun, Observed] | None:
        """Return the run as stored and what is seen of it; None if there is nothing to do."""
        raw = self._cache.run(key)
        if raw is None:
            self._forget(key)
            return None
        self._looked_at[key] = raw
        run = self._reader.read(key, raw)
        if isinstance(run, SpecError):
            self._judge.forget(key)
            await self._tell_unreadable(raw, run)
            self._looked_at.pop(key, None)
            return None
        self._forget_what_is_over(run)
        return run, await self._observed(run, raw)

    async def apply(self, run: RLHFRun, decision: Decision) -> None:
        """Write the status, then do what has been decided, then tell it.

        Raises:
            ClusterError: something could not be done; nothing after it was.
        """
        written = False
        try:
            if decision.status != run.status:
                await self._write_status(run, decision)
                written = True
            for action in decision.actions:
                await self._act(run, decision, action)
        except ClusterError as error:
            error.after_status = written
            self._troubles.note(run.key, error, self._clock())
            if written:
                await self._tell(run, decision)
            raise
        finally:
            self._looked_at.pop(run.key, None)
        # What is done does not wait for what is said about it.
        if written:
            await self._tell(run, decision)
        self._troubles.clear(run.key)

    async def _observed(self, run: RLHFRun, raw: Json) -> Observed:
        key, now = run.key, self._clock()
        executions: dict[AttemptKey, Execution] = {}
        trouble, recheck_at, edited = None, None, None
        if run.status.live is not None:
            live = run.status.live
            sight = self._sight(run, raw, live.key, now)
            seen = execution(sight, live.attempt)
            if is_hearsay(sight, seen):
                await refresh(self._api, self._cache, key)
                sight = self._sight(run, raw, live.key, now)
                seen = execution(sight, live.attempt)
            executions[live.key] = seen
            trouble, recheck_at = await self._troubles.of(key, sight, now)
            edited = edit(sight.job) if sight.job else None
        jobs = self._jobs(raw)
        refused, warning = self._judge.judge(run)
        return Observed(
            executions,
            refused=refused,
            warning=warning,
            suspended=run.spec.run_policy.suspend,
            deleting=is_deleting(raw),
            held=is_held(raw),
            jobs=frozenset(self._removable(jobs)),
            unfinished=frozenset(attempt for attempt, job in jobs.items() if not job_ended(job)),
            alive=frozenset(self._alive(key, jobs, now)),
            trouble=trouble,
            denied=self._troubles.noted(key),
            edited=edited,
            recheck_at=recheck_at,
            busy=self._pace.is_busy(),
            crowded=self._pace.is_crowded(),
        )

    def _sight(self, run: RLHFRun, raw: Json, attempt: AttemptKey, now: datetime) -> AttemptSight:
        key, live = run.key, run.status.live
        self._cache.pods.forget(key, lambda pod: attempt_key(pod) == attempt)
        pods = [
            pod_facts(pod, now, gone=gone)
            for gone, found in (
                (False, self._cache.pods.of(key)),
                (True, self._cache.pods.remains(key)),
            )
            for pod in found
            if self._is_ours(pod, run, attempt)
        ]
        watch = live.attempt.watch if live else None
        since = watch.last_step if watch else None
        return AttemptSight(
            job=self._jobs(raw).get(attempt),
            pods=pods,
            was_seen=any(
                attempt_key(gone) == attempt and _is_of(gone, run.metadata.uid)
                for gone in self._cache.jobs.remains(key)
            ),
            progress=self._readings.progress(key, attempt, since),
        )

    def _is_ours(self, pod: Json, run: RLHFRun, attempt: AttemptKey) -> bool:
        """Whether a pod belongs to this very attempt, and not to one of an earlier run of the name.

        Its job tells, while anybody knows of one; after that, when the pod was created.
        """
        if attempt_key(pod) != attempt:
            return False
        live = run.status.live
        jobs = (*self._cache.jobs.of(run.key), *self._cache.jobs.remains(run.key))
        known = {
            job["metadata"].get("uid")
            for job in jobs
            if attempt_key(job) == attempt and _is_of(job, run.metadata.uid)
        }
        known |= {live.attempt.job_uid} - {None} if live else set()
        if known:
            return any(_is_of(pod, uid) for uid in known)
        return live is None or _created(pod) >= live.attempt.start_time

    def _jobs(self, raw: Json) -> dict[AttemptKey, Json]:
        """Return the jobs of this very run by attempt."""
        return {attempt: job for job in self._own(raw) if (attempt := attempt_key(job))}

    def _own(self, raw: Json) -> list[Json]:
        """Return the jobs of this very run, and not of an earlier one of its name."""
        uid = raw["metadata"].get("uid", "")
        return [job for job in self._cache.jobs.of(own_key(raw)) if _is_of(job, uid)]

    def _alive(
        self, key: RunKey, jobs: Mapping[AttemptKey, Json], now: datetime
    ) -> Iterator[AttemptKey]:
        """Yield the attempts that have a pod alive, or none yet."""
        for attempt, job in jobs.items():
            pods = [
                pod_facts(pod, now, gone=False)
                for pod in self._cache.pods.of(key)
                if _is_of(pod, job["metadata"]["uid"])
            ]
            uid = job["metadata"]["uid"]
            gone = any(_is_of(pod, uid) for pod in self._cache.pods.remains(key))
            if not job_ended(job) and (any(pod.alive for pod in pods) or not (pods or gone)):
                yield attempt

    @staticmethod
    def _removable(jobs: Mapping[AttemptKey, Json]) -> list[AttemptKey]:
        return [key for key, job in jobs.items() if not job["metadata"].get("deletionTimestamp")]

    async def _write_status(self, run: RLHFRun, decision: Decision) -> None:
        raw = self._looked_at[run.key]
        status = decision.status.model_dump(mode="json", by_alias=True, exclude_none=True)
        await self._replace_status(raw, status)
        if decision.status.outcome is not None:
            self._reader.forget(run.key)
            self._judge.forget(run.key)

    async def _replace_status(self, raw: Json, status: Json) -> None:
        metadata = {
            name: raw["metadata"][name] for name in ("name", "namespace", "uid", "resourceVersion")
        }
        # Of anything else the API server keeps its own: it is not sent.
        manifest = {
            "apiVersion": RUNS.api_version,
            "kind": RUNS.kind,
            "metadata": metadata,
            "status": status,
        }
        with self._pace.writing():
            stored = await self._api.replace_status(RUNS, manifest)
        self._keep(stored)

    def _keep(self, stored: Json) -> None:
        key = self._cache.runs.put(stored)
        if key is not None:
            self._looked_at[key] = stored

    async def _act(self, run: RLHFRun, decision: Decision, action: Action) -> None:
        raw = self._looked_at[run.key]
        match action:
            case StartAttempt():
                pools = self._pools()
                decided = run.model_copy(update={"status": decision.status})
                await self._starter.start(decided, action, pools)
            case StopAttempt(key=key) | RemoveJob(key=key):
                await self._remove_job(raw, key)
            case Hold():
                await self._hold(run, held=True)
            case LetGo():
                await self._hold(run, held=False)
            case RemoveRun():
                metadata = raw["metadata"]
                await self._api.delete(
                    RUNS, metadata["namespace"], metadata["name"], metadata["uid"]
                )
            case never:
                assert_never(never)

    async def _remove_job(self, raw: Json, key: AttemptKey) -> None:
        """Delete an attempt's job: its pods are told to end, with their grace period."""
        for job in self._own(raw):
            metadata = job["metadata"]
            # The watch tells of our own deletion a moment later.
            deleted = self._deleted.setdefault(own_key(raw), set())
            over = metadata.get("deletionTimestamp") or metadata["uid"] in deleted
            if attempt_key(job) == key and not over:
                await self._api.delete(
                    JOBS, metadata["namespace"], metadata["name"], metadata["uid"]
                )
                deleted.add(metadata["uid"])

    async def _hold(self, run: RLHFRun, *, held: bool) -> None:
        raw = self._looked_at[run.key]
        try:
            stored = await self._api.patch(
                RUNS, run.metadata.namespace, run.metadata.name, with_hold(raw, held=held)
            )
        except ClusterError as error:
            if error.status == GONE and not held:
                return
            raise
        self._keep(stored)

    async def _tell(self, run: RLHFRun, decision: Decision) -> None:
        for event in events(run.status, decision.status):
            try:
                await self._api.create(EVENTS, event_manifest(run, event, self._clock()))
            except ClusterError as error:
                if error.status != CONFLICT:
                    logger.warning("event not written: %s", error, extra={"run": run.metadata.name})

    async def _tell_unreadable(self, raw: Json, problem: SpecError) -> None:
        """A run that this version cannot read does nothing, says so, and can be deleted."""
        metadata = raw["metadata"]
        if is_deleting(raw):
            if is_held(raw):
                patch = with_hold(raw, held=False)
                await self._api.patch(RUNS, metadata["namespace"], metadata["name"], patch)
            return
        status = unreadable_status(raw, problem, self._clock())
        if status is not None:
            await self._replace_status(raw, status)

    def _forget_what_is_over(self, run: RLHFRun) -> None:
        """Drop what is known of attempts that are gone, and are not the live one."""
        live = run.status.live
        if live is not None:
            key = live.key
            self._cache.jobs.forget(run.key, lambda job: attempt_key(job) == key)
            return
        jobs = {job["metadata"]["uid"] for job in self._cache.jobs.of(run.key)}
        if not self._deleted.get(run.key, set()) & jobs:
            self._deleted.pop(run.key, None)
        self._cache.jobs.forget(run.key)
        self._cache.pods.forget(run.key, lambda pod: any(_is_of(pod, uid) for uid in jobs))
        self._readings.forget(run.key)

    def _forget(self, key: RunKey) -> None:
        self._looked_at.pop(key, None)
        self._deleted.pop(key, None)
        self._reader.forget(key)
        self._judge.forget(key)
        self._cache.runs.forget(key)
        self._cache.jobs.forget(key)
        self._cache.pods.forget(key)
        self._troubles.forget(key)
        self._readings.forget(key)


def _is_of(obj: Json, uid: str) -> bool:
    owners = obj["metadata"].get("ownerReferences") or ()
    return any(owner.get("uid") == uid for owner in owners)


def _created(obj: Json) -> datetime:
    return datetime.fromisoformat(obj["metadata"]["creationTimestamp"])
