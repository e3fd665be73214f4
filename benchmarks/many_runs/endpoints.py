"""One server that answers /metrics and /history for every pod that KWOK plays.

It listens on all of 127.0.0.0/8, and the address that is asked tells the pod. A trainer begins when
its history is first asked for as a whole, takes a step every few seconds, and measures a KL far
above any limit once POST /breach names its address.
"""

import argparse
import asyncio
import json
import time

from aiohttp import web

from rlhf_trainer.contract import HistoryRecord
from rlhf_trainer.contract.metrics import METRICS

STEP_SECONDS = 5.0
PAGE_RECORDS = 100
HEALTHY_KL, BROKEN_KL = 4.2, 900.0

VALUES = {
    metric.name: 1.5
    for metric in METRICS
    if not metric.labels and metric.name not in ("kl_nats", "certified_step", "heartbeat")
}


class Trainers:
    """What the trainers behind the addresses would have measured by now."""

    def __init__(self) -> None:
        self._began: dict[str, float] = {}
        self._breaks: dict[str, float] = {}
        self.told: dict[str, float] = {}
        """When a breach was first told, by address: Unix time."""
        self.requests = 0

    def page(self, address: str) -> bytes:
        """Return the metrics of one trainer."""
        step = self._step(address)
        values = VALUES | {
            "step": step,
            "kl_nats": self._kl(address, step),
            "certified_step": step,
        }
        lines = [f"rlhf_heartbeat_total {time.time():.0f}.0"]
        for metric in METRICS:
            lines += [f"# HELP {metric.series} {metric.help}", f"# TYPE {metric.series} gauge"]
            if metric.name in values:
                lines.append(f"{metric.series} {values[metric.name]}")
        return ("\n".join(lines) + "\n").encode()

    def history(self, address: str, since: int) -> bytes:
        """Return the records after a step, oldest first."""
        if since < 0:
            self._began[address] = time.time()
            self._breaks.pop(address, None)
        newest = self._step(address)
        steps = range(since + 1, min(newest, since + PAGE_RECORDS) + 1)
        return b"".join(self._record(address, step) for step in steps)

    def break_(self, addresses: list[str]) -> None:
        """Let trainers measure too large a KL from their next step on."""
        for address in addresses:
            self._breaks[address] = self._step(address) + 1

    def _step(self, address: str) -> int:
        began = self._began.get(address)
        return 0 if began is None else int((time.time() - began) / STEP_SECONDS)

    def _kl(self, address: str, step: int) -> float:
        return BROKEN_KL if step >= self._breaks.get(address, float("inf")) else HEALTHY_KL

    def _record(self, address: str, step: int) -> bytes:
        kl_nats = self._kl(address, step)
        if kl_nats == BROKEN_KL:
            self.told.setdefault(address, time.time())
        record = HistoryRecord(
            step=step,
            time=self._began[address] + step * STEP_SECONDS,
            values=VALUES | {"kl_nats": kl_nats, "certified_step": float(step)},
            stage_seconds={"rollout": 4.0, "update": 6.0},
        )
        return record.model_dump_json(by_alias=True).encode() + b"\n"


def application(trainers: Trainers) -> web.Application:
    """Return the server."""

    def asked(request: web.Request) -> str:
        assert request.transport is not None  # noqa: S101 - the connection is there
        trainers.requests += 1
        return str(request.transport.get_extra_info("sockname")[0])

    async def metrics(request: web.Request) -> web.Response:
        return web.Response(body=trainers.page(asked(request)))

    async def history(request: web.Request) -> web.Response:
        since = int(request.query.get("since", "-1"))
        return web.Response(body=trainers.history(asked(request), since))

    async def breach(request: web.Request) -> web.Response:
        trainers.break_(await request.json())
        return web.Response()

    async def told(_: web.Request) -> web.Response:
        return web.Response(text=json.dumps({"told": trainers.told, "requests": trainers.requests}))

    served = web.Application()
    served.router.add_get("/metrics", metrics)
    served.router.add_get("/history", history)
    served.router.add_post("/breach", breach)
    served.router.add_get("/told", told)
    return served


async def serve(port: int) -> None:
    """Serve until killed."""
    runner = web.AppRunner(application(Trainers()), access_log=None)
    await runner.setup()
    # One socket answers at all of 127.0.0.0/8 only where it is bound to every address there is.
    await web.TCPSite(runner, "0.0.0.0", port, backlog=2048).start()  # noqa: S104 - see above
    await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    asyncio.run(serve(parser.parse_args().port))
