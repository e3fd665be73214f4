"""Rounds: an attempt waits for its interval, and the run's next one for nothing."""

import asyncio
from collections.abc import Callable, Iterator

from rlhf_operator.api import AttemptKey, RunKey
from rlhf_operator.watchdog import Reader, Readings, Target, Watchdog, new_session
from rlhf_trainer.contract import Phase

KEY = RunKey("a", "demo")
FIRST, SECOND = AttemptKey(1, Phase.PPO, 1), AttemptKey(1, Phase.PPO, 2)

NOBODY = 1
"""A port on which nothing listens: every reading is refused at once."""


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

    async with new_session() as session:
        watchdog = Watchdog(Reader(session, NOBODY), Readings(), targets, on_reading=on_reading)
        task = asyncio.create_task(watchdog.run())
        async with asyncio.timeout(20):
            await second.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    return seen


def test_next_attempt_is_read_at_once_and_nobody_before_the_interval_is_over() -> None:
    # The first one comes back after it was gone: what was known of it then is forgotten.
    assert asyncio.run(_looked_at()) == [FIRST, SECOND, FIRST]
