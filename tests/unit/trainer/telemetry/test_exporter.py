import json
import logging
import socket
from collections.abc import Mapping
from http.client import HTTPConnection
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.parser import text_string_to_metric_families as parse_text

from rlhf_trainer.contract import METRICS, AttemptPaths, MetricKind
from rlhf_trainer.telemetry.history import MAXIMUM_PAGE_BYTES, MAXIMUM_PAGE_RECORDS

OPEN_METRICS = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"}


def get(
    paths: AttemptPaths, target: str, headers: Mapping[str, str] | None = None
) -> tuple[int, str, str]:
    port = int((paths.root / "metrics-port").read_text(encoding="utf-8"))
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", target, headers=dict(headers or {}))
        reply = connection.getresponse()
        return reply.status, reply.headers["Content-Type"], reply.read().decode()
    finally:
        connection.close()


def set_everything(telemetry: Any) -> None:
    for metric in METRICS:
        labels = dict.fromkeys(metric.labels, "some")
        if metric.kind is MetricKind.GAUGE:
            telemetry.set(metric.name, 1.5, **labels)
        elif metric.kind is MetricKind.COUNTER:
            telemetry.increment(metric.name, 2.0, **labels)


def test_metrics_parse_as_open_metrics_and_carry_every_name_of_the_contract(
    open_telemetry: Any, paths: AttemptPaths
) -> None:
    telemetry = open_telemetry(port=0)
    set_everything(telemetry)
    status, content_type, text = get(paths, "/metrics", OPEN_METRICS)
    families = list(text_string_to_metric_families(text))
    samples = {sample.name for family in families for sample in family.samples}
    assert status == 200
    assert content_type.startswith("application/openmetrics-text")
    assert samples == {metric.series for metric in METRICS}
    assert {family.name: family.type for family in families} == {
        f"rlhf_{metric.name}": metric.kind.value for metric in METRICS
    }
    assert all(family.documentation for family in families)


def test_every_kind_of_token_is_told_before_any_is_counted(
    open_telemetry: Any, paths: AttemptPaths
) -> None:
    open_telemetry(port=0)
    _, _, text = get(paths, "/metrics")
    for kind in ("prompt", "response", "trained"):
        assert f'rlhf_tokens_total{{kind="{kind}"}} 0.0' in text


def test_metrics_are_text_format_unless_open_metrics_is_asked_for(
    open_telemetry: Any, paths: AttemptPaths
) -> None:
    open_telemetry(port=0).set("kl_nats", 4.5)
    _, content_type, text = get(paths, "/metrics")
    values = {sample.name: sample.value for family in parse_text(text) for sample in family.samples}
    assert content_type.startswith("text/plain; version=0.0.4")
    assert values["rlhf_kl_nats"] == 4.5


def test_metrics_never_set_are_not_exported(open_telemetry: Any, paths: AttemptPaths) -> None:
    open_telemetry(port=0)
    _, _, text = get(paths, "/metrics", OPEN_METRICS)
    samples = {
        sample.name for family in text_string_to_metric_families(text) for sample in family.samples
    }
    assert samples == {"rlhf_run_info", "rlhf_heartbeat_total", "rlhf_tokens_total"}


def test_run_info_says_which_run_this_is(open_telemetry: Any, paths: AttemptPaths) -> None:
    open_telemetry(port=0)
    _, _, text = get(paths, "/metrics", OPEN_METRICS)
    (info,) = (
        sample
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "rlhf_run_info"
    )
    assert info.labels == {
        "run_name": "helpful-7b",
        "phase_name": "PPO",
        "iteration_number": "1",
        "attempt_number": "2",
    }


def test_finish_step_updates_step_durations_and_memory(
    open_telemetry: Any, paths: AttemptPaths, held_clock: Any
) -> None:
    telemetry = open_telemetry(port=0)
    for step, stage in enumerate(("rollout", "update"), start=1):
        with telemetry.stage(stage):
            held_clock.advance(2.0)
        telemetry.finish_step(step)
    _, _, text = get(paths, "/metrics", OPEN_METRICS)
    samples = [
        (sample.name, sample.labels.get("stage"), sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]
    assert ("rlhf_step", None, 2.0) in samples
    # The stage of the first step did not run in the second.
    assert [sample for sample in samples if sample[0] == "rlhf_step_duration_seconds"] == [
        ("rlhf_step_duration_seconds", "update", 2.0)
    ]
    memory = next(value for name, _, value in samples if name == "rlhf_resident_memory_bytes")
    assert 10e6 < memory < 1e12


def test_history_gives_the_steps_after_since(open_telemetry: Any, paths: AttemptPaths) -> None:
    telemetry = open_telemetry(port=0)
    for step in range(1, 6):
        telemetry.set("kl_nats", float(step))
        telemetry.finish_step(step)

    def steps(since: int) -> list[int]:
        status, content_type, text = get(paths, f"/history?since={since}")
        assert (status, content_type) == (200, "application/x-ndjson")
        return [json.loads(line)["step"] for line in text.splitlines()]

    assert steps(-1) == [1, 2, 3, 4, 5]
    assert steps(3) == [4, 5]
    assert steps(5) == []
    assert steps(99) == []


def test_history_page_is_bounded_in_records(open_telemetry: Any, paths: AttemptPaths) -> None:
    telemetry = open_telemetry(port=0)
    for step in range(MAXIMUM_PAGE_RECORDS + 5):
        telemetry.finish_step(step)
    _, _, text = get(paths, "/history?since=-1")
    first = [json.loads(line)["step"] for line in text.splitlines()]
    assert first == list(range(MAXIMUM_PAGE_RECORDS))
    _, _, text = get(paths, f"/history?since={first[-1]}")
    assert [json.loads(line)["step"] for line in text.splitlines()] == [
        MAXIMUM_PAGE_RECORDS + step for step in range(5)
    ]


def test_history_page_does_not_end_between_two_records_of_a_step(
    open_telemetry: Any, paths: AttemptPaths
) -> None:
    telemetry = open_telemetry(port=0)
    for step in range(MAXIMUM_PAGE_RECORDS):
        telemetry.finish_step(step)
    telemetry.finish_step(MAXIMUM_PAGE_RECORDS - 1, event="what became of it")
    telemetry.finish_step(MAXIMUM_PAGE_RECORDS)
    _, _, text = get(paths, "/history?since=-1")
    page = [json.loads(line) for line in text.splitlines()]
    assert [one["step"] for one in page] == list(range(MAXIMUM_PAGE_RECORDS - 1))
    _, _, text = get(paths, f"/history?since={MAXIMUM_PAGE_RECORDS - 2}")
    page = [json.loads(line) for line in text.splitlines()]
    assert [one["step"] for one in page] == [MAXIMUM_PAGE_RECORDS - 1] * 2 + [MAXIMUM_PAGE_RECORDS]
    assert page[1]["event"] == "what became of it"


def test_step_longer_than_a_page_comes_whole_and_alone(
    open_telemetry: Any, paths: AttemptPaths
) -> None:
    telemetry = open_telemetry(port=0)
    telemetry.finish_step(0)
    telemetry.finish_step(1)
    telemetry.finish_step(1, event="x" * MAXIMUM_PAGE_BYTES)
    telemetry.finish_step(2)
    pages = {since: get(paths, f"/history?since={since}")[2] for since in (-1, 0, 1)}
    steps = [[json.loads(line)["step"] for line in page.splitlines()] for page in pages.values()]
    assert steps == [[0], [1, 1], [2]]


def test_history_page_is_bounded_in_bytes(open_telemetry: Any, paths: AttemptPaths) -> None:
    telemetry = open_telemetry(port=0)
    for step in range(5):
        telemetry.finish_step(step, event="x" * (MAXIMUM_PAGE_BYTES // 2 - 200))
    telemetry.finish_step(5, event="x" * (MAXIMUM_PAGE_BYTES + 1))
    pages = {since: get(paths, f"/history?since={since}")[2] for since in (-1, 1, 3, 4)}
    assert [len(page.splitlines()) for page in pages.values()] == [2, 2, 1, 1]
    assert all(len(pages[since]) <= MAXIMUM_PAGE_BYTES for since in (-1, 1, 3))
    assert json.loads(pages[4])["step"] == 5


@pytest.mark.parametrize(
    "target",
    [
        "/history",
        "/history?since=",
        "/history?since=x",
        "/history?since=1.5",
        "/history?since=1&since=2",
        "/history?from=1",
        "/history?since=1&to=2",
        "/history?since=99999999999999999999",
    ],
)
def test_history_bad_query_is_400_with_the_fix(
    open_telemetry: Any, paths: AttemptPaths, target: str
) -> None:
    open_telemetry(port=0)
    status, _, text = get(paths, target)
    assert status == 400
    assert "/history?since=STEP" in text


def test_healthz_answers_and_unknown_paths_are_404(
    open_telemetry: Any, paths: AttemptPaths
) -> None:
    open_telemetry(port=0)
    assert get(paths, "/healthz")[::2] == (200, "ok\n")
    assert get(paths, "/config")[0] == 404


def test_port_in_use_is_a_warning_and_training_goes_on(
    open_telemetry: Any, paths: AttemptPaths, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as taken, caplog.at_level(logging.WARNING):
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        telemetry = open_telemetry(port=port)
        telemetry.finish_step(1)
    assert f"metrics-port={port}: cannot be opened (Address already in use)" in caplog.text
    assert not (paths.root / "metrics-port").exists()


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_pods_of_either_kind_of_network_are_served(open_telemetry: Any, address: str) -> None:
    with socket.socket() as free:
        free.bind(("", 0))
        port = free.getsockname()[1]
    open_telemetry(port=port)
    connection = HTTPConnection(address, port, timeout=10)
    try:
        connection.request("GET", "/healthz")
        assert connection.getresponse().read() == b"ok\n"
    finally:
        connection.close()


def test_port_zero_is_open_to_this_machine_only(open_telemetry: Any) -> None:
    telemetry = open_telemetry(port=0)
    assert telemetry._exporter is not None
    assert telemetry._exporter._server.server_address[0] == "127.0.0.1"
