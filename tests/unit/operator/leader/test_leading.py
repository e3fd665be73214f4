"""Work that is done for as long as one leads."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from rlhf_operator.leader import led

SOON_SECONDS = 0.05
"""By then whoever does not wait for the lead has begun to work."""


class Claim:
    """Stands for an elector: it leads from the start or never, and loses the lead when told."""

    def __init__(self, *, leads: bool = True) -> None:
        self.lost = asyncio.Event()
        self.released = False
        self._leads = leads

    async def acquire(self) -> None:
        if not self._leads:
            await asyncio.Event().wait()

    async def keep(self) -> str:
        await self.lost.wait()
        return "somebody else holds it"

    async def release(self) -> None:
        self.released = True


Play = Callable[[Claim, asyncio.Event], Awaitable[bool]]


def lead(play: Play, *, leads: bool = True, stopped: bool = False) -> tuple[bool, bool]:
    """Return whether it ended as it should, and whether the lead was given back."""

    async def run() -> tuple[bool, bool]:
        claim, stop = Claim(leads=leads), asyncio.Event()
        if stopped and leads:
            stop.set()
        elif stopped:
            asyncio.get_running_loop().call_later(SOON_SECONDS, stop.set)
        elector: Any = claim
        ended_well = await asyncio.wait_for(led(elector, lambda: play(claim, stop), stop), 30)
        return ended_well, claim.released

    return asyncio.run(run())


async def never(_: Claim, __: asyncio.Event) -> bool:
    pytest.fail("it does not lead")


async def until_stopped(_: Claim, stop: asyncio.Event) -> bool:
    asyncio.get_running_loop().call_soon(stop.set)
    await stop.wait()
    return True


async def until_lost(claim: Claim, stop: asyncio.Event) -> bool:
    claim.lost.set()
    await stop.wait()
    return True


async def fails(_: Claim, __: asyncio.Event) -> bool:
    return False


def test_work_that_is_told_to_stop_ends_well_and_gives_the_lead_back() -> None:
    assert lead(until_stopped) == (True, True)


def test_work_ends_with_the_lead_and_the_process_is_to_end() -> None:
    assert lead(until_lost) == (False, True)


def test_work_that_fails_is_said() -> None:
    assert lead(fails) == (False, True)


def test_work_that_breaks_gives_the_lead_back() -> None:
    claims = []

    async def breaks(claim: Claim, _: asyncio.Event) -> bool:
        claims.append(claim)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        lead(breaks)
    assert claims[0].released


@pytest.mark.parametrize("leads", [False, True], ids=["waits", "leads"])
def test_stop_before_the_work_begins_nothing(*, leads: bool) -> None:
    assert lead(never, leads=leads, stopped=True) == (True, True)
