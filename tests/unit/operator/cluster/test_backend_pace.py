"""What a pass sees of the statuses that the other passes are writing."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from rlhf_operator.api import Pool, RLHFRun, RunKey
from rlhf_operator.cluster import Cache, ClusterBackend
from rlhf_operator.cluster.write_pace import BUSY_WRITES, CROWDED_WRITES
from rlhf_operator.decide import Decision, Observed
from rlhf_operator.watchdog import Readings

WRITERS = 10


class SlowServer:
    """Stands for an API server that keeps writes on their way for as long as a test wants."""

    def __init__(self) -> None:
        self.writes = asyncio.Queue[dict[str, Any]]()
        self.answers = asyncio.Event()

    async def replace_status(self, kind: object, manifest: dict[str, Any]) -> dict[str, Any]:
        del kind
        self.writes.put_nowait(manifest)
        await self.answers.wait()
        return manifest


def no_pools() -> Mapping[str, Pool]:
    return {}


def told(run: RLHFRun, name: str) -> dict[str, Any]:
    """Return a run as the API server tells it."""
    raw = run.model_dump(mode="json", by_alias=True, exclude_none=True)
    metadata = {"namespace": "a", "name": name, "uid": name, "generation": 1}
    return raw | {"metadata": metadata | {"resourceVersion": "1"}}


def test_passes_know_how_many_statuses_are_on_their_way(
    build_run: Callable[..., RLHFRun], noon: datetime
) -> None:
    async def watch() -> list[Observed]:
        server: Any = SlowServer()
        cache = Cache()
        backend = ClusterBackend(server, cache, no_pools, Readings(), lambda: noon, image="x")
        keys = [RunKey("a", f"run-{index}") for index in range(WRITERS + 1)]
        for key in keys:
            cache.runs.put(told(build_run(), key.name))
        *writers, watched = keys
        seen = []
        async with asyncio.TaskGroup() as group:
            for writer in writers:
                seen.append(await observed(backend, watched))
                found = await backend.observe(writer)
                assert found is not None
                run, _ = found
                status = run.status.model_copy(update={"observed_generation": 1})
                group.create_task(backend.apply(run, Decision(status)))
                await server.writes.get()
            server.answers.set()
        seen.append(await observed(backend, watched))
        return seen

    seen = asyncio.run(asyncio.wait_for(watch(), 30))
    during, after = seen[:-1], seen[-1]
    assert [one.busy for one in during] == [count >= BUSY_WRITES for count in range(WRITERS)]
    assert [one.crowded for one in during] == [count >= CROWDED_WRITES for count in range(WRITERS)]
    # None is on its way any more, but they all began within this second.
    assert after.busy
    assert not after.crowded


async def observed(backend: ClusterBackend, key: RunKey) -> Observed:
    """Look at a run."""
    found = await backend.observe(key)
    assert found is not None
    return found[1]
