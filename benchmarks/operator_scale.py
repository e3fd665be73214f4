"""How the operator bears many runs, on the real API server with pods that KWOK plays.

It starts a control plane of its own with the training operator, the operator as its process, and
one server behind the pods' addresses; leaves finished runs; takes the live ones up in steps; reads
the API server's audit log, the operator's metrics and /proc. `--help` lists what can be changed.
"""

import argparse
import asyncio
import json
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

import many_runs.plant
from many_runs.load import (
    PODS,
    RUNS,
    SHORT,
    Client,
    Json,
    apply,
    connected,
    end_pods,
    json_bytes,
    leave,
    left_by,
    until,
)
from many_runs.plant import Plant
from many_runs.report import ARRIVING, STEADY, Report, Window, result
from many_runs.seeding import copy_run
from many_runs.timing import Spread, Story
from recording import load, record
from rlhf_trainer.contract import Outcome, Phase, Result

TEMPLATE = "seedling"
"""The run that really ends; the other finished ones are made in its likeness."""

SCRAPE_SECONDS = 15.0

STOP_SECONDS = 75.0
"""A step and a reading until a breach is seen, two readings for the trainer, and some more."""

AFTER_BURST_SECONDS = 150.0
"""What a burst has held up is written by then, as far as anybody waits for it."""

SETTLING_SECONDS = 10.0

BURST = 40
"""Runs that both settings of the training operator are given at once."""


@dataclass(frozen=True)
class Plan:
    """What is measured."""

    live: tuple[int, ...]
    finished: int
    whole: int
    window_seconds: float
    settle_seconds: float
    rate: float
    breaches: int
    training_operator: bool
    part: str
    """Name of a part, where there is no time for all at once; else empty."""


def message() -> str:
    """Return a termination message as a trainer leaves it."""
    names = ("klNats", "rewardScore", "entropyNatsPerToken", "responseLengthTokens", "winRate")
    found = Result(
        phase=Phase.PPO,
        outcome=Outcome.COMPLETED,
        message="every update is done",
        step=100,
        checkpoint_step=100,
        certified_step=100,
        model_path="iteration-1/ppo/attempt-1/model",
        metrics=dict.fromkeys(names, 0.5),
        duration_seconds=3600.0,
    )
    return json.dumps(json.loads(found.to_json()))


async def ppo_pods(client: Client) -> list[Json]:
    """Return the pods of runs that are in PPO and run."""
    pods = await client.list(PODS, "rlhf.dev/phase%3Dppo")
    return [
        pod
        for pod in pods
        if pod.get("status", {}).get("phase") == "Running"
        and "deletionTimestamp" not in pod["metadata"]
        and "kwok.rlhf.dev/end-after" not in (pod["metadata"].get("annotations") or {})
    ]


async def served(client: Client, name: str) -> bool:
    """Return whether the API server's cache holds a run: lists fail for as long as it is behind."""
    try:
        await client.send("GET", f"{RUNS}/{name}?resourceVersion=0")
    except RuntimeError:
        return False
    return True


async def finish_template(client: Client) -> None:
    """Let one run go through all phases."""
    await apply(client, [TEMPLATE], {})

    async def in_ppo() -> bool:
        return bool(await ppo_pods(client))

    await until(in_ppo, "PPO of the template", seconds=120)
    await asyncio.sleep(SCRAPE_SECONDS + 5)
    await end_pods(client, [f"{TEMPLATE}-i1-ppo-a1-master-0"], message())

    async def over() -> bool:
        run = await client.send("GET", f"{RUNS}/{TEMPLATE}")
        return "outcome" in run.get("status", {})

    await until(over, "the end of the template", seconds=120)
    await asyncio.sleep(3)


class Measurement:
    """One measurement from start to end."""

    def __init__(self, plant: Plant, plan: Plan) -> None:
        self._plant, self._plan = plant, plan
        self._fresh = 0
        self.report = Report()

    async def run(self) -> None:
        """Measure everything that is planned."""
        plant, plan = self._plant, self._plan
        self.report.empty_kopf = plant.empty_kopf()
        plant.say(f"empty Kopf operator: {self.report.empty_kopf}")
        await self._start("no run", 0)
        async with connected(plant.cluster) as client:
            if plan.training_operator:
                await self._training_operator(client)
            if plan.finished:
                await self._finished(client)
            for count in plan.live:
                await self._step(client, count)
            if plan.live:
                await self._restart(client)

    async def _finished(self, client: Client) -> None:
        """Leave finished runs, and see what the operator makes of them when it starts."""
        plant, plan = self._plant, self._plan
        await finish_template(client)
        like = await left_by(client, TEMPLATE)
        kinds = (("run", like.run), ("job", like.job), ("pod", like.pod))
        self.report.sizes = {kind: json_bytes(obj) for kind, obj in kinds}
        plant.say(f"one run went through all phases; bytes of it: {self.report.sizes}")
        plant.operator.stop()
        if plan.whole:
            names = [f"whole-{index}" for index in range(plan.whole)]
            await leave(client, like, names)
            await self._start(f"{plan.whole} finished runs, their last jobs and pods", plan.whole)
            plant.operator.stop()
        began = time.monotonic()
        names = [f"done-{index}" for index in range(plan.finished - plan.whole)]
        copy_run(plant.cluster, TEMPLATE, names)
        await until(
            lambda: served(client, names[-1]),
            "the API server to know them",
            seconds=180,
            every_seconds=2,
        )
        plant.say(f"{len(names)} finished runs left in {time.monotonic() - began:.0f} s")
        await self._start(f"{plan.finished} finished runs", plan.finished)

    async def _start(self, what: str, finished: int, others: int = 0) -> None:
        """Start the operator with what there is."""
        meter = self._plant.meter()
        start = await asyncio.to_thread(self._plant.start_operator, finished + others)
        used = meter.read()
        # The second list comes after the watches have begun; then memory has settled.
        await asyncio.sleep(SETTLING_SECONDS)
        start = replace(start, memory=self._plant.operator_memory())
        self.report.starts.append((what, finished, start))
        self._plant.say(f"start with {what}: {start}, CPU {used}")

    async def _training_operator(self, client: Client) -> None:
        """Give both settings of the training operator the same burst of runs."""
        plant = self._plant
        for slow in (True, False):
            await asyncio.to_thread(plant.set_training_operator, slow=slow)
            mark = plant.cluster.audit.mark()
            names = [f"{'slow' if slow else 'fast'}-{index}" for index in range(BURST)]
            await apply(client, names, SHORT)
            await self._until_in_ppo(client, len(names))
            story = Story(plant.cluster.audit.since(mark), plant.operator.user)
            spreads = Spread.of(story.apply_to_job()), Spread.of(story.job_to_pod())
            setting = "20, 30, 1" if slow else "500, 1000, 4"
            self.report.training_operator[setting] = spreads
            plant.say(f"training operator with {setting}: job -> pod {spreads[1]}")
            await self._remove(client, names)

    async def _remove(self, client: Client, names: Sequence[str]) -> None:
        for name in names:
            await client.send("DELETE", f"{RUNS}/{name}")

        async def gone() -> bool:
            return not await ppo_pods(client)

        await until(gone, "runs to be gone", seconds=120)

    async def _step(self, client: Client, count: int) -> None:
        """Take the live runs up to a number, then watch a while of steady work."""
        have = len(await ppo_pods(client))
        names = [f"live-{count}-{index}" for index in range(count - have)]

        async def burst() -> dict[str, float]:
            await apply(client, names, SHORT)
            await self._until_in_ppo(client, count)
            return {}

        await self._watch(f"{len(names)} {ARRIVING}", count, burst)
        last = count == max(self._plan.live)
        await asyncio.sleep(self._plan.settle_seconds if last else SCRAPE_SECONDS)
        seconds = self._plan.window_seconds * (1.0 if last else 0.5)
        await self._watch(STEADY, count, lambda: self._steady(client, seconds))
        if last and self._plan.breaches:
            what = f"{self._plan.breaches} break the limit at once"
            await self._watch(
                what, count, lambda: self._steady(client, STOP_SECONDS, breaking=True)
            )

    async def _watch(
        self, what: str, live: int, work: Callable[[], Awaitable[dict[str, float]]]
    ) -> None:
        """Take down what happens during some work; it returns when breaches were served."""
        plant = self._plant
        mark, meter, began = plant.cluster.audit.mark(), plant.meter(), time.monotonic()
        counters, requests = plant.counters(), plant.endpoints.requests()
        told = await work()
        seconds, cpu, memory = time.monotonic() - began, meter.read(), plant.operator_memory()
        counted, scraped = plant.counters(), plant.endpoints.requests()
        story = Story(plant.cluster.audit.since(mark), plant.operator.user)
        window = Window.of(what, live, seconds, story, told, SCRAPE_SECONDS)
        window.cpu, window.memory = cpu, memory
        window.scrapes = scraped - requests
        window.take_passes(counters, counted)
        self.report.windows.append(window)
        plant.say(f"{window.title}: {window}")

    async def _steady(
        self, client: Client, seconds: float, *, breaking: bool = False
    ) -> dict[str, float]:
        """Apply some runs and end as many; return when each trainer told that it broke the limit.

        breaking: let some break it first, all at once.
        """
        pods = await ppo_pods(client)
        broken = pods[: self._plan.breaches if breaking else 0]
        ending = iter(pods[len(broken) :])
        if broken:
            self._plant.endpoints.break_([pod["status"]["podIP"] for pod in broken])
        began, count = time.monotonic(), 0
        while time.monotonic() < began + seconds:
            self._fresh += 1
            await apply(client, [f"fresh-{self._fresh}"], {})
            if (pod := next(ending, None)) is not None:
                await end_pods(client, [pod["metadata"]["name"]], message())
            count += 1
            await asyncio.sleep(max(0.0, began + count / self._plan.rate - time.monotonic()))
        times = self._plant.endpoints.told()
        runs = {pod["status"]["podIP"]: pod["metadata"]["labels"]["rlhf.dev/run"] for pod in broken}
        return {runs[address]: when for address, when in times.items() if address in runs}

    async def _restart(self, client: Client) -> None:
        """Start the operator anew beside everything that is there."""
        live = len(await ppo_pods(client))
        self._plant.operator.stop()
        runs = len(await client.list(RUNS))
        await self._start(f"{runs} runs, {live} of them in PPO", 0, runs)

    async def _until_in_ppo(self, client: Client, count: int) -> None:
        async def reached() -> bool:
            try:
                return len(await ppo_pods(client)) >= count
            except RuntimeError:
                # In the midst of a burst the API server may not answer in time.
                return False

        await until(reached, f"{count} runs in PPO", seconds=600, every_seconds=2)


def parse(argv: Sequence[str] | None) -> Plan:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--live", type=int, nargs="*", default=[100, 300, 1000])
    parser.add_argument("--finished", type=int, default=10_000)
    parser.add_argument("--whole", type=int, default=300, help="finished runs with job and pod")
    parser.add_argument("--window", type=float, default=300.0, help="seconds of steady work")
    parser.add_argument(
        "--settle",
        type=float,
        default=AFTER_BURST_SECONDS,
        help="seconds from the last burst to the steady work",
    )
    parser.add_argument("--rate", type=float, default=0.4, help="runs per second in that time")
    parser.add_argument(
        "--breaches", type=int, default=30, help="runs that break the limit, at most live ones"
    )
    parser.add_argument(
        "--no-training-operator", action="store_true", help="leave its settings out"
    )
    parser.add_argument("--part", default="", help="name under which a part of it is left")
    read = parser.parse_args(argv)
    return Plan(
        live=tuple(read.live),
        finished=read.finished,
        whole=min(read.whole, read.finished),
        window_seconds=read.window,
        settle_seconds=read.settle,
        rate=read.rate,
        breaches=read.breaches,
        training_operator=not read.no_training_operator,
        part=read.part,
    )


def measure(plan: Plan) -> Report:
    """Start everything, measure, end everything."""
    with many_runs.plant.plant(live=max(plan.live, default=0)) as plant:
        measurement = Measurement(plant, plan)
        asyncio.run(measurement.run())
        return measurement.report


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and leave the result."""
    plan, before = parse(argv), load()
    # Whoever is told to end ends what it has started first.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    report = measure(plan)
    command = " ".join(["python benchmarks/operator_scale.py", *(argv or sys.argv[1:])])
    print(f"written: {record(result(report, before, command, plan.part))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
