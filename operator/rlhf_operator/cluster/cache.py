"""What the watches have shown last: plain dictionaries, one per kind.

A watch may tell an older state after a newer one is known from our own write, and it loses
deletions when it has to begin anew; resource versions of one kind count upwards, so the newest
wins, and a list now and then finds what is gone.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator

from rlhf_operator.api import RunKey
from rlhf_operator.cluster.kinds import RUN_LABEL, Json


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
    metadata = {key: obj["metadata"][key] for key in obj["metadata"] if key != "managedFields"}
    return {**obj, "metadata": metadata}


def trimmed_pod(obj: Json) -> Json:
    """Return a pod's metadata, node and status; its specification is the job's."""
    node = {"nodeName": (obj.get("spec") or {}).get("nodeName")}
    return {**trimmed(obj), "spec": node}


class Store:
    """Objects of one kind, by name and by run."""

    def __init__(
        self, key: Callable[[Json], RunKey | None], trim: Callable[[Json], Json] = trimmed
    ) -> None:
        self._key, self._trim = key, trim
        self._by_run: defaultdict[RunKey, dict[str, Json]] = defaultdict(dict)
        self._gone: dict[tuple[RunKey, str], int] = {}
        self._remains: defaultdict[RunKey, dict[str, Json]] = defaultdict(dict)

    def of(self, key: RunKey) -> list[Json]:
        """Return the objects of a run."""
        return list(self._by_run[key].values()) if key in self._by_run else []

    def remains(self, key: RunKey) -> list[Json]:
        """Return the objects of a run that are gone, as they were last seen."""
        return list(self._remains[key].values()) if key in self._remains else []

    def forget(self, key: RunKey, keep: Callable[[Json], bool] = lambda _: False) -> None:
        """Drop the remains of a run, but for those that are still needed."""
        kept = {uid: obj for uid, obj in self._remains.pop(key, {}).items() if keep(obj)}
        if kept:
            self._remains[key] = kept

    def keys(self) -> Iterator[RunKey]:
        """Yield the runs that objects belong to."""
        yield from [key for key, objects in self._by_run.items() if objects]

    def put(self, obj: Json) -> RunKey | None:
        """Take in an object unless a newer state is known; return the run it belongs to."""
        key = self._key(obj)
        if key is None:
            return None
        name = obj["metadata"]["name"]
        known = self._by_run[key].get(name)
        newest = version(known) if known else self._gone.get((key, name), 0)
        if version(obj) >= newest:
            if known and known["metadata"].get("uid") != obj["metadata"].get("uid"):
                self._remains[key][known["metadata"].get("uid", "")] = known
            self._by_run[key][name] = self._trim(obj)
        return key

    def remove(self, obj: Json) -> RunKey | None:
        """Take in that an object is gone, in its last state; return the run it belonged to."""
        key = self._key(obj)
        if key is None:
            return None
        name, uid = obj["metadata"]["name"], obj["metadata"].get("uid", "")
        self._remains[key][uid] = self._trim(obj)
        known = self._by_run[key].get(name)
        if known and known["metadata"].get("uid") == uid:
            del self._by_run[key][name]
            self._gone[key, name] = version(obj)
        return key

    def replace(
        self, objects: Iterable[Json], at: int, *, only: RunKey | None = None
    ) -> set[RunKey]:
        """Take in a list as of a resource version; return the runs for which something changed.

        `only` says that the list holds the objects of one run and tells nothing about others.
        """
        changed = set()
        listed = set()
        for obj in objects:
            key, name = self._key(obj), obj["metadata"]["name"]
            if key is None:
                continue
            listed.add((key, name))
            known = self._by_run[key].get(name)
            if known is None or version(known) < version(obj):
                changed.add(key)
            self.put(obj)
        for key in list(self.keys()) if only is None else [only]:
            for obj in self.of(key):
                if (key, obj["metadata"]["name"]) not in listed and version(obj) <= at:
                    self.remove(obj)
                    changed.add(key)
        if only is None:
            self._gone = {place: gone for place, gone in self._gone.items() if gone > at}
        return changed


class Cache:
    """All that is known of the cluster."""

    def __init__(self) -> None:
        self.runs = Store(own_key)
        # Whole: who has changed a job stands in its managedFields.
        self.jobs = Store(labelled_key, lambda job: job)
        self.pods = Store(labelled_key, trimmed_pod)

    def run(self, key: RunKey) -> Json | None:
        """Return a run, or None if there is none."""
        return next(iter(self.runs.of(key)), None)
