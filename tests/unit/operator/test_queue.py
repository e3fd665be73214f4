"""The queue: one pass in flight per run, none lost, failures tried again."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest

from rlhf_operator import queue as queues
from rlhf_operator.api import RunKey
from rlhf_operator.errors import ClusterError
from rlhf_operator.queue import WorkQueue

A, B = RunKey("n", "a"), RunKey("n", "b")

Look = Callable[[RunKey], Awaitable[datetime | None]]


def now() -> datetime:
    return datetime.now(UTC)  # noqa: TID251 - the queue's clock


def drive(look: Look, script: Callable[[WorkQueue], Awaitable[None]], workers: int = 4) -> None:
    async def main() -> None:
        queue = WorkQueue(look, now)
        task = asyncio.create_task(queue.run(workers))
        try:
            async with asyncio.timeout(5):
                await script(queue)
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    asyncio.run(main())


def test_key_added_in_flight_gets_one_more_pass_afterwards() -> None:
    flying: Counter[RunKey] = Counter()
    passes: Counter[RunKey] = Counter()
    go = asyncio.Event()
    done = asyncio.Event()

    async def look(key: RunKey) -> None:
        flying[key] += 1
        assert flying[key] == 1
        passes[key] += 1
        await go.wait()
        flying[key] -= 1
        if passes == {A: 2, B: 1}:
            done.set()

    async def script(queue: WorkQueue) -> None:
        queue.add(A)
        queue.add(B)
        while sum(flying.values()) < 2:  # noqa: ASYNC110 - the subject runs beside us
            await asyncio.sleep(0)
        for _ in range(5):
            queue.add(A)
        assert len(queue) == 0
        go.set()
        await done.wait()

    drive(look, script)


def test_key_added_twice_before_its_pass_gets_one() -> None:
    passes: Counter[RunKey] = Counter()
    done = asyncio.Event()

    async def look(key: RunKey) -> None:
        passes[key] += 1
        if key == B:
            done.set()

    async def script(queue: WorkQueue) -> None:
        for key in (A, A, A, B):
            queue.add(key)
        assert len(queue) == 2
        await done.wait()

    drive(look, script, workers=1)
    assert passes == {A: 1, B: 1}


def test_pass_is_woken_when_it_asked_to_be() -> None:
    passes = 0
    done = asyncio.Event()

    async def look(_: RunKey) -> datetime | None:
        nonlocal passes
        passes += 1
        if passes == 3:
            done.set()
            return None
        return now() + timedelta(milliseconds=20)

    async def script(queue: WorkQueue) -> None:
        queue.add(A)
        await done.wait()

    drive(look, script)


@pytest.mark.parametrize("error", [ClusterError("409"), ZeroDivisionError("a bug")], ids=repr)
def test_pass_that_fails_is_tried_again_and_others_go_on(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queues, "FIRST_RETRY_SECONDS", 0.01)
    tries: Counter[RunKey] = Counter()
    done = asyncio.Event()

    async def look(key: RunKey) -> None:
        tries[key] += 1
        if key == A and tries[A] < 4:
            raise error
        if tries[A] == 4 and tries[B]:
            done.set()

    async def script(queue: WorkQueue) -> None:
        queue.add(A)
        queue.add(B)
        await done.wait()

    drive(look, script)


def test_passes_that_wait_for_nothing_let_others_have_their_turn() -> None:
    passes = 0

    async def look(_: RunKey) -> None:
        nonlocal passes
        passes += 1

    async def script(queue: WorkQueue) -> None:
        for index in range(1000):
            queue.add(RunKey("n", str(index)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert 0 < passes < 1000
        while passes < 1000:  # noqa: ASYNC110 - the subject runs beside us
            await asyncio.sleep(0)

    drive(look, script)
