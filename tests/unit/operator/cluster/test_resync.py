"""Lists against what an API server answers."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from aiohttp import web
from kubernetes.aio.client import ApiClient, Configuration

from rlhf_operator.api import RunKey
from rlhf_operator.cluster import Api, Cache, resync
from rlhf_operator.errors import ClusterError

Answer = Callable[[web.Request], Awaitable[web.Response]]


def run(name: str) -> dict[str, Any]:
    return {"metadata": {"namespace": "a", "name": name, "uid": name, "resourceVersion": "5"}}


def listed(items: Any, more: str = "") -> web.Response:
    return web.json_response(
        {"metadata": {"resourceVersion": "7", "continue": more}, "items": items}
    )


def is_whole(request: web.Request) -> bool:
    return "PartialObjectMetadataList" not in request.headers["Accept"]


async def changes(answer: Answer, scopes: tuple[str, ...], times: int) -> list[set[RunKey]]:
    """List so often; return what has been told as changed after each time."""
    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    told: list[set[RunKey]] = []
    try:
        async with ApiClient(Configuration(host=f"http://127.0.0.1:{port}")) as client:
            api, cache = Api(client), Cache()
            for _ in range(times):
                changed: set[RunKey] = set()
                with suppress(ClusterError):
                    await resync(api, cache, scopes, changed)
                told.append(changed)
            return told
    finally:
        await runner.cleanup()


def test_namespace_without_runs_is_listed_again() -> None:
    """An empty list of metadata has null for its items."""

    async def answer(request: web.Request) -> web.Response:
        if request.path.endswith("/namespaces/a/rlhfruns"):
            return listed([run("demo")])
        return listed([] if is_whole(request) else None)

    assert asyncio.run(changes(answer, ("a", "b"), 2)) == [{RunKey("a", "demo")}, set()]


def test_what_a_list_brought_before_it_failed_is_told() -> None:
    """The next list finds it known, so nobody else would say that it is new."""
    pages = 0

    async def answer(request: web.Request) -> web.Response:
        nonlocal pages
        if not request.path.endswith("/rlhfruns"):
            return listed([])
        pages += 1
        if pages == 1:
            return listed([run("first")], more="second page")
        if pages == 2:
            return web.Response(status=400)
        return listed([run("first"), run("second")])

    first, second = asyncio.run(changes(answer, ("a",), 2))
    assert first == {RunKey("a", "first")}
    assert second == {RunKey("a", "second")}
