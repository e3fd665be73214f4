"""Lists against what an API server answers: an empty list of metadata has null for its items."""

import asyncio
from typing import Any

from aiohttp import web
from kubernetes.aio.client import ApiClient, Configuration

from rlhf_operator.api import RunKey
from rlhf_operator.cluster import Api, Cache, resync

RUN = {"metadata": {"namespace": "a", "name": "demo", "uid": "u", "resourceVersion": "5"}}


async def _answer(request: web.Request) -> web.Response:
    is_run = request.path.endswith("/namespaces/a/rlhfruns")
    whole = "PartialObjectMetadataList" not in request.headers["Accept"]
    items: Any = [RUN] if is_run else ([] if whole else None)
    return web.json_response({"metadata": {"resourceVersion": "7"}, "items": items})


async def _listed_twice() -> list[set[RunKey]]:
    app = web.Application()
    app.router.add_get("/{path:.*}", _answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        async with ApiClient(Configuration(host=f"http://127.0.0.1:{port}")) as client:
            api, cache = Api(client), Cache()
            return [await resync(api, cache, ("a", "b")) for _ in range(2)]
    finally:
        await runner.cleanup()


def test_namespace_without_runs_is_listed_again() -> None:
    assert asyncio.run(_listed_twice()) == [{RunKey("a", "demo")}, set()]
