"""Work that is done by whoever leads, and by nobody else."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from rlhf_operator.leader.elector import Elector

logger = logging.getLogger(__name__)


async def led(elector: Elector, work: Callable[[], Awaitable[bool]], stop: asyncio.Event) -> bool:
    """Wait for the lead and do the work until `stop`; return whether it ended as it should.

    `work` tells whether it ended as it should. It ends once `stop` is set, which the loss of the
    lead does, too: the process is then to end, and a fresh one to wait for the lead.
    """
    await _first(elector.acquire(), stop)
    keeping = asyncio.create_task(elector.keep(), name="lease")
    keeping.add_done_callback(lambda _: stop.set())
    try:
        ended_well = stop.is_set() or await work()
        if keeping.done():
            logger.critical("not leading any more: %s", keeping.result())
        return ended_well and not keeping.done()
    finally:
        keeping.cancel()
        # A renewal on its way would be in the way of the release.
        await asyncio.gather(keeping, return_exceptions=True)
        await elector.release()


async def _first(waits: Awaitable[None], stop: asyncio.Event) -> None:
    """Return once either has come."""
    tasks = [asyncio.ensure_future(waits), asyncio.create_task(stop.wait())]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    for task in done:
        task.result()
