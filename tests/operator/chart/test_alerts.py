"""Alerts and scrapes before Prometheus' own tool: they parse, and fire when they must."""

import json
from pathlib import Path

import pytest
from charting import Helm, Promtool
from operating import CHART, ROOT
from rlhf_harness.errors import CommandError

RULES = CHART / "alerts.yaml"
CASES = sorted((ROOT / "tests" / "alerts").glob("*.yaml"))


@pytest.mark.parametrize("cases", CASES, ids=lambda path: path.stem)
def test_alerts_fire_when_they_must_and_are_silent_otherwise(
    promtool: Promtool, cases: Path
) -> None:
    promtool("test", "rules", str(cases))


def test_alert_that_asks_for_something_else_fails_its_cases(
    promtool: Promtool, tmp_path: Path
) -> None:
    text = RULES.read_text("utf-8")
    broken = text.replace("  rlhf_kl_nats > rlhf_kl_limit_nats\n", "  rlhf_kl_nats > 100\n")
    assert broken != text
    (tmp_path / RULES.name).write_text(broken, encoding="utf-8")
    (runs,) = (path for path in CASES if path.stem == "runs")
    moved = runs.read_text("utf-8").replace("../../charts/rlhf-operator/", "")
    (tmp_path / runs.name).write_text(moved, encoding="utf-8")
    with pytest.raises(CommandError, match="RLHFKLOverLimit"):
        promtool("test", "rules", str(tmp_path / runs.name))


def test_rules_of_the_release_are_those_of_the_file_with_your_pages(
    promtool: Promtool, helm: Helm, tmp_path: Path
) -> None:
    values = {"alerts": {"enabled": True, "runbooks": "https://pages.example/runbooks/"}}
    (rule,) = (one for one in helm.template(values) if one["kind"] == "PrometheusRule")
    path = tmp_path / "rules.json"
    path.write_text(json.dumps(rule["spec"]), encoding="utf-8")
    said = promtool("check", "rules", "--lint=all", "--lint-fatal", str(path))
    assert f"SUCCESS: {RULES.read_text('utf-8').count('- alert:')} rules found" in said
    links = {
        one["annotations"]["runbook_url"] for g in rule["spec"]["groups"] for one in g["rules"]
    }
    assert {link.rpartition("/")[0] for link in links} == {"https://pages.example/runbooks"}


def test_release_that_is_gone_is_missed_while_others_lead(
    promtool: Promtool, helm: Helm, tmp_path: Path
) -> None:
    (rule,) = (
        one
        for one in helm.template({"alerts": {"enabled": True}})
        if one["kind"] == "PrometheusRule"
    )
    (tmp_path / "rules.json").write_text(json.dumps(rule["spec"]), encoding="utf-8")
    [alert] = [
        one for g in rule["spec"]["groups"] for one in g["rules"] if one["alert"] == "RLHFNoLeader"
    ]
    release = rule["metadata"]["namespace"]
    series = {
        (release, "rlhf-5d4f8c7b96-abcde"): "1x20 stale",
        (release, "rlhf-too-5d4f8c7b96-abcde"): "1x60",
        ("elsewhere", "rlhf-5d4f8c7b96-abcde"): "1x60",
    }
    fires = {
        "exp_labels": {"severity": "critical", "namespace": release},
        "exp_annotations": alert["annotations"],
    }
    case = {
        "interval": "30s",
        "input_series": [
            {"series": f'rlhf_operator_leads{{namespace="{where}",pod="{pod}"}}', "values": values}
            for (where, pod), values in series.items()
        ],
        "alert_rule_test": [
            {"eval_time": time, "alertname": "RLHFNoLeader", "exp_alerts": alerts}
            for time, alerts in (("10m", []), ("20m", [fires]))
        ],
    }
    path = tmp_path / "cases.json"
    path.write_text(json.dumps({"rule_files": ["rules.json"], "tests": [case]}), encoding="utf-8")
    promtool("test", "rules", str(path))


def test_example_of_scrapes_is_a_configuration(promtool: Promtool) -> None:
    path = ROOT / "examples" / "prometheus.yaml"
    assert "SUCCESS" in promtool("check", "config", "--syntax-only", str(path))
