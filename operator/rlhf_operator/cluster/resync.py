"""Lists, now and then: what exists at the start, and what a watch that began anew did not tell."""

from collections.abc import Sequence

from rlhf_operator.api import RunKey
from rlhf_operator.cluster.api import Api
from rlhf_operator.cluster.cache import Cache
from rlhf_operator.cluster.kinds import JOBS, PODS, RUN_LABEL, RUNS, Json


async def resync(api: Api, cache: Cache, scopes: Sequence[str | None]) -> set[RunKey]:
    """Bring the cache up to date; return the runs for which something was new."""
    changed: set[RunKey] = set()
    # Pods before jobs before runs: who sees a run finds its jobs, who sees a job finds its pods.
    for kind, store in ((PODS, cache.pods), (JOBS, cache.jobs), (RUNS, cache.runs)):
        query = {} if kind is RUNS else {"labelSelector": RUN_LABEL}
        lists = [await api.list(kind, scope, query) for scope in scopes]
        # In a list, objects do not say what they are.
        named = {"apiVersion": kind.api_version, "kind": kind.kind}
        objects: list[Json] = [named | one for listed in lists for one in listed["items"]]
        at = min(int(listed["metadata"]["resourceVersion"]) for listed in lists)
        changed |= store.replace(objects, at)
    return changed
