"""The operator's process: caches, watches, workers, watchdog and probes, from start to SIGTERM.

Of several processes one leads and works; it asks before every write whether it still does.
"""

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from kubernetes.aio import config as credentials
from kubernetes.aio.client import ApiClient

from rlhf_operator import logs
from rlhf_operator.api import RunKey
from rlhf_operator.cluster import Api, Cache, ClusterBackend, readable, resync
from rlhf_operator.cluster.kinds import Json
from rlhf_operator.errors import ClusterError, SpecError
from rlhf_operator.handlers import new_registry
from rlhf_operator.leader import Elector, LeaseName, Timing, led
from rlhf_operator.metrics import OperatorMetrics, Summary
from rlhf_operator.passes import Passes
from rlhf_operator.pools import MountedPools
from rlhf_operator.probes import serving
from rlhf_operator.queue import WorkQueue
from rlhf_operator.settings import Settings, identity
from rlhf_operator.targets import Targets
from rlhf_operator.watchdog import Reader, Readings, Target, Watchdog, new_session
from rlhf_operator.watching import follow

logger = logging.getLogger(__name__)

LIST_RETRY_SECONDS = 1.0
"""Nothing can be done before the first list."""

RELIST_SECONDS = 10.0
"""The same for later lists: whoever could not answer is not to be asked all the time."""

SECOND_LIST_SECONDS = 5.0
"""Watches begin a moment after the first list: what went in between is found by a second one."""

COLLECT_SECONDS = 3600.0
"""Errors leave cycles, few of them; looking for them holds up a thousand live runs for a second."""

NESTED_LEVELS = 12_000
"""The API server reads ten thousand levels; a main thread's usual 8 MB of stack are enough."""

STALLED_SECONDS = 120.0
"""A pass that takes longer than this has stalled: requests time out long before."""


def now() -> datetime:
    """Return the current time, in UTC."""
    return datetime.now(UTC)  # noqa: TID251 - the clock that is passed in


class Operator:
    """One process of the operator."""

    def __init__(
        self,
        settings: Settings,
        api: Api,
        reader: Reader,
        stop: asyncio.Event,
        leads: Callable[[], bool],
    ) -> None:
        self._settings, self._cache, self._api = settings, Cache(self._has_seen), api
        self._told: dict[RunKey, Summary] = {}
        readings = Readings()
        backend = ClusterBackend(
            self._api,
            self._cache,
            MountedPools(settings.pools),
            readings,
            now,
            image=settings.image,
        )
        self.metrics = OperatorMetrics(self._told.values, lambda: len(self._queue), leads)
        self._passes = Passes(backend, now, self.metrics)
        self._queue = WorkQueue(self._passes.look, now)
        self._watchdog = Watchdog(reader, readings, Targets(self._cache), on_reading=self._has_read)
        self._ready, self._stop = asyncio.Event(), stop
        self._watching = asyncio.Event()
        self._failed, self._not_listed = False, ""
        self._changed: set[RunKey] = set()
        self._followed = settings.scopes

    async def run(self) -> bool:
        """Work until told to stop; return whether that was what ended it."""
        # Kopf leaves alone what exists before it starts, and cancels everything else at its end.
        tasks = [
            asyncio.create_task(self._queue.run(self._settings.workers), name="queue"),
            asyncio.create_task(self._keep_in_step(), name="resync"),
            asyncio.create_task(self._watchdog.run(), name="watchdog"),
        ]
        for task in tasks:
            task.add_done_callback(self._ended)
        try:
            await self._watch()
        except ClusterError as error:
            logger.critical("%s", error)
            self._failed = True
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        logger.info("stopped")
        return not self._failed

    def alive(self) -> str:
        """Return what makes a restart worth while, if anything does."""
        seconds = self._passes.longest_seconds()
        return f"a pass has taken {seconds:.0f} s" if seconds > STALLED_SECONDS else ""

    def ready(self) -> str:
        """Return why this process cannot do its work yet, if it cannot."""
        return "" if self._ready.is_set() else f"the cluster is not known yet{self._not_listed}"

    async def _watch(self) -> None:
        """Follow the cluster until told to stop."""
        await self._ready_or_stopped()
        if self._stop.is_set():
            return
        registry = new_registry(self._cache, self._queue.add)
        namespaces = [scope for scope in self._followed if scope is not None]
        await follow(registry, namespaces, stop=self._stop, ready=self._watching)

    async def _ready_or_stopped(self) -> None:
        waits = [asyncio.create_task(event.wait()) for event in (self._ready, self._stop)]
        _, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()

    async def _keep_in_step(self) -> None:
        """List what there is, first to know anything at all, then now and then."""
        while not await self._list():  # noqa: ASYNC110 - nobody tells us when it answers
            await asyncio.sleep(LIST_RETRY_SECONDS)
        # Most of what there is now stays: the collector need not look through it again.
        gc.collect()
        gc.freeze()
        self._ready.set()
        logger.info("the cluster is known")
        await self._watching.wait()
        # Kopf has set its own handlers, with which stopping takes seconds.
        take_signals(self._stop)
        await asyncio.sleep(SECOND_LIST_SECONDS)
        clock = asyncio.get_running_loop().time
        collected = clock()
        while True:
            listed = await self._list()
            if clock() >= collected + COLLECT_SECONDS:
                gc.collect()
                collected = clock()
            await asyncio.sleep(self._settings.resync_seconds if listed else RELIST_SECONDS)

    async def _list(self) -> bool:
        try:
            self._choose(await readable(self._api, self._settings.scopes))
            await resync(self._api, self._cache, self._followed, self._changed)
        except ClusterError as error:
            logger.warning("the cluster could not be listed: %s", error)
            self._not_listed = f": {error}"
            return False
        # Whoever still works does not wait for all that have ended.
        for key in sorted(self._changed, key=self._cache.runs.is_settled):
            self._queue.add(key)
        self._changed.clear()
        return True

    def _choose(self, readable: Sequence[str | None]) -> None:
        """Take up what may be read; watches cannot be added later, but a fresh process has them.

        Raises:
            ClusterError: a namespace that is followed may not be read any more. What is known of it
                stands until its watch ends this process, too, or the right is back.
        """
        asked = self._settings.scopes
        if self._watching.is_set():
            for scope in self._followed:
                if scope not in readable:
                    raise ClusterError(f"namespace {scope} may not be read any more")
            for scope in readable:
                if scope not in self._followed:
                    logger.critical("namespace %s may be read again: starting anew", scope)
                    self._failed = True
                    self._stop.set()
            return
        self._followed = tuple(scope for scope in asked if scope in readable)
        self.metrics.denied_namespaces.set(len(asked) - len(self._followed))
        for scope in asked:
            if scope not in self._followed:
                logger.warning("namespace %s may not be read: its runs are left alone", scope)

    def _has_read(self, target: Target, brought: bool) -> None:  # noqa: FBT001 - a callback
        # Where there is no pod nobody was asked: the alert on this is for networks.
        if not brought and target.address is not None:
            self.metrics.scrapes_failed.inc()
        self._queue.add(target.run)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and task.exception() is not None:
            logger.critical("%s ended", task.get_name(), exc_info=task.exception())
            self._failed = True
            self._stop.set()

    def _has_seen(self, key: RunKey, run: Json | None) -> None:
        """Keep what the metrics tell of a run: whoever reads them does not look at every run."""
        if run is None:
            self._told.pop(key, None)
        else:
            self._told[key] = Summary.of(key.namespace, key.name, run.get("status") or {})


def take_signals(stop: asyncio.Event) -> None:
    """Have the usual signals end the process in good order."""
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)


def collect_rarely() -> None:
    """Keep the garbage collector from looking through everything by itself, as good as ever.

    It would every few seconds, and find next to nothing: what is known of a thousand live runs
    holds no cycles. Each time everything waits, for half a second and longer. It is told to once
    an hour.
    """
    young, middle, old = gc.get_threshold()
    gc.set_threshold(young, middle, 100 * old)


def read_what_is_stored() -> None:
    """Let Python read JSON that is nested as deeply as the API server takes it.

    Python's own limit is a thousand: one such run would end each process that lists or watches.
    """
    sys.setrecursionlimit(NESTED_LEVELS)


async def log_in() -> None:
    """Take the pod's service account, or what KUBECONFIG names: asking for either warns in pods."""
    if "KUBERNETES_SERVICE_HOST" in os.environ and "KUBECONFIG" not in os.environ:
        credentials.load_incluster_config()  # type: ignore[no-untyped-call] # it has no annotations
    else:
        await credentials.load_config()  # type: ignore[no-untyped-call] # the same


async def operate(settings: Settings) -> bool:
    """Run one operator until it is told to stop; return whether it ended as it should."""
    stop = asyncio.Event()
    take_signals(stop)
    await log_in()
    async with ApiClient() as client, new_session() as session:
        elector = Elector(
            Api(client),
            LeaseName(settings.lease_namespace, settings.lease_name, identity()),
            Timing(settings.lease_seconds),
            clock=now,
            monotonic=asyncio.get_running_loop().time,
        )
        operator = Operator(
            settings,
            Api(client, elector.held),
            Reader(session, settings.metrics_port),
            stop,
            elector.held,
        )
        async with serving(
            settings.host,
            settings.port,
            metrics=operator.metrics.page,
            alive=operator.alive,
            ready=lambda: operator.ready() if elector.held() else elector.ready(),
        ):
            return await led(elector, operator.run, stop)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the operator; return its exit code."""
    logs.set_up()
    collect_rarely()
    read_what_is_stored()
    # Kopf asks who it is, and in a container nobody may know.
    os.environ.setdefault("LOGNAME", "rlhf-operator")
    settings = Settings.parse(sys.argv[1:] if argv is None else argv)
    runner = asyncio.Runner()
    try:
        ended_well = runner.run(operate(settings))
    except SpecError as error:
        logger.critical("%s", error)
        return 2
    if not ended_well:
        # Something may be left that cannot be cancelled; a fresh process is to start at once.
        logging.shutdown()
        os._exit(1)
    runner.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
