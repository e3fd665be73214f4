"""Real pods that misbehave: endpoints that lie, hang or flood, and containers that die."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from operating import OperatorProcess
from rlhf_harness.waiting import until
from runs import Run, ending, merged
from telling import assert_told

from rlhf_operator.watchdog.readings import UNREADABLE_SECONDS

NAMESPACE = "faulty"

ENDPOINTS = ("hang", "redirect", "flood", "nan", "nonsense", "absurd")
READABLE = ("nan",)
"""Its heartbeat is one; what is no number is dropped."""

MEMORY_GROWTH_BYTES = 60_000_000
"""What an operator that read the 100 MB of one answer would exceed."""

ONLY_PPO: dict[str, Any] = {
    "sft": {"from": {"path": "base"}},
    "rewardModel": {"from": {"path": "base"}},
    "monitoring": {"scrapeIntervalSeconds": 1},
    **ending("100ms"),
}

Apply = Callable[..., Run]


@pytest.fixture
def apply_faulty(apply_real: Apply, with_fault: Callable[[str], dict[str, Any]]) -> Apply:
    """Make a run whose Preparation is played and whose PPO is a real pod with a fault."""

    def apply(fault: str, name: str, *, pool: str = "cpu", **spec: Any) -> Run:
        placement = {"pool": pool, "phases": {"preparation": {"pool": "played"}}}
        base = merged(ONLY_PPO, {"podTemplate": with_fault(f"ppo:{fault}"), "placement": placement})
        return apply_real(NAMESPACE, name, **merged(base, spec))

    return apply


def resident_bytes(operator: OperatorProcess) -> int:
    assert operator.process is not None
    status = Path(f"/proc/{operator.process.pid}/status").read_text(encoding="utf-8")
    kilobytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS"))
    return int(kilobytes) * 1024


def test_hostile_endpoints_change_nothing_but_that_metrics_are_unavailable(
    apply_faulty: Apply, apply: Apply, operator: OperatorProcess
) -> None:
    before = resident_bytes(operator)
    runs = {fault: apply_faulty(fault, f"endpoint-{fault}") for fault in ENDPOINTS}
    for run in runs.values():
        until(lambda run=run: run.phase("PPO").get("state") == "Running", "PPO", timeout_seconds=90)
    beside = apply("beside-hostile", "undisturbed", **ending("200ms"))
    beside.wait("Finished", reason="Completed")
    for fault, run in runs.items():
        if fault in READABLE:
            run.wait("MetricsAvailable", "True", seconds=UNREADABLE_SECONDS + 60)
        else:
            seconds = UNREADABLE_SECONDS + 60
            run.wait("MetricsAvailable", "Unknown", "Unreadable", seconds=seconds)
    for run in runs.values():
        assert run.condition("KLWithinLimit")["reason"] == "NotMeasured"
        assert run.condition("Progressing")["reason"] == "AttemptRunning"
        assert "stop" not in run.status
        assert run.phase("PPO")["attempts"] == 1
        assert run.phase("PPO")["state"] == "Running"
        assert "klNats" not in run.phase("PPO").get("metrics", {})
    assert resident_bytes(operator) < before + MEMORY_GROWTH_BYTES
    for run in runs.values():
        run.delete()


def test_heartbeat_that_stands_still_is_a_counted_failure(apply_faulty: Apply) -> None:
    policy = {"hangTimeoutSeconds": 60, "backoffLimit": 0}
    run = apply_faulty("still", "stands-still", runPolicy=policy)
    run.wait("MetricsAvailable", "True", seconds=90)
    finished = run.wait("Finished", reason="RetriesExhausted", seconds=150)
    assert "it showed no sign of life" in finished["message"]
    assert run.phase("PPO")["failures"] == 1
    assert "next: kubectl get events" in finished["message"]


def test_worker_that_dies_first_is_named(apply_faulty: Apply) -> None:
    """Its name is as long as names may be: it waits for its master's by DNS before it starts."""
    name = "worker-first".ljust(30, "x")
    run = apply_faulty(
        "worker-exits-7",
        name,
        placement={"nodes": 2},
        runPolicy={"backoffLimit": 0},
    )
    finished = run.wait("Finished", reason="RetriesExhausted", seconds=120)
    worker = f"{name}-i1-ppo-a1-worker-0"
    assert f"pod {worker} ended with exit code 7" in finished["message"]
    assert f"next: kubectl logs {worker} -n {NAMESPACE}" in finished["message"]
    assert run.phase("PPO")["failures"] == 1
    until(lambda: [one["metadata"]["name"] for one in run.pods()] == [worker], "the master to go")


def test_kernels_killer_is_named(apply_faulty: Apply) -> None:
    run = apply_faulty("", "out-of-memory", pool="small", runPolicy={"backoffLimit": 0})
    finished = run.wait("Finished", reason="RetriesExhausted", seconds=120)
    assert "OOMKilled" in finished["message"]
    assert_told(run, "oom-killed")
