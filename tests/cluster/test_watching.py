"""Everything that dashboards and alerts ask for is asked of the Prometheus that watched the runs.

An answer without data would be a panel that stays empty, or an alert that cannot fire.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
from ruamel.yaml import YAML
from story import BREACH, MOVIE_REVIEWS, OUTSIDE, Story

import generate_dashboards
from queries import as_sent
from rlhf_trainer.contract import Phase, Workspace

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "charts" / "rlhf-operator" / "alerts.yaml").read_text(encoding="utf-8")
ALERTS = [
    rule for group in YAML(typ="safe", pure=True).load(TEXT)["groups"] for rule in group["rules"]
]
BOARDS = {name: json.loads(text) for name, text in generate_dashboards.texts().items()}

CHOICES = {
    "$namespace": "examples",
    "$iteration": ".*",
    "$phase": ".*",
    "$__rate_interval": "10s",
    "$__range": "1h",
}

COMPARES = {"==", "!=", ">", "<", ">=", "<="}


def _asked() -> Iterator[Any]:
    for name, board in BOARDS.items():
        for panel in board["panels"]:
            for target in panel.get("targets", []):
                what = f"{name}-{panel['title']}-{target['refId']}"
                yield pytest.param(target["expr"], id=what)
        for mark in board["annotations"]["list"]:
            yield pytest.param(mark["target"]["expr"], id=f"{name}-{mark['name']}")


def comparisons(expr: str) -> Iterator[str]:
    """Yield each comparison of an alert so that it answers 0 or 1 instead of nothing or all.

    What only silences it, after `unless`, need not be there.
    """
    found: list[promql.BinaryExpr] = []
    silencing: set[str] = set()

    def note(node: promql.Expr) -> None:
        if isinstance(node, promql.BinaryExpr) and str(node.op) in COMPARES:
            found.append(node)
        if isinstance(node, promql.BinaryExpr) and str(node.op) == "unless":
            silencing.add(str(node.rhs))

    promql.walk(promql.parse(expr), pre_visit=note)
    for node in found:
        if str(node) not in silencing:
            yield f"({node.lhs}) {node.op} bool ({node.rhs})"


def answered(story: Story, expr: str) -> bool:
    series = story.prometheus.range(expr, start=story.start, end=story.end)
    return any(one.points for one in series)


@pytest.mark.parametrize(
    "series", ["rlhf_kl_nats", "rlhf_reward_score", "rlhf_entropy_nats_per_token"]
)
def test_prometheus_holds_what_is_learnt_by_run_phase_iteration_and_attempt(
    story: Story, series: str
) -> None:
    selector = f'{series}{{run="{MOVIE_REVIEWS}",phase="ppo"}}'
    [found] = story.prometheus.range(selector, start=story.start, end=story.end)
    expected = {
        "namespace": "examples",
        "run": MOVIE_REVIEWS,
        "phase": "ppo",
        "iteration": "1",
        "attempt": "1",
        "pod": "movie-reviews-i1-ppo-a1-master-0",
    }
    assert expected.items() <= dict(found.labels).items()
    attempt = Workspace(story.workspace(MOVIE_REVIEWS)).attempt(1, Phase.PPO, 1)
    records = [json.loads(line) for line in attempt.history.read_text("utf-8").splitlines()]
    learnt = {record["values"][series.removeprefix("rlhf_")] for record in records}
    seen = {value for _, value in found.points}
    assert len(seen) > 1
    assert seen <= learnt


@pytest.mark.parametrize("expr", list(_asked()))
def test_dashboard_query_is_answered_with_data(story: Story, expr: str) -> None:
    # A stop is seen in the runs that were stopped, a win rate in the one that went on to the end.
    runs = (MOVIE_REVIEWS, BREACH, OUTSIDE) if "$run" in expr else (MOVIE_REVIEWS,)
    assert any(answered(story, as_sent(expr, CHOICES | {"$run": run})) for run in runs)


@pytest.mark.parametrize("alert", ALERTS, ids=[alert["alert"] for alert in ALERTS])
def test_alert_compares_series_that_are_there(story: Story, alert: dict[str, Any]) -> None:
    compared = list(comparisons(alert["expr"]))
    assert compared
    assert [expr for expr in compared if not answered(story, expr)] == []


@pytest.mark.parametrize("name", ["RLHFKLOverLimit", "RLHFStoppedOnKL"])
def test_alert_on_what_befell_a_run_is_met(story: Story, name: str) -> None:
    [expr] = [alert["expr"] for alert in ALERTS if alert["alert"] == name]
    assert answered(story, expr)


def test_prometheus_has_taken_the_alerts_as_they_are(story: Story) -> None:
    groups = story.prometheus.get("rules")["groups"]
    rules = {rule["name"]: rule for group in groups for rule in group["rules"]}
    assert rules.keys() == {alert["alert"] for alert in ALERTS}
    assert {rule["health"] for rule in rules.values()} == {"ok"}
    stopped = rules["RLHFStoppedOnKL"]
    assert stopped["state"] == "firing"
