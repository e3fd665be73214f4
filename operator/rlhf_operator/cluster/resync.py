"""Lists, now and then: what exists at the start, and what a watch that began anew did not tell."""

from collections.abc import Sequence

from rlhf_operator.api import RunKey
from rlhf_operator.cluster.api import Api
from rlhf_operator.cluster.cache import Cache
from rlhf_operator.cluster.kinds import JOBS, PODS, RUN_LABEL, RUNS, Json, Kind


async def resync(api: Api, cache: Cache, scopes: Sequence[str | None]) -> set[RunKey]:
    """Bring the cache up to date; return the runs for which something was new."""
    changed: set[RunKey] = set()
    # Pods before jobs before runs: who sees a run finds its jobs, who sees a job finds its pods.
    for kind, store in ((PODS, cache.pods), (JOBS, cache.jobs), (RUNS, cache.runs)):
        query = {} if kind is RUNS else {"labelSelector": RUN_LABEL}
        lists = [await api.list(kind, scope, query) for scope in scopes]
        changed |= store.replace(*_merged(kind, lists))
    return changed


async def refresh(api: Api, cache: Cache, key: RunKey) -> None:
    """Bring what is known of the jobs and pods of one run up to date.

    Raises:
        ClusterError: they could not be listed; nothing about them may be concluded.
    """
    # Jobs before pods: an end that the first list shows has its pods' ends in the second.
    for kind, store in ((JOBS, cache.jobs), (PODS, cache.pods)):
        listed = await api.list(kind, key.namespace, {"labelSelector": f"{RUN_LABEL}={key.name}"})
        store.replace(*_merged(kind, [listed]), only=key)


def _merged(kind: Kind, lists: Sequence[Json]) -> tuple[list[Json], int]:
    """Return what lists hold, and the resource version as of which all of them are true."""
    # In a list, objects do not say what they are.
    named = {"apiVersion": kind.api_version, "kind": kind.kind}
    objects = [named | one for listed in lists for one in listed["items"]]
    return objects, min(int(listed["metadata"]["resourceVersion"]) for listed in lists)
