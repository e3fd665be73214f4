"""The reader against servers that hang, redirect, flood, lie, or talk nonsense."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from rlhf_operator.api import AttemptKey, RunKey
from rlhf_operator.watchdog import Reader, Target, fetching, new_session
from rlhf_operator.watchdog import reader as module
from rlhf_operator.watchdog.fetching import MAXIMUM_BYTES
from rlhf_operator.watchdog.parsing import MAXIMUM_RECORDS, MAXIMUM_VALUES, parse_metrics
from rlhf_operator.watchdog.reader import Reading, shown_metrics
from rlhf_trainer.contract import HistoryRecord, Phase
from rlhf_trainer.telemetry import RunInfo
from rlhf_trainer.telemetry.store import MetricStore

Answer = Callable[[str, asyncio.StreamWriter], Awaitable[None]]

LABELS = {
    "run_name": "demo",
    "phase_name": "PPO",
    "iteration_number": "1",
    "attempt_number": "2",
}
METRICS = b"# TYPE rlhf_heartbeat_total counter\nrlhf_heartbeat_total 7.0\nrlhf_step 2.0\n"


def record(step: int, **values: Any) -> bytes:
    return json.dumps({"step": step, "time": 0, "values": values}).encode() + b"\n"


def reply(body: bytes, status: str = "200 OK", headers: str = "") -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{headers}\r\n"
    return head.encode() + body


def serves(metrics: bytes, *pages: bytes) -> Answer:
    """Serve metrics, and the history page by page."""
    left = list(pages)

    async def answer(path: str, writer: asyncio.StreamWriter) -> None:
        if path.startswith("/metrics"):
            writer.write(reply(metrics))
        else:
            writer.write(reply(left.pop(0) if left else b""))

    return answer


async def _read(answer: Answer, since: int) -> Reading | None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            await answer(request.split()[1].decode(), writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, new_session() as session:
        port = server.sockets[0].getsockname()[1]
        return await Reader(session, port).read("127.0.0.1", since, LABELS)


def read(answer: Answer, since: int = -1) -> Reading | None:
    return asyncio.run(_read(answer, since))


def test_read_takes_every_step_of_every_page() -> None:
    reading = read(
        serves(METRICS, record(0, kl_nats=1.0) + record(1, kl_nats=2.0), record(2, kl_nats=3.0))
    )
    assert reading is not None
    assert reading.heartbeat == 7
    assert [one.values["kl_nats"] for one in reading.records] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("since", "steps", "pages"), [(-1, [1, 2], ["/history?since=-1"]), (2, [], []), (3, [], [])]
)
def test_read_asks_for_no_page_after_the_newest_step(
    since: int, steps: list[int], pages: list[str]
) -> None:
    asked = []

    async def answer(path: str, writer: asyncio.StreamWriter) -> None:
        asked.append(path)
        metrics = path.startswith("/metrics")
        writer.write(reply(METRICS if metrics else record(1) + record(2)))

    reading = read(answer, since)
    assert reading is not None
    assert [one.step for one in reading.records] == steps
    assert asked == ["/metrics", *pages]


def test_read_asks_a_trainer_that_names_no_step_for_its_history() -> None:
    nameless = METRICS.replace(b"rlhf_step 2.0\n", b"")
    reading = read(serves(nameless, record(3), record(4)), since=2)
    assert reading is not None
    assert [one.step for one in reading.records] == [3, 4]


async def _hangs(_: str, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n1")
    await writer.drain()
    await asyncio.sleep(5)


async def _redirects(_: str, writer: asyncio.StreamWriter) -> None:
    writer.write(reply(b"", "302 Found", "Location: http://169.254.169.254/\r\n"))


async def _floods(_: str, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + METRICS)
    for _chunk in range(100):
        writer.write(b"rlhf_step 1\n" * 87_382)
        await writer.drain()


async def _closes(_: str, __: asyncio.StreamWriter) -> None:
    return


async def _floods_headers(_: str, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n" + b"X-A: " + b"a" * 1_000_000 + b"\r\n\r\n")


async def _fails(_: str, writer: asyncio.StreamWriter) -> None:
    writer.write(reply(METRICS, "500 Internal Server Error"))


async def _speaks_no_http(_: str, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")


@pytest.mark.parametrize(
    "answer",
    [
        _hangs,
        _redirects,
        _floods,
        _closes,
        _floods_headers,
        _fails,
        _speaks_no_http,
        serves(b"\xff\xfe\x00nonsense"),
        serves(b"<html>welcome</html>"),
        serves(b"rlhf_heartbeat_total NaN\n"),
        serves(b"rlhf_heartbeat_total 1e\n"),
        serves(METRICS, b"{}\n"),
        serves(METRICS, b"not json\n"),
        serves(METRICS, record(5) + record(3)),
        serves(METRICS, record(-7)),
        serves(METRICS, record(10**15)),
        serves(METRICS, record(1) * 2, record(1)),
        serves(METRICS, b"x" * (MAXIMUM_BYTES + 1)),
        serves(METRICS, record(1) * (MAXIMUM_RECORDS + 1)),
        serves(METRICS, (record(1).strip() + b"\r") * (MAXIMUM_RECORDS + 1)),
        serves(METRICS, record(1, **{f"v{n}": 0 for n in range(MAXIMUM_VALUES + 1)})),
        # It took hours, and everybody waited for it.
        serves(b"rlhf_run_info{" + b"a" * 1_900_000 + b"\n"),
    ],
)
def test_read_of_a_hostile_endpoint_brings_nothing_and_raises_nothing(
    answer: Answer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "TIMEOUT_SECONDS", 0.5)
    assert read(answer) is None


def test_read_of_a_closed_port_brings_nothing() -> None:
    async def nobody() -> Reading | None:
        async with new_session() as session:
            return await Reader(session, 1).read("127.0.0.1", -1, LABELS)

    assert asyncio.run(nobody()) is None


def test_read_endless_history_ends() -> None:
    step = iter(range(10_000))

    async def answer(path: str, writer: asyncio.StreamWriter) -> None:
        metrics = path.startswith("/metrics")
        running = METRICS.replace(b"rlhf_step 2.0", b"rlhf_step 1e9")
        writer.write(reply(running if metrics else record(next(step), kl_nats=1.0)))

    reading = read(answer)
    assert reading is not None
    assert len(reading.records) == 20


def test_read_of_a_slow_history_leaves_the_rest_for_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "PAGES_SECONDS", 0.1)
    step = iter(range(10_000))

    async def answer(path: str, writer: asyncio.StreamWriter) -> None:
        if path.startswith("/metrics"):
            writer.write(reply(METRICS.replace(b"rlhf_step 2.0", b"rlhf_step 1e9")))
            return
        await asyncio.sleep(0.06)
        writer.write(reply(record(next(step), kl_nats=1.0)))

    reading = read(answer)
    assert reading is not None
    assert 1 <= len(reading.records) <= 2


@pytest.mark.parametrize(
    "answer",
    [
        serves(METRICS.replace(b"7.0", b"1e300"), record(1, kl_nats=1.0)),
        serves(METRICS.replace(b"7.0", b"-1"), record(1, kl_nats=1.0)),
        serves(METRICS, record(1, certified_step=1e300)),
        serves(METRICS, record(10**15, kl_nats=1.0)),
    ],
    ids=["huge-heartbeat", "negative-heartbeat", "huge-certified-step", "huge-step"],
)
def test_read_refuses_numbers_that_no_status_could_hold(answer: Answer) -> None:
    assert read(answer) is None


def info(**labels: str) -> bytes:
    """Return the line of a page that says whose it is."""
    pairs = ",".join(f'{name}="{value}"' for name, value in labels.items())
    return f"rlhf_run_info{{{pairs}}} 1.0\n".encode()


@pytest.mark.parametrize(
    "other",
    [
        {"run_name": "demo-2"},
        {"phase_name": "SFT"},
        {"iteration_number": "2"},
        {"attempt_number": "1"},
    ],
    ids=["run", "phase", "iteration", "attempt"],
)
def test_read_of_another_attempt_at_the_address_brings_nothing(other: dict[str, str]) -> None:
    asked = []

    async def answer(path: str, writer: asyncio.StreamWriter) -> None:
        asked.append(path)
        writer.write(reply(METRICS + info(**{**LABELS, **other})))

    assert read(answer) is None
    assert asked == ["/metrics"]


@pytest.mark.parametrize(
    "told",
    [
        b"# TYPE rlhf_run_info gauge\n",
        info(run_name="demo"),
        info(**LABELS),
        info(**LABELS, later="x"),
    ],
    ids=["nothing", "less", "all", "more"],
)
def test_read_takes_a_page_that_names_the_attempt_or_none(told: bytes) -> None:
    assert read(serves(told + METRICS, record(1))) is not None


def test_labels_of_a_target_are_what_the_trainer_exports() -> None:
    attempt = AttemptKey(1, Phase.PPO, 2)
    target = Target(RunKey("a", "demo"), attempt, "127.0.0.1", 1.0, None)
    assert target.labels == LABELS
    exported = MetricStore(RunInfo("demo", Phase.PPO, 1, 2).labels())
    registry = CollectorRegistry()
    registry.register(exported)
    exported.increment("heartbeat", 7.0, {})
    page = generate_latest(registry)
    assert parse_metrics(page, target.labels) == {"rlhf_heartbeat_total": 7.0}
    assert parse_metrics(page, target.labels | {"attempt_number": "3"}) is None


def test_shown_metrics_are_those_of_the_contract() -> None:
    seen = HistoryRecord(step=1, time=0, values={"kl_nats": 1.0, "x" * 100_000: 2.0, "made_up": 3})
    assert shown_metrics(seen) == {"klNats": 1.0}


def test_read_of_a_history_that_stalls_keeps_the_pages_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fetching, "TIMEOUT_SECONDS", 0.3)
    metrics = METRICS.replace(b"rlhf_step 2.0", b"rlhf_step 9.0")
    first = serves(metrics, record(1, kl_nats=1.0) + record(2, kl_nats=2.0))

    async def answer(path: str, writer: asyncio.StreamWriter) -> None:
        await (_hangs if path.endswith("since=2") else first)(path, writer)

    reading = read(answer)
    assert reading is not None
    assert [one.step for one in reading.records] == [1, 2]


def test_read_of_a_history_that_turns_to_nonsense_brings_nothing() -> None:
    metrics = METRICS.replace(b"rlhf_step 2.0", b"rlhf_step 9.0")
    assert read(serves(metrics, record(1), b"nonsense")) is None
