"""What the operator counts between two statuses of a run."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from rlhf_operator.api import PhaseState, PhaseStatus, RunOutcome, RunStatus, StoppedBy, StopStatus
from rlhf_operator.metrics import OperatorMetrics, Summary
from rlhf_trainer.contract import Phase

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)

Value = Callable[..., float | None]


@pytest.fixture
def metrics() -> OperatorMetrics:
    return OperatorMetrics(list, lambda: 0, lambda: True)


@pytest.fixture
def value(metrics: OperatorMetrics) -> Value:
    def read(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(f"rlhf_operator_{name}", labels)

    return read


def ppo(**fields: object) -> RunStatus:
    phase = {"iteration": 1, "phase": Phase.PPO, "state": PhaseState.RUNNING, **fields}
    return RunStatus(phases=(PhaseStatus.model_validate(phase),))


def test_metrics_are_zero_before_anything_happened(value: Value) -> None:
    assert value("kl_stops_total", by="Operator") == 0
    assert value("kl_stops_total", by="Trainer") == 0
    for outcome in RunOutcome:
        assert value("runs_finished_total", outcome=outcome.value) == 0
    for phase in Phase:
        assert value("retries_total", phase_name=phase.value) == 0
        assert value("gpu_seconds_total", phase_name=phase.value) == 0
        assert value("phase_duration_seconds_count", phase_name=phase.value) == 0


def test_count_outcome_is_counted_once(metrics: OperatorMetrics, value: Value) -> None:
    ended = RunStatus(outcome=RunOutcome.RETRIES_EXHAUSTED)
    metrics.count(RunStatus(), ended)
    metrics.count(ended, ended)
    assert value("runs_finished_total", outcome="RetriesExhausted") == 1
    assert value("runs_finished_total", outcome="Completed") == 0


def test_count_gpu_seconds_are_what_was_added(metrics: OperatorMetrics, value: Value) -> None:
    metrics.count(RunStatus(), ppo(attempts=1, gpu_seconds=100))
    metrics.count(ppo(attempts=1, gpu_seconds=100), ppo(attempts=2, gpu_seconds=350))
    metrics.count(ppo(attempts=2, gpu_seconds=350), ppo(attempts=2, gpu_seconds=350))
    assert value("gpu_seconds_total", phase_name="PPO") == 350
    assert value("retries_total", phase_name="PPO") == 1


@pytest.mark.parametrize(
    ("reason", "stops"),
    [
        pytest.param("KLLimitExceeded", 1, id="limit"),
        pytest.param("KLCeilingExceeded", 1, id="ceiling"),
        pytest.param("EntropyBelowFloor", 0, id="other-signal"),
    ],
)
def test_count_stop_on_kl_is_counted_by_who_applied_it(
    metrics: OperatorMetrics, value: Value, reason: str, stops: int
) -> None:
    stop = StopStatus(
        outcome=RunOutcome.STOPPED,
        reason=reason,
        by=StoppedBy.OPERATOR,
        message="too far",
        time=NOON,
    )
    metrics.count(RunStatus(), RunStatus(stop=stop))
    assert value("kl_stops_total", by="Operator") == stops
    assert value("kl_stops_total", by="Trainer") == 0


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        pytest.param("KLCeilingExceeded", 22.5, id="ceiling"),
        pytest.param("EntropyBelowFloor", None, id="other-signal"),
    ],
)
def test_stop_on_kl_is_told_for_as_long_as_the_run_is_there(
    reason: str, told: float | None
) -> None:
    stop = {"reason": reason, "by": "Trainer", "klNats": 22.5}
    status = {"phase": "Stopped", "outcome": "Stopped", "stop": stop}
    runs = [Summary.of("research", "breach", status), Summary.of("research", "new", {})]
    registry = OperatorMetrics(lambda: runs, lambda: 0, lambda: True).registry
    labels = {"run_namespace": "research", "run_name": "breach", "by": "Trainer"}
    assert registry.get_sample_value("rlhf_operator_stop_kl_nats", labels) == told
    for phase, outcome in (("Stopped", "Stopped"), ("Pending", "")):
        counted = {"phase": phase, "outcome": outcome}
        assert registry.get_sample_value("rlhf_operator_runs", counted) == 1


def test_win_rate_is_that_of_the_newest_evaluation() -> None:
    phases = [
        {"iteration": 1, "phase": "Evaluation", "metrics": {"winRate": 0.25}},
        {"iteration": 2, "phase": "PPO", "metrics": {"klNats": 4.0}},
        {"iteration": 2, "phase": "Evaluation", "metrics": {"winRate": 0.75}},
    ]
    runs = [Summary.of("research", "wins", {"phases": phases}), Summary.of("research", "new", {})]
    registry = OperatorMetrics(lambda: runs, lambda: 0, lambda: True).registry
    [family] = [one for one in registry.collect() if one.name == "rlhf_operator_win_rate"]
    labels = {"run_namespace": "research", "run_name": "wins"}
    assert [(one.labels, one.value) for one in family.samples] == [(labels, 0.75)]


@pytest.mark.parametrize(
    ("reason", "told"),
    [
        pytest.param("Unreadable", 1, id="unreadable"),
        pytest.param("Read", 0, id="read"),
        pytest.param("NotReadYet", None, id="no-pod-yet"),
        pytest.param("NothingRuns", None, id="between-attempts"),
    ],
)
def test_live_attempt_that_cannot_be_read_is_told_by_run(reason: str, told: float | None) -> None:
    conditions = [
        {"type": "Accepted", "status": "True", "reason": "Valid"},
        {"type": "MetricsAvailable", "status": "Unknown", "reason": reason},
    ]
    runs = [
        Summary.of("research", "dumb", {"conditions": conditions}),
        Summary.of("research", "new", {}),
    ]
    registry = OperatorMetrics(lambda: runs, lambda: 0, lambda: True).registry
    labels = {"run_namespace": "research", "run_name": "dumb"}
    assert registry.get_sample_value("rlhf_operator_metrics_unreadable", labels) == told
    [family] = [one for one in registry.collect() if one.name.endswith("unreadable")]
    assert len(family.samples) == (told is not None)
