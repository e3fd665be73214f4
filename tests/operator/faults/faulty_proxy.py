"""A proxy before the API server that loses, refuses and cuts off what it is told to."""

import asyncio
import json
import ssl
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import numpy as np
from aiohttp import web

REASONS = {403: "Forbidden", 409: "Conflict", 429: "TooManyRequests", 500: "InternalError"}

PASSING = (429, 500)
"""Answers to reads and writes that may differ the next time; writes may conflict besides."""


class FaultyProxy:
    """Serves on a port of its own, in a thread; its attributes are the switches."""

    def __init__(self, server: str, authority: Path, rng: np.random.Generator) -> None:
        self._server = server
        self._tls = ssl.create_default_context(cafile=str(authority))
        self.rng = rng
        """Chooses which requests fail, and how."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._session: aiohttp.ClientSession | None = None
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._watches: set[asyncio.Event] = set()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self.failing = 0.0
        """Share of requests that fail, half of the writes among them after they were carried out.
        The lease's are spared."""
        self.forbidding = False
        """Whether reads are refused, as if a right had been taken away. The lease's are spared."""
        self.refusing = False
        """Whether every connection is cut off."""
        self.injected: Counter[str] = Counter()
        self.relisted = 0
        """How often a watch was told that its history is gone."""
        self.port = 0

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Serve from now on."""
        self._thread.start()
        assert self._ready.wait(10)

    def stop(self) -> None:
        """End, with every connection."""
        self._soon(self._stop.set)
        self._thread.join(20)

    def drop_watches(self) -> None:
        """Cut off every watch."""
        self._soon(self._drop)

    def _soon(self, call: Callable[[], object]) -> None:
        assert self._loop is not None
        self._loop.call_soon_threadsafe(call)

    def _drop(self) -> None:
        for one in self._watches:
            one.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        application = web.Application(client_max_size=1 << 24)
        application.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self.port)
        await site.start()
        self.port = runner.addresses[0][1]
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5)
        async with aiohttp.ClientSession(timeout=timeout) as self._session:
            self._ready.set()
            await self._stop.wait()
            self._drop()
            await runner.cleanup()
        # TLS connections close a moment after their session.
        await asyncio.sleep(0.3)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if self.refusing:
            return self._cut_off(request)
        code = self._fault(request)
        if code and (request.method == "GET" or self.rng.random() < 0.5):
            self.injected[f"{code} instead of an answer"] += 1
            return _status(code)
        try:
            async with self._forwarded(request) as response:
                if request.query.get("watch"):
                    return await self._stream(request, response)
                body = await response.read()
        except aiohttp.ClientError:
            return self._cut_off(request)
        if code:
            self.injected[f"{code} after it was done"] += 1
            return _status(code)
        return web.Response(status=response.status, body=body, content_type=response.content_type)

    def _fault(self, request: web.Request) -> int:
        reads = request.method == "GET"
        if "/leases" in request.path:
            return 0
        if self.forbidding and reads:
            return 403
        if request.query.get("watch") or self.rng.random() >= self.failing:
            return 0
        return int(self.rng.choice(PASSING if reads else (409, *PASSING)))

    @asynccontextmanager
    async def _forwarded(self, request: web.Request) -> AsyncIterator[aiohttp.ClientResponse]:
        kept = ("Authorization", "Accept", "Content-Type")
        headers = {name: request.headers[name] for name in kept if name in request.headers}
        assert self._session is not None
        async with self._session.request(
            request.method,
            self._server + request.path_qs,
            data=await request.read() or None,
            headers=headers,
            ssl=self._tls,
        ) as response:
            yield response

    async def _stream(
        self, request: web.Request, response: aiohttp.ClientResponse
    ) -> web.StreamResponse:
        answer = web.StreamResponse(status=response.status)
        answer.content_type = response.content_type
        await answer.prepare(request)
        dropped = asyncio.Event()
        self._watches.add(dropped)
        copying = asyncio.create_task(self._copy(response, answer))
        dropping = asyncio.create_task(dropped.wait())
        try:
            await asyncio.wait({copying, dropping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._watches.discard(dropped)
            copying.cancel()
            dropping.cancel()
            await asyncio.gather(copying, dropping, return_exceptions=True)
            if request.transport is not None:
                request.transport.abort()
        return answer

    async def _copy(self, source: aiohttp.ClientResponse, to: web.StreamResponse) -> None:
        while chunk := await source.content.readany():
            self.relisted += chunk.count(b'"code":410')
            await to.write(chunk)

    def _cut_off(self, request: web.Request) -> web.Response:
        self.injected["connection cut off"] += 1
        if request.transport is not None:
            request.transport.abort()
        return web.Response()


def _status(code: int) -> web.Response:
    body = {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": REASONS[code],
        "message": "injected by the test",
    }
    headers = {"Retry-After": "1"} if code == 429 else {}
    return web.Response(
        status=code, text=json.dumps(body), content_type="application/json", headers=headers
    )
