"""Alerts ask for what exists, say what is the matter, and lead to a page that says what to do."""

import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from queries import TARGET_LABELS, problems

ROOT = Path(__file__).parents[3]
PAGES = ROOT / "docs" / "runbooks"
CHART = ROOT / "charts" / "rlhf-operator"


def load(path: Path) -> Any:
    return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))


ALERTS = [rule for group in load(CHART / "alerts.yaml")["groups"] for rule in group["rules"]]
NAMES = [alert["alert"] for alert in ALERTS]
CASES = [
    case
    for path in sorted((ROOT / "tests" / "alerts").glob("*.yaml"))
    for test in load(path)["tests"]
    for case in test["alert_rule_test"]
]

each_alert = pytest.mark.parametrize("alert", ALERTS, ids=NAMES)


@each_alert
def test_alert_query_is_sound(alert: dict[str, Any]) -> None:
    assert list(problems(alert["expr"])) == []


@each_alert
def test_alert_has_duration_severity_and_text(alert: dict[str, Any]) -> None:
    assert re.fullmatch(r"\d+[smh]", alert["for"])
    assert alert["labels"]["severity"] in {"warning", "critical"}
    told = alert["annotations"]
    assert told.keys() == {"summary", "description", "runbook_url"}
    assert told["description"].endswith(".")
    # What is absent has no value.
    assert "$value" in told["description"] or alert["expr"].startswith("absent(")
    labels = set(re.findall(r"\$labels\.(\w+)", " ".join(told.values())))
    assert labels <= TARGET_LABELS | {"by", "run_namespace", "run_name"}


@each_alert
def test_alert_leads_to_its_page(alert: dict[str, Any]) -> None:
    assert alert["annotations"]["runbook_url"] == f"docs/runbooks/{alert['alert']}.md"
    text = (PAGES / f"{alert['alert']}.md").read_text(encoding="utf-8")
    assert text.startswith(f"# {alert['alert']}\n\n**Means**: ")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Look at", "Do", "Worry"]


def test_pages_are_those_of_the_alerts() -> None:
    assert sorted(page.stem for page in PAGES.glob("*.md")) == sorted(NAMES)


@pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda page: page.stem)
def test_page_queries_are_sound(page: Path) -> None:
    blocks = re.findall(r"```promql\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    queries = [line.strip() for block in blocks for line in block.splitlines() if line.strip()]
    assert [problem for query in queries for problem in problems(query)] == []


@each_alert
def test_alert_is_tested_firing_and_silent(alert: dict[str, Any]) -> None:
    expected = [case["exp_alerts"] for case in CASES if case["alertname"] == alert["alert"]]
    assert any(expected)
    assert not all(expected)


def test_overview_names_every_alert_with_its_severity() -> None:
    text = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    for alert in ALERTS:
        assert f"(runbooks/{alert['alert']}.md) | {alert['labels']['severity']} |" in text


def test_example_of_scrapes_reads_as_often_as_the_monitors() -> None:
    interval = load(CHART / "values.yaml")["podMonitors"]["interval"]
    jobs = load(ROOT / "examples" / "prometheus.yaml")["scrape_configs"]
    assert [job["scrape_interval"] for job in jobs] == [interval, interval]


def test_chart_values_leave_dashboards_and_alerts_off() -> None:
    values = load(CHART / "values.yaml")
    assert values["dashboards"]["enabled"] is False
    assert values["alerts"]["enabled"] is False
