"""Which attempts are to be read from outside: the live ones, and where their master answers."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from rlhf_operator.api import AttemptKey, RunKey
from rlhf_operator.api.run_policy import Monitoring
from rlhf_operator.cluster import Cache
from rlhf_operator.cluster.attempts import attempt_key
from rlhf_operator.cluster.kinds import Json
from rlhf_operator.cluster.pods import pod_facts
from rlhf_operator.watchdog import Target
from rlhf_trainer.contract import Phase

_ANY_TIME = datetime(1970, 1, 1, tzinfo=UTC)
"""Whether a pod has an address does not depend on the time."""

_PHASES = frozenset(Phase)

_DEFAULT_INTERVAL = Monitoring().scrape_interval_seconds


Live = tuple[AttemptKey, Json]
"""A live attempt, and what the status holds of it."""


class Targets:
    """The live attempts of what a cache shows.

    Asked four times a second: what a run's status says is looked up again only in another state.
    """

    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self._known: dict[RunKey, tuple[Json, Live | None]] = {}

    def __call__(self, is_due: Callable[[RunKey, AttemptKey], bool]) -> Iterator[Target]:
        """Yield every live attempt whose turn it is; one whose pod does not run has no address."""
        before, self._known = self._known, {}
        for key, raw in self._cache.runs.unsettled():
            known = before.get(key)
            if known is None or known[0] is not raw:
                known = raw, _live(raw)
            self._known[key] = known
            if (live := known[1]) is not None and is_due(key, live[0]):
                yield self._target(key, raw, live)

    def _target(self, key: RunKey, raw: Json, live: Live) -> Target:
        attempt, running = live
        monitoring = raw["spec"].get("monitoring") or {}
        return Target(
            run=key,
            attempt=attempt,
            address=_address(self._cache, key, attempt),
            interval_seconds=monitoring.get("scrapeIntervalSeconds", _DEFAULT_INTERVAL),
            known_step=(running.get("watch") or {}).get("lastStep"),
        )


def _live(raw: Json) -> Live | None:
    for phase in (raw.get("status") or {}).get("phases") or ():
        running = phase.get("running")
        if running and phase["phase"] in _PHASES:
            key = AttemptKey(phase["iteration"], Phase(phase["phase"]), running["number"])
            return key, running
    return None


def _address(cache: Cache, key: RunKey, attempt: AttemptKey) -> str | None:
    for pod in cache.pods.of(key):
        if attempt_key(pod) == attempt:
            facts = pod_facts(pod, _ANY_TIME, gone=False)
            if facts.is_master and facts.address is not None:
                return facts.address
    return None
