"""Whether a PromQL query can mean anything: it parses, and its series and labels exist.

Dashboards and alerts are held against the tables that the code exports from, so that a renamed
metric cannot leave a panel empty or an alert silent.
"""

from collections.abc import Iterator, Mapping
from functools import cache

import promql_parser as promql

from rlhf_operator.metrics import OperatorMetrics, Summary
from rlhf_trainer.contract import METRICS

TARGET_LABELS = frozenset(
    {"namespace", "pod", "job", "instance", "run", "phase", "iteration", "attempt"}
)
"""Labels that the scrape adds; docs/monitoring.md says where they come from."""

GRAFANA_TIMES = {"$__rate_interval": "5m", "$__interval": "1m", "$__range": "6h"}
"""What Grafana puts in before Prometheus sees a query."""


def example_metrics() -> OperatorMetrics:
    """Return the metrics of an operator with a run evaluated, stopped and read: all are there."""
    run = Summary(
        namespace="default",
        name="run",
        phase="Stopped",
        stopped_by="Trainer",
        win_rate=0.5,
        unreadable=False,
    )
    return OperatorMetrics(lambda: [run], lambda: 0, lambda: True)


@cache
def known_series() -> Mapping[str, frozenset[str]]:
    """Return the labels of every series that there is."""
    known = {metric.series: frozenset(metric.labels) for metric in METRICS}
    for family in example_metrics().registry.collect():
        known |= {sample.name: frozenset(sample.labels) for sample in family.samples}
    return {name: labels | TARGET_LABELS for name, labels in (known | {"up": frozenset()}).items()}


def problems(query: str) -> Iterator[str]:
    """Yield what is wrong with a query: nothing, if all is well."""
    try:
        tree = promql.parse(as_sent(query))
    except ValueError as error:
        yield f"{query}: cannot be parsed: {error}"
        return
    nodes = _nodes(tree)
    selectors = [node for node in nodes if isinstance(node, promql.VectorSelector)]
    for selector in selectors:
        yield from _selector_problems(query, selector)
    have = frozenset[str]().union(*(_labels(selector) for selector in selectors))
    for label in sorted({label for node in nodes for label in _grouped_by(node)} - have):
        yield f"{query}: groups by {label!r}, which none of its series has"


def as_sent(query: str, choices: Mapping[str, str] | None = None) -> str:
    """Return a query as Grafana sends it, with what is chosen put in for its variables."""
    for name, value in {**GRAFANA_TIMES, **(choices or {})}.items():
        query = query.replace(name, value)
    return query


def _nodes(tree: promql.Expr) -> list[promql.Expr]:
    found: list[promql.Expr] = []
    promql.walk(tree, pre_visit=found.append)
    return found


def _labels(selector: promql.VectorSelector) -> frozenset[str]:
    return known_series().get(selector.name or "", frozenset())


def _selector_problems(query: str, selector: promql.VectorSelector) -> Iterator[str]:
    if selector.name not in known_series():
        yield f"{query}: nobody exports {selector.name!r}"
        return
    for matcher in selector.matchers.matchers:
        if matcher.name not in _labels(selector):
            yield f"{query}: {selector.name} has no label {matcher.name!r}"


def _grouped_by(node: promql.Expr) -> list[str]:
    """Return the labels that an aggregation keeps or that two sides are matched by."""
    if isinstance(node, promql.AggregateExpr) and node.modifier is not None:
        return node.modifier.labels
    if isinstance(node, promql.BinaryExpr) and node.modifier is not None:
        matching = node.modifier.matching
        return [*(matching.labels if matching else []), *(node.modifier.group_labels or [])]
    return []
