"""Rounds: every live attempt is read once per its interval, many at a time, none for long.

One that was read before and has no pod to read any more is a reading that brought nothing: what it
showed last must not stand for good. One that nobody could read yet is only waited for.
"""

import asyncio
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from rlhf_operator.api import AttemptKey, RunKey
from rlhf_operator.watchdog.reader import Reader, Reading
from rlhf_operator.watchdog.readings import Readings

TICK_SECONDS = 0.25
"""How often somebody looks who is due."""

MAXIMUM_AT_ONCE = 64
"""Attempts that are read at the same time."""


@dataclass(frozen=True)
class Target:
    """An attempt that is to be read."""

    run: RunKey
    attempt: AttemptKey
    address: str | None
    """Where it answers; None while no pod of it runs."""
    interval_seconds: float
    known_step: int | None
    """Newest step that the status knows."""

    @property
    def labels(self) -> dict[str, str]:
        """The labels of its `rlhf_run_info`."""
        return {
            "run_name": self.run.name,
            "phase_name": self.attempt.phase.value,
            "iteration_number": str(self.attempt.iteration),
            "attempt_number": str(self.attempt.attempt),
        }


class Watchdog:
    """Reads all targets, each at its own pace, and tells whose reading is new."""

    def __init__(
        self,
        reader: Reader,
        readings: Readings,
        targets: Callable[[Callable[[RunKey, AttemptKey], bool]], Iterable[Target]],
        *,
        on_reading: Callable[[Target, bool], None],
    ) -> None:
        self._reader, self._readings, self._targets = reader, readings, targets
        self._on_reading = on_reading
        self._due: dict[tuple[RunKey, AttemptKey], float] = {}
        self._busy: set[tuple[RunKey, AttemptKey]] = set()
        self._gate = asyncio.Semaphore(MAXIMUM_AT_ONCE)

    async def run(self) -> None:
        """Read until cancelled."""
        async with asyncio.TaskGroup() as group:
            while True:
                for target in self._whose_turn():
                    self._busy.add((target.run, target.attempt))
                    group.create_task(self._look(target))
                await asyncio.sleep(TICK_SECONDS)

    def _whose_turn(self) -> list[Target]:
        now = asyncio.get_running_loop().time()
        live = set()

        def is_due(run: RunKey, attempt: AttemptKey) -> bool:
            place = (run, attempt)
            live.add(place)
            return place not in self._busy and now >= self._due.get(place, now)

        found = [target for target in self._targets(is_due) if self._is_to_be_read(target)]
        self._due = {place: due for place, due in self._due.items() if place in live}
        return found

    def _is_to_be_read(self, target: Target) -> bool:
        has_pod = target.address is not None
        return has_pod or self._readings.knows(target.run, target.attempt)

    async def _look(self, target: Target) -> None:
        place = (target.run, target.attempt)
        began = asyncio.get_running_loop().time()
        try:
            reading = await self._read(target)
            now = asyncio.get_running_loop().time()
            self._readings.take(target.run, target.attempt, reading, now)
            self._on_reading(target, reading is not None)
        finally:
            share = 1.0 if place in self._due else _share(target.run)
            self._due[place] = began + share * target.interval_seconds
            self._busy.discard(place)

    async def _read(self, target: Target) -> Reading | None:
        if target.address is None:
            return None
        async with self._gate:
            since = self._readings.since(target.run, target.attempt, target.known_step)
            return await self._reader.read(target.address, since, target.labels)


def _share(run: RunKey) -> float:
    """Return which part of an interval lies between a run's first two readings: 0 to 1.

    Runs that began together are not to be read, and written about, together for ever.
    """
    return zlib.crc32("/".join(run).encode()) / 2**32
