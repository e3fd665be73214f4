"""The operator's own endpoint: /metrics, and probes that mean something.

Alive is who works through its queue; ready is who knows the cluster and follows it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

Check = Callable[[], str]
"""Returns what is wrong, or nothing."""


@asynccontextmanager
async def serving(
    host: str, port: int, *, metrics: Callable[[], bytes], alive: Check, ready: Check
) -> AsyncIterator[None]:
    """Serve while the context lasts."""

    async def page(_: web.Request) -> web.Response:
        # Thousands of runs make a page that takes a while: nothing else waits for it.
        body = await asyncio.to_thread(metrics)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    application = web.Application()
    application.router.add_get("/metrics", page)
    application.router.add_get("/healthz", _probe(alive))
    application.router.add_get("/readyz", _probe(ready))
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield
    finally:
        await runner.cleanup()


def _probe(check: Check) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        wrong = check()
        return web.Response(status=503 if wrong else 200, text=f"{wrong or 'ok'}\n")

    return answer
