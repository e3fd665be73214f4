"""Current values of the trainer's metrics: checked against `contract.METRICS`, for the exporter.

A metric that was never set is not exported: a KL of zero would look healthy.
"""

from collections.abc import Iterator, Mapping
from threading import Lock

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from typing_extensions import override

from rlhf_trainer.contract import METRICS, METRICS_BY_NAME, Metric, MetricKind
from rlhf_trainer.contract.metrics import PREFIX

Labels = tuple[str, ...]
"""Label values, in the order of the metric's label names."""

_NOT_IN_HISTORY = frozenset(
    {
        "step",
        "total_steps",
        "checkpoint_step",
        "step_duration_seconds",
        "resident_memory_bytes",
    }
)
"""What a record holds elsewhere, or what differs between two runs that computed the same."""


class MetricStore(Collector):
    """Holds the newest value of every series; safe to read from the exporter's threads."""

    def __init__(self, run_info: Mapping[str, str]) -> None:
        self._run_info = dict(run_info)
        self._lock = Lock()
        self._values: dict[str, dict[Labels, float]] = {metric.name: {} for metric in METRICS}
        self._set_in_step: dict[str, float] = {}
        for metric in METRICS:
            # A rate begins with a counter's second sample: a first one of 0 loses no step.
            if metric.kind is MetricKind.COUNTER and not metric.labels:
                self._values[metric.name][()] = 0.0
            for label in metric.from_start:
                self._values[metric.name][(label,)] = 0.0

    def set(self, name: str, value: float, labels: Mapping[str, str]) -> None:
        """Set a gauge.

        Raises:
            ValueError: no such gauge, or other labels than it has.
            TypeError: the value is no Python number.
        """
        metric = _metric(name, MetricKind.GAUGE)
        key = _label_values(metric, labels)
        number = _number(name, value)
        with self._lock:
            self._values[name][key] = number
            if name not in _NOT_IN_HISTORY:
                self._set_in_step[_series(metric, key)] = number

    def increment(self, name: str, amount: float, labels: Mapping[str, str]) -> None:
        """Add to a counter.

        Raises:
            ValueError: no such counter, other labels than it has, or a negative amount.
            TypeError: the amount is no Python number.
        """
        metric = _metric(name, MetricKind.COUNTER)
        key = _label_values(metric, labels)
        number = _number(name, amount)
        if not number >= 0:
            raise ValueError(f"{name}={amount}: a counter never falls; use a gauge")
        with self._lock:
            series = self._values[name]
            series[key] = series.get(key, 0.0) + number

    def replace(self, name: str, values: Mapping[str, float]) -> None:
        """Set all series of a gauge with one label, dropping those not named."""
        with self._lock:
            self._values[name] = {(label,): value for label, value in values.items()}

    def value(self, name: str) -> float | None:
        """Return the newest value of a metric without labels, if it has one."""
        with self._lock:
            return self._values[name].get(())

    def take_step(self) -> dict[str, float]:
        """Return the gauges set since the last call, by series name without prefix."""
        with self._lock:
            taken, self._set_in_step = self._set_in_step, {}
        return taken

    @override
    def collect(self) -> Iterator[Family]:
        """Yield a family for every metric that has a value, in the order of the table."""
        with self._lock:
            snapshot = {name: dict(series) for name, series in self._values.items()}
        for metric in METRICS:
            if metric.kind is MetricKind.INFO:
                yield InfoMetricFamily(PREFIX + metric.name, metric.help, value=self._run_info)
            elif snapshot[metric.name]:
                yield _family(metric, snapshot[metric.name])


def _family(metric: Metric, series: Mapping[Labels, float]) -> Family:
    family: CounterMetricFamily | GaugeMetricFamily
    if metric.kind is MetricKind.COUNTER:
        family = CounterMetricFamily(PREFIX + metric.name, metric.help, labels=metric.labels)
    else:
        family = GaugeMetricFamily(PREFIX + metric.name, metric.help, labels=metric.labels)
    for labels, value in series.items():
        family.add_metric(labels, value)
    return family


def _metric(name: str, kind: MetricKind) -> Metric:
    metric = METRICS_BY_NAME.get(name)
    if metric is None or metric.kind is not kind:
        known = ", ".join(known.name for known in METRICS if known.kind is kind)
        raise ValueError(f"metric={name!r}: no such {kind}; use one of {known}")
    return metric


def _label_values(metric: Metric, labels: Mapping[str, str]) -> Labels:
    if set(labels) != set(metric.labels):
        raise ValueError(
            f"labels={sorted(labels)}: {metric.name} has {sorted(metric.labels)}; name these"
        )
    return tuple(str(labels[name]) for name in metric.labels)


def _number(name: str, value: float) -> float:
    # A tensor would be accepted by float(), at the price of a hidden wait for the device.
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name}={value!r}: not a Python number; convert it where a wait is meant")
    return float(value)


def _series(metric: Metric, labels: Labels) -> str:
    if not labels:
        return metric.name
    pairs = (
        f'{name}="{_escaped(value)}"' for name, value in zip(metric.labels, labels, strict=True)
    )
    return f"{metric.name}{{{','.join(pairs)}}}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
