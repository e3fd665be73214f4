"""Which attempts can be read from outside: the live ones whose master answers."""

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


def targets(cache: Cache, is_due: Callable[[RunKey, AttemptKey], bool]) -> Iterator[Target]:
    """Yield every live attempt with an address whose turn it is.

    Runs are not made into models for it, nor pods looked for in vain: this happens twice a second.
    """
    for key, raw in cache.runs.unsettled():
        live = _live(raw)
        if live is None:
            continue
        attempt, running = live
        if not is_due(key, attempt):
            continue
        address = _address(cache, key, attempt)
        monitoring = raw["spec"].get("monitoring") or {}
        if address is not None:
            yield Target(
                run=key,
                attempt=attempt,
                address=address,
                interval_seconds=monitoring.get("scrapeIntervalSeconds", _DEFAULT_INTERVAL),
                known_step=(running.get("watch") or {}).get("lastStep"),
            )


def _live(raw: Json) -> tuple[AttemptKey, Json] | None:
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
