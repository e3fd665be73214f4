"""Lists, now and then: what exists at the start, and what a watch that began anew did not tell."""

from collections.abc import AsyncIterator, Mapping, Sequence

from rlhf_operator.api import RunKey
from rlhf_operator.cluster.api import FORBIDDEN, Api
from rlhf_operator.cluster.cache import Cache, Place, Store
from rlhf_operator.cluster.kinds import JOBS, PODS, RUN_LABEL, RUNS, Json, Kind
from rlhf_operator.errors import ClusterError

PAGE = 100
"""Objects in one answer: as dictionaries they take megabytes, and everything waits for them."""

METADATA_PAGE = 300
"""The same, where only their metadata is told."""

FEW = 20
"""Objects that have changed and are asked for one by one; for more, all are listed again."""


async def readable(api: Api, scopes: Sequence[str | None]) -> list[str | None]:
    """Return the scopes in which runs may be listed: of several, not all need be.

    A namespace that is deleted takes the right to look into it along; others go on without it.

    Raises:
        ClusterError: none of several may be, or one could not be asked.
    """
    if len(scopes) == 1:
        return list(scopes)
    found: list[str | None] = []
    refused: ClusterError | None = None
    for scope in scopes:
        try:
            await api.list(RUNS, scope, {"limit": "1"}, whole=False)
        except ClusterError as error:
            if error.status != FORBIDDEN:
                raise
            refused = error
        else:
            found.append(scope)
    if refused is not None and not found:
        raise refused
    return found


async def resync(
    api: Api, cache: Cache, scopes: Sequence[str | None], changed: set[RunKey]
) -> None:
    """Bring the cache up to date; add the runs for which something was new to `changed`.

    What a list brought before it failed is no news to the next one: it is in `changed` already.

    Raises:
        ClusterError: something could not be listed.
    """
    # Pods before jobs before runs: who sees a run finds its jobs, who sees a job finds its pods.
    for kind, store in ((PODS, cache.pods), (JOBS, cache.jobs), (RUNS, cache.runs)):
        query = {} if kind is RUNS else {"labelSelector": RUN_LABEL}
        async for new in _take(api, store, kind, scopes, query):
            changed |= new


async def refresh(api: Api, cache: Cache, key: RunKey) -> None:
    """Bring what is known of the jobs and pods of one run up to date.

    Raises:
        ClusterError: they could not be listed; nothing about them may be concluded.
    """
    # Jobs before pods: an end that the first list shows has its pods' ends in the second.
    for kind, store in ((JOBS, cache.jobs), (PODS, cache.pods)):
        query = {"labelSelector": f"{RUN_LABEL}={key.name}"}
        async for _ in _take(api, store, kind, (key.namespace,), query, only=key):
            pass


async def _take(
    api: Api,
    store: Store,
    kind: Kind,
    scopes: Sequence[str | None],
    query: Mapping[str, str],
    *,
    only: RunKey | None = None,
) -> AsyncIterator[set[RunKey]]:
    """Take in a list; yield the runs for which something was new, page by page."""
    # Most of what is known has ended and changes no more: its version tells that, in a third of
    # the bytes.
    whole = only is not None or store.is_empty()
    listed: set[Place] = set()
    unknown: list[Json] = []
    versions = []
    for scope in scopes:
        async for objects, version in _pages(api, kind, scope, query, whole=whole):
            news, places = store.news(objects)
            listed |= places
            versions.append(version)
            if whole:
                yield {key for obj in news if (key := store.put(obj))}
            else:
                unknown += news
    async for objects in _whole(api, kind, scopes, query, unknown):
        yield {key for obj in store.news(objects)[0] if (key := store.put(obj))}
    # All of the lists are true as of the oldest of their versions.
    yield store.drop_unlisted(listed, min(versions), only=only)


async def _whole(
    api: Api,
    kind: Kind,
    scopes: Sequence[str | None],
    query: Mapping[str, str],
    metadata: Sequence[Json],
) -> AsyncIterator[list[Json]]:
    """Yield the objects of which a list has told the metadata, and perhaps others."""
    if len(metadata) > FEW:
        lists = [(scope, query) for scope in scopes]
    else:
        lists = [
            (
                one["metadata"]["namespace"],
                {"fieldSelector": f"metadata.name={one['metadata']['name']}"},
            )
            for one in metadata
        ]
    for scope, chosen in lists:
        async for objects, _ in _pages(api, kind, scope, chosen, whole=True):
            yield objects


async def _pages(
    api: Api, kind: Kind, scope: str | None, query: Mapping[str, str], *, whole: bool
) -> AsyncIterator[tuple[list[Json], int]]:
    """Yield a list page by page, each with the resource version as of which it is true."""
    # In a list, objects do not say what they are.
    named = {"apiVersion": kind.api_version, "kind": kind.kind}
    more = ""
    size = PAGE if whole else METADATA_PAGE
    while True:
        limits = {"limit": str(size), **({"continue": more} if more else {})}
        page = await api.list(kind, scope, {**query, **limits}, whole=whole)
        # An empty list of metadata has null for its items.
        items = [one | named for one in page["items"] or ()]
        yield items, int(page["metadata"]["resourceVersion"])
        more = page["metadata"].get("continue", "")
        if not more:
            return
