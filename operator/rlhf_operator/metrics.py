"""The operator's own Prometheus metrics, `rlhf_operator_*`."""

from collections import Counter as Count
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from rlhf_operator.api import PhaseState, PhaseStatus, RunOutcome, RunStatus, StoppedBy
from rlhf_operator.decide.conditions import KL_EXCEEDED, READ, UNREADABLE
from rlhf_trainer.contract import Phase

PREFIX = "rlhf_operator_"

_PASS_BUCKETS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
_PHASE_BUCKETS = (10.0, 60.0, 300.0, 1800.0, 3600.0, 14_400.0, 86_400.0, 604_800.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """What is told of a run that there is."""

    namespace: str
    name: str
    phase: str
    """As it is printed."""
    outcome: str = ""
    """Empty until it has ended."""
    stopped_by: str = ""
    """Who applied the rule on KL; empty if nobody had to."""
    stopped_at_kl: float = 0.0
    """KL at that stop, in nats."""
    win_rate: float | None = None
    """Of its newest evaluation; None before there is one."""
    unreadable: bool | None = None
    """Whether the live attempt's metrics cannot be read; None if nothing is alive or read yet."""

    @classmethod
    def of(cls, namespace: str, name: str, status: Mapping[str, Any]) -> Self:
        """Return what a status says, as it is on the server."""
        stop = status.get("stop") or {}
        over = stop.get("reason") in KL_EXCEEDED
        return cls(
            namespace=namespace,
            name=name,
            phase=str(status.get("phase", "Pending")),
            outcome=str(status.get("outcome", "")),
            stopped_by=str(stop.get("by", "")) if over else "",
            stopped_at_kl=float(stop.get("klNats") or 0) if over else 0.0,
            win_rate=_win_rate(status.get("phases") or []),
            unreadable=_unreadable(status.get("conditions") or []),
        )


def _win_rate(phases: Iterable[Mapping[str, Any]]) -> float | None:
    found = [phase.get("metrics") or {} for phase in phases]
    rates = [float(metrics["winRate"]) for metrics in found if "winRate" in metrics]
    return rates[-1] if rates else None


def _unreadable(conditions: Iterable[Mapping[str, Any]]) -> bool | None:
    reasons = [
        str(one.get("reason")) for one in conditions if one.get("type") == "MetricsAvailable"
    ]
    return {READ: False, UNREADABLE: True}.get(reasons[0]) if reasons else None


class OperatorMetrics:
    """What the operator counts and measures."""

    def __init__(
        self,
        runs: Callable[[], Iterable[Summary]],
        depth: Callable[[], int],
        leads: Callable[[], bool],
    ) -> None:
        self.registry = CollectorRegistry()
        self.registry.register(_Live(runs, depth, leads))
        self.pass_seconds = Histogram(
            f"{PREFIX}pass_duration_seconds",
            "Time of one pass over one run, its writes included.",
            buckets=_PASS_BUCKETS,
            registry=self.registry,
        )
        self.phase_seconds = Histogram(
            f"{PREFIX}phase_duration_seconds",
            "Time from a phase's first attempt to its completion.",
            ["phase_name"],
            buckets=_PHASE_BUCKETS,
            registry=self.registry,
        )
        self.pass_errors = self._counter("pass_errors", "Passes that failed and were tried again.")
        self.scrapes_failed = self._counter(
            "scrape_failures", "Readings of an attempt's metrics that brought nothing."
        )
        self.retries = self._counter(
            "retries", "Attempts after the first of their phase.", "phase_name"
        )
        self.kl_stops = self._counter(
            "kl_stops", "Runs ended by the rule on KL, by who applied it.", "by"
        )
        self.runs_finished = self._counter(
            "runs_finished", "Runs that have ended, by how.", "outcome"
        )
        self.gpu_seconds = self._counter(
            "gpu_seconds",
            "GPUs times seconds of the attempts that have ended, from their start: waiting counts.",
            "phase_name",
        )
        self.denied_namespaces = Gauge(
            f"{PREFIX}denied_namespaces",
            "Namespaces of the release whose runs it may not read, and leaves alone.",
            registry=self.registry,
        )
        self._begin_at_zero()

    def _counter(self, name: str, help_: str, *labels: str) -> Counter:
        return Counter(PREFIX + name, help_, labels, registry=self.registry)

    def _begin_at_zero(self) -> None:
        """Export every series from the start: `increase()` does not see a first sample of 1."""
        for by in StoppedBy:
            self.kl_stops.labels(by.value)
        for outcome in RunOutcome:
            self.runs_finished.labels(outcome.value)
        for phase in Phase:
            for metric in (self.phase_seconds, self.retries, self.gpu_seconds):
                metric.labels(phase.value)

    def count(self, before: RunStatus, after: RunStatus) -> None:
        """Count what happened between two statuses of a run."""
        known = {phase.key: phase for phase in before.phases}
        for phase in after.phases:
            self._count_phase(known.get(phase.key), phase)
        if after.stop is not None and before.stop is None and after.stop.reason in KL_EXCEEDED:
            self.kl_stops.labels(after.stop.by.value).inc()
        if after.outcome is not None and before.outcome is None:
            self.runs_finished.labels(after.outcome.value).inc()

    def page(self) -> bytes:
        """Return the page that Prometheus reads."""
        return generate_latest(self.registry)

    def _count_phase(self, before: PhaseStatus | None, after: PhaseStatus) -> None:
        attempts = before.attempts if before else 0
        for _ in range(max(attempts, 1), after.attempts):
            self.retries.labels(after.phase.value).inc()
        gpu_seconds = after.gpu_seconds - (before.gpu_seconds if before else 0)
        self.gpu_seconds.labels(after.phase.value).inc(max(0, gpu_seconds))
        done = after.state is PhaseState.SUCCEEDED
        if not done or (before is not None and before.state is PhaseState.SUCCEEDED):
            return
        if after.start_time is not None and after.finish_time is not None:
            seconds = (after.finish_time - after.start_time).total_seconds()
            self.phase_seconds.labels(after.phase.value).observe(seconds)


class _Live(Collector):
    """What is counted anew for every page."""

    def __init__(
        self,
        runs: Callable[[], Iterable[Summary]],
        depth: Callable[[], int],
        leads: Callable[[], bool],
    ) -> None:
        self._runs, self._depth, self._leads = runs, depth, leads

    @override
    def collect(self) -> Iterator[Metric]:
        runs = GaugeMetricFamily(
            f"{PREFIX}runs", "Runs, by printed phase and by outcome.", labels=["phase", "outcome"]
        )
        stopped = GaugeMetricFamily(
            f"{PREFIX}stop_kl_nats",
            "KL at which a run was stopped, by who applied the rule, until the run is deleted.",
            labels=["run_namespace", "run_name", "by"],
        )
        # A trainer ends with its last numbers, before Prometheus reads them.
        won = GaugeMetricFamily(
            f"{PREFIX}win_rate",
            "Win rate of a run in its newest evaluation, until the run is deleted.",
            labels=["run_namespace", "run_name"],
        )
        unreadable = GaugeMetricFamily(
            f"{PREFIX}metrics_unreadable",
            "1 for a run whose live attempt's metrics cannot be read, 0 where they can.",
            labels=["run_namespace", "run_name"],
        )
        found = list(self._runs())
        for labels, count in sorted(Count((run.phase, run.outcome) for run in found).items()):
            runs.add_metric(labels, count)
        for run in found:
            if run.stopped_by:
                stopped.add_metric([run.namespace, run.name, run.stopped_by], run.stopped_at_kl)
            if run.win_rate is not None:
                won.add_metric([run.namespace, run.name], run.win_rate)
            if run.unreadable is not None:
                unreadable.add_metric([run.namespace, run.name], float(run.unreadable))
        yield runs
        yield stopped
        yield won
        yield unreadable
        yield GaugeMetricFamily(
            f"{PREFIX}queue_depth", "Runs that wait for a pass.", value=self._depth()
        )
        yield GaugeMetricFamily(
            f"{PREFIX}leads", "1 in the process that holds the lease.", value=float(self._leads())
        )
