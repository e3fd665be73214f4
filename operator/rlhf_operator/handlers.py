"""Kopf registrations: they keep the cache and enqueue a key, nothing else.

Only `on.event`: Kopf writes nothing to our objects, and everything else is level-based.
"""

from collections.abc import Callable
from typing import Any, cast

import kopf
from typing_extensions import override

from rlhf_operator.api import RunKey
from rlhf_operator.cluster import JOBS, PODS, RUN_LABEL, RUNS, Cache
from rlhf_operator.cluster.cache import Store
from rlhf_operator.cluster.kinds import Json, Kind

DELETED, LISTED = "DELETED", None
"""Types of events; a list that a watch begins with has none."""

PAGE = 100
"""Objects in one answer of such a list."""

IDLE_SECONDS = 0.5
"""How long Kopf keeps the last event of an object in its hands: a list of many objects is large."""


class _NothingCompared(kopf.DiffBaseStorage):
    """Leaves out what Kopf compares for handlers of changes: there are none.

    It would copy every object for it with each event: a third of the process's CPU time.
    """

    @override
    def build(self, **_: Any) -> kopf.BodyEssence:
        return {}

    @override
    def fetch(self, **_: Any) -> None:
        return None

    @override
    def store(self, **_: Any) -> None:
        pass


def new_registry(cache: Cache, add: Callable[[RunKey], None]) -> kopf.OperatorRegistry:
    """Have every change of a run, of its jobs and of its pods enqueue the run."""
    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry)(_log_in)
    for kind, store in ((RUNS, cache.runs), (JOBS, cache.jobs), (PODS, cache.pods)):
        _register(registry, kind, store, add)
    return registry


def configure(settings: kopf.OperatorSettings) -> None:
    """Set Kopf up: quiet, alone, and blind to jobs and pods of others."""
    settings.posting.enabled = False
    settings.peering.standalone = True
    # Everything that is watched exists before Kopf starts: it needs no rights to look for kinds.
    settings.scanning.disabled = True
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 310
    settings.watching.connect_timeout = 30
    settings.watching.chunk_size = PAGE
    settings.queueing.idle_timeout = IDLE_SECONDS
    settings.persistence.diffbase_storage = _NothingCompared()
    # Whoever leads and cannot follow is to make way: as long as a lease, not a minute.
    settings.networking.error_backoffs = (0.5, 1, 2, 3, 5)
    for kind in (JOBS, PODS):
        settings.watching.label_selectors[kind.group, kind.version, kind.plural] = RUN_LABEL


async def _log_in(**known: Any) -> kopf.ConnectionInfo | None:  # noqa: ANN401 -- Kopf's own
    """Use the pod's service account, or else the kubeconfig."""
    return kopf.login_with_service_account(**known) or kopf.login_with_kubeconfig(**known)


def _register(
    registry: kopf.OperatorRegistry, kind: Kind, store: Store, add: Callable[[RunKey], None]
) -> None:
    @kopf.on.event(kind.group, kind.version, kind.plural, registry=registry, id=kind.plural)
    async def changed(event: kopf.RawEvent, **_: Any) -> None:  # noqa: ANN401 -- Kopf's own
        """Something about a run has changed: look at it again."""
        obj = cast("Json", event["object"])
        if event["type"] is LISTED and store.knows(obj):
            # Our own list has told it, and had its run looked at.
            return
        key = store.remove(obj) if event["type"] == DELETED else store.put(obj)
        if key is not None:
            add(key)
