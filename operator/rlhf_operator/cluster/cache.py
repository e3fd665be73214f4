"""What the watches have shown last: plain dictionaries, or packed once they change no more.

A watch may tell an older state after a newer one is known from our own write, and it loses
deletions when it has to begin anew; resource versions of one kind count upwards, so the newest
wins, and a list now and then finds what is gone.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet

from rlhf_operator.api import RunKey
from rlhf_operator.cluster.attempts import job_ended
from rlhf_operator.cluster.kinds import RUN_LABEL, Json
from rlhf_operator.cluster.packing import Packed
from rlhf_operator.cluster.pods import pod_ended
from rlhf_trainer.config.deepspeed import TOO_DEEP, is_too_large

Place = tuple[RunKey, str]
"""The run that an object belongs to, and its name."""


def own_key(obj: Json) -> RunKey:
    """Return the key of a run."""
    metadata = obj["metadata"]
    return RunKey(metadata.get("namespace", ""), metadata["name"])


def labelled_key(obj: Json) -> RunKey | None:
    """Return the key of the run that a job or pod belongs to."""
    metadata = obj["metadata"]
    name = (metadata.get("labels") or {}).get(RUN_LABEL)
    return RunKey(metadata.get("namespace", ""), name) if name else None


def version(obj: Json) -> int:
    """Return an object's resource version, which counts upwards within its kind."""
    text = obj["metadata"].get("resourceVersion", "")
    return int(text) if text.isdecimal() else 0


def trimmed(obj: Json) -> Json:
    """Return an object without what nobody here reads."""
    unread = ("managedFields", "annotations")
    metadata = {key: value for key, value in obj["metadata"].items() if key not in unread}
    return {**obj, "metadata": metadata}


def trimmed_run(obj: Json) -> Json:
    """Return a run without what takes twenty times its bytes in memory, and is refused anyway."""
    run = trimmed(obj)
    sharding = (run.get("spec") or {}).get("deepspeed") or {}
    if is_too_large(sharding.get("overrides")):
        run["spec"] = {**run["spec"], "deepspeed": {**sharding, "overrides": TOO_DEEP}}
    return run


def trimmed_pod(obj: Json) -> Json:
    """Return a pod's metadata, node and status; its specification is the job's."""
    node = {"nodeName": (obj.get("spec") or {}).get("nodeName")}
    return {**trimmed(obj), "spec": node}


def trimmed_job(obj: Json) -> Json:
    """Return a job without its pods' templates; who has changed a job stays known."""
    spec = dict(obj.get("spec") or {})
    replicas = spec.get("pytorchReplicaSpecs") or {}
    spec["pytorchReplicaSpecs"] = {
        kind: {key: value for key, value in replica.items() if key != "template"}
        for kind, replica in replicas.items()
    }
    job = {**trimmed(obj), "spec": spec}
    job["metadata"]["managedFields"] = [
        {**one, "fieldsV1": {"f:spec": {}} if "f:spec" in (one.get("fieldsV1") or {}) else {}}
        for one in obj["metadata"].get("managedFields") or ()
    ]
    return job


def run_over(run: Json) -> bool:
    """Return whether a run has ended and nobody has asked for its deletion."""
    ended = "outcome" in (run.get("status") or {})
    return ended and not run["metadata"].get("deletionTimestamp")


def never(_: Json) -> bool:
    """Return that an object may change at any time."""
    return False


class Store:
    """Objects of one kind, by name and by run."""

    def __init__(
        self,
        key: Callable[[Json], RunKey | None],
        trim: Callable[[Json], Json] = trimmed,
        settled: Callable[[Json], bool] = never,
        seen: Callable[[RunKey, Json | None], None] = lambda _key, _obj: None,
    ) -> None:
        self._key, self._trim, self._settled, self._seen = key, trim, settled, seen
        self._by_run: defaultdict[RunKey, dict[str, Json | Packed]] = defaultdict(dict)
        self._gone: dict[Place, int] = {}
        self._remains: defaultdict[RunKey, dict[str, Json]] = defaultdict(dict)

    def of(self, key: RunKey) -> list[Json]:
        """Return the objects of a run."""
        return [_unpacked(obj) for obj in self._by_run[key].values()] if key in self._by_run else []

    def unsettled(self) -> Iterator[tuple[RunKey, Json]]:
        """Yield the objects that still change, with the runs that they belong to."""
        for key, objects in list(self._by_run.items()):
            for obj in objects.values():
                if not isinstance(obj, Packed):
                    yield key, obj

    def is_settled(self, key: RunKey) -> bool:
        """Return whether no object of a run changes any more."""
        return all(isinstance(obj, Packed) for obj in self._by_run.get(key, {}).values())

    def remains(self, key: RunKey) -> list[Json]:
        """Return the objects of a run that are gone, as they were last seen."""
        return list(self._remains[key].values()) if key in self._remains else []

    def forget(self, key: RunKey, keep: Callable[[Json], bool] = never) -> None:
        """Drop the remains of a run, but for those that are still needed."""
        kept = {uid: obj for uid, obj in self._remains.pop(key, {}).items() if keep(obj)}
        if kept:
            self._remains[key] = kept

    def keys(self) -> Iterator[RunKey]:
        """Yield the runs that objects belong to."""
        yield from [key for key, objects in self._by_run.items() if objects]

    def knows(self, obj: Json) -> bool:
        """Return whether an object is known in this state already, or in a newer one."""
        key = self._key(obj)
        known = self._by_run.get(key, {}).get(obj["metadata"]["name"]) if key else None
        return known is not None and _version(known) >= version(obj)

    def put(self, obj: Json) -> RunKey | None:
        """Take in an object unless a newer state is known; return the run it belongs to."""
        key = self._key(obj)
        if key is None:
            return None
        name = obj["metadata"]["name"]
        known = self._by_run[key].get(name)
        newest = _version(known) if known else self._gone.get((key, name), 0)
        if version(obj) >= newest:
            if known and _uid(known) != obj["metadata"].get("uid"):
                self._remains[key][_uid(known)] = _unpacked(known)
            kept = self._trim(obj)
            self._seen(key, kept)
            self._by_run[key][name] = Packed(kept, version(kept)) if self._settled(kept) else kept
        return key

    def remove(self, obj: Json) -> RunKey | None:
        """Take in that an object is gone, in its last state; return the run it belonged to."""
        key = self._key(obj)
        if key is None:
            return None
        name, uid = obj["metadata"]["name"], obj["metadata"].get("uid", "")
        self._remains[key][uid] = self._trim(obj)
        known = self._by_run[key].get(name)
        if known and _uid(known) == uid:
            del self._by_run[key][name]
            self._gone[key, name] = version(obj)
            self._seen(key, None)
        if not self._by_run[key]:
            del self._by_run[key]
        return key

    def is_empty(self) -> bool:
        """Return whether no object is known."""
        return not self._by_run

    def news(self, objects: Iterable[Json]) -> tuple[list[Json], set[Place]]:
        """Look through a page of a list; return what is not known in its state, and all it lists.

        Metadata is enough for that.
        """
        unknown, listed = [], set()
        for obj in objects:
            key = self._key(obj)
            if key is None:
                continue
            listed.add((key, obj["metadata"]["name"]))
            if not self.knows(obj):
                unknown.append(obj)
        return unknown, listed

    def drop_unlisted(
        self, listed: AbstractSet[Place], at: int, *, only: RunKey | None = None
    ) -> set[RunKey]:
        """Take in that what a list as of a resource version leaves out is gone; return its runs.

        `only` says that the list holds the objects of one run and tells nothing about others.
        """
        changed = set()
        for key in list(self.keys()) if only is None else [only]:
            for name, known in list(self._by_run.get(key, {}).items()):
                if (key, name) not in listed and _version(known) <= at:
                    self.remove(_unpacked(known))
                    changed.add(key)
        if only is None:
            self._gone = {place: gone for place, gone in self._gone.items() if gone > at}
        return changed


class Cache:
    """All that is known of the cluster; `seen` is told each state of a run, and that it is gone."""

    def __init__(
        self, seen: Callable[[RunKey, Json | None], None] = lambda _key, _run: None
    ) -> None:
        self.runs = Store(own_key, trimmed_run, run_over, seen)
        self.jobs = Store(labelled_key, trimmed_job, job_ended)
        self.pods = Store(labelled_key, trimmed_pod, pod_ended)

    def run(self, key: RunKey) -> Json | None:
        """Return a run, or None if there is none."""
        return next(iter(self.runs.of(key)), None)


def _version(known: Json | Packed) -> int:
    return known.version if isinstance(known, Packed) else version(known)


def _uid(known: Json | Packed) -> str:
    uid: str = known.uid if isinstance(known, Packed) else known["metadata"].get("uid", "")
    return uid


def _unpacked(known: Json | Packed) -> Json:
    return known.unpacked() if isinstance(known, Packed) else known
