"""Which run is looked at next: a queue of keys, with one pass in flight per run.

A key that is added while its pass is in flight gets another one afterwards. A pass that fails is
tried again after a pause that doubles; one that succeeds says when it wants to be woken.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime

from rlhf_operator.api import RunKey
from rlhf_operator.errors import ClusterError

logger = logging.getLogger(__name__)

Pass = Callable[[RunKey], Awaitable[datetime | None]]
"""Looks at one run, and says when it is to be looked at again even if nothing happens."""

FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS = 0.2, 30.0
"""Pause after a pass that failed: short, since most are conflicts; capped at half a minute."""

LONGEST_SLEEP_SECONDS = 3600.0
"""Clocks may be set: nobody sleeps longer than this on their word."""


class WorkQueue:
    """Keys that are due, in the order in which they became so."""

    def __init__(self, look: Pass, clock: Callable[[], datetime]) -> None:
        self._look, self._clock = look, clock
        self._ready: asyncio.Queue[RunKey] = asyncio.Queue()
        self._queued: set[RunKey] = set()
        self._in_flight: set[RunKey] = set()
        self._again: set[RunKey] = set()
        self._failures: dict[RunKey, int] = {}
        self._timers: dict[RunKey, asyncio.TimerHandle] = {}

    def __len__(self) -> int:
        """Return how many keys wait for a worker."""
        return len(self._queued)

    def add(self, key: RunKey) -> None:
        """Have a run looked at, soon and once."""
        if key in self._in_flight:
            self._again.add(key)
        elif key not in self._queued:
            self._queued.add(key)
            self._ready.put_nowait(key)

    async def run(self, workers: int) -> None:
        """Work until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for index in range(workers):
                    group.create_task(self._work(), name=f"worker-{index}")
        finally:
            for timer in self._timers.values():
                timer.cancel()

    async def _work(self) -> None:
        while True:
            key = await self._ready.get()
            self._queued.discard(key)
            self._in_flight.add(key)
            self._cancel(key)
            try:
                self._wake(key, await self._try(key))
            finally:
                self._in_flight.discard(key)
            if key in self._again:
                self._again.discard(key)
                self.add(key)
            # Most passes wait for nothing: thousands of them must not keep all else from its turn.
            await asyncio.sleep(0)

    async def _try(self, key: RunKey) -> float | None:
        """Look at a run; return after how many seconds it wants to be looked at again."""
        try:
            wake_at = await self._look(key)
        except ClusterError as error:
            return self._failed(key, error)
        except Exception:
            # A bug met by one run must not stop the others.
            logger.exception("pass failed", extra={"run": key.name, "run_namespace": key.namespace})
            return self._failed(key, None)
        self._failures.pop(key, None)
        if wake_at is None:
            return None
        return max((wake_at - self._clock()).total_seconds(), 0.0)

    def _failed(self, key: RunKey, error: ClusterError | None) -> float:
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        pause = min(FIRST_RETRY_SECONDS * 2.0 ** min(failures, 20), LONGEST_RETRY_SECONDS)
        if error is not None:
            logger.warning(
                "pass failed, trying again in %.1f s: %s",
                pause,
                error,
                extra={"run": key.name, "run_namespace": key.namespace},
            )
        return pause

    def _wake(self, key: RunKey, seconds: float | None) -> None:
        if seconds is None:
            return
        loop = asyncio.get_running_loop()
        delay = min(seconds, LONGEST_SLEEP_SECONDS)
        self._timers[key] = loop.call_later(delay, self._due, key)

    def _due(self, key: RunKey) -> None:
        self._timers.pop(key, None)
        self.add(key)

    def _cancel(self, key: RunKey) -> None:
        with suppress(KeyError):
            self._timers.pop(key).cancel()
