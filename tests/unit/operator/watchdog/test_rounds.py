"""Rounds: an attempt waits for its interval, and the run's next one for nothing."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

from rlhf_operator.api import AttemptKey, RunKey
from rlhf_operator.watchdog import Reader, Readings, Target, Watchdog, new_session, rounds
from rlhf_operator.watchdog.reader import Reading
from rlhf_trainer.contract import Phase

Targets = Callable[[Callable[[RunKey, AttemptKey], bool]], Iterator[Target]]
OnReading = Callable[[Target, bool], None]

KEY = RunKey("a", "demo")
FIRST, SECOND = AttemptKey(1, Phase.PPO, 1), AttemptKey(1, Phase.PPO, 2)

NOBODY = 1
"""A port on which nothing listens: every reading is refused at once."""


@asynccontextmanager
async def _reading(
    targets: Targets, on_reading: OnReading, readings: Readings | None = None
) -> AsyncIterator[None]:
    """Let a watchdog go its rounds."""
    async with new_session() as session:
        reader, known = Reader(session, NOBODY), readings or Readings()
        watchdog = Watchdog(reader, known, targets, on_reading=on_reading)
        task = asyncio.create_task(watchdog.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _looked_at() -> list[AttemptKey]:
    live, seen = [FIRST], []
    second = asyncio.Event()

    def targets(is_due: Callable[[RunKey, AttemptKey], bool]) -> Iterator[Target]:
        for attempt in live:
            if is_due(KEY, attempt):
                yield Target(KEY, attempt, "127.0.0.1", 3600.0, None)

    def on_reading(target: Target, brought: bool) -> None:  # noqa: FBT001 - a callback
        assert not brought
        seen.append(target.attempt)
        live[:] = [SECOND] if len(seen) == 1 else [FIRST, SECOND]
        if len(seen) == 3:
            second.set()

    async with _reading(targets, on_reading), asyncio.timeout(20):
        await second.wait()
    return seen


def test_next_attempt_is_read_at_once_and_nobody_before_the_interval_is_over() -> None:
    # The first one comes back after it was gone: what was known of it then is forgotten.
    assert asyncio.run(_looked_at()) == [FIRST, SECOND, FIRST]


def test_second_readings_of_runs_that_began_together_are_spread_over_the_interval() -> None:
    names = [f"run-{index}" for index in range(20_000)]
    soon = next(name for name in names if rounds._share(RunKey("a", name)) < 0.0005)
    late = next(name for name in names if rounds._share(RunKey("a", name)) > 0.5)
    seen: list[str] = []

    async def read() -> None:
        enough = asyncio.Event()

        def targets(is_due: Callable[[RunKey, AttemptKey], bool]) -> Iterator[Target]:
            for name in (soon, late):
                if is_due(RunKey("a", name), FIRST):
                    yield Target(RunKey("a", name), FIRST, "127.0.0.1", 600.0, None)

        def on_reading(target: Target, _: bool) -> None:  # noqa: FBT001 - a callback
            seen.append(target.run.name)
            if len(seen) == 3:
                enough.set()

        async with _reading(targets, on_reading), asyncio.timeout(20):
            await enough.wait()
            # From then on it waits for the whole interval.
            await asyncio.sleep(3 * rounds.TICK_SECONDS)

    asyncio.run(read())
    assert sorted(seen) == sorted([soon, soon, late])


async def _seen_without_a_pod(readings: Readings) -> list[AttemptKey]:
    """Return which of two attempts without a pod bring a reading, within some ticks."""
    seen: list[AttemptKey] = []

    def targets(is_due: Callable[[RunKey, AttemptKey], bool]) -> Iterator[Target]:
        for name, attempt in (("demo", FIRST), ("other", SECOND)):
            if is_due(RunKey("a", name), attempt):
                yield Target(RunKey("a", name), attempt, None, 3600.0, None)

    def on_reading(target: Target, brought: bool) -> None:  # noqa: FBT001 - a callback
        assert not brought
        seen.append(target.attempt)

    async with _reading(targets, on_reading, readings):
        await asyncio.sleep(3 * rounds.TICK_SECONDS)
    return seen


def test_attempt_whose_pod_has_gone_shows_no_heartbeat_any_more() -> None:
    readings = Readings()
    readings.take(KEY, FIRST, Reading(7, ()), 1.0)
    assert asyncio.run(_seen_without_a_pod(readings)) == [FIRST]
    assert readings.progress(KEY, FIRST, None).heartbeat is None


def test_attempt_that_has_no_pod_yet_is_waited_for() -> None:
    readings = Readings()
    assert asyncio.run(_seen_without_a_pod(readings)) == []
    assert readings.progress(KEY, FIRST, None).metrics_available is None


def test_shares_cover_the_interval() -> None:
    fifths = Counter(int(5 * rounds._share(RunKey("team", f"run-{index}"))) for index in range(500))
    assert set(fifths) == set(range(5))
    assert min(fifths.values()) > 50
