"""Dashboards ask for what exists, and say what they show."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from grafana_foundation_sdk.models import units

import generate_dashboards
from queries import problems

BOARDS = {name: json.loads(text) for name, text in generate_dashboards.texts().items()}
PANELS = [
    pytest.param(panel, id=f"{name}-{panel['title']}")
    for name, board in BOARDS.items()
    for panel in board["panels"]
    if panel["type"] != "row"
]
UNITS = {value for name, value in vars(units).items() if isinstance(value, str) and name[0] != "_"}

WANTED = {
    "rlhf-run.json": {
        "rlhf_kl_nats",
        "rlhf_kl_limit_nats",
        "rlhf_kl_target_nats",
        "rlhf_reward_score",
        "rlhf_entropy_nats_per_token",
        "rlhf_response_length_tokens",
        "rlhf_loss",
        "rlhf_preference_accuracy",
        "rlhf_win_rate",
        "rlhf_tokens_total",
        "rlhf_step_duration_seconds",
        "rlhf_resident_memory_bytes",
    },
    "rlhf-fleet.json": {
        "rlhf_operator_runs",
        "rlhf_operator_gpu_seconds_total",
        "rlhf_operator_kl_stops_total",
        "rlhf_operator_retries_total",
        "rlhf_operator_pass_duration_seconds_bucket",
        "rlhf_operator_pass_errors_total",
        "rlhf_operator_leads",
    },
}
"""What somebody on call looks for."""


def queries(board: dict[str, Any]) -> Iterator[str]:
    for panel in board["panels"]:
        yield from (target["expr"] for target in panel.get("targets", []))
    yield from (mark["target"]["expr"] for mark in board["annotations"]["list"])


@pytest.mark.parametrize("name", BOARDS)
def test_dashboard_queries_are_sound(name: str) -> None:
    assert [problem for query in queries(BOARDS[name]) for problem in problems(query)] == []


@pytest.mark.parametrize("name", BOARDS)
def test_dashboard_windows_hold_several_readings(name: str) -> None:
    windows = re.findall(r"\[(\w+)\]", " ".join(queries(BOARDS[name])))
    assert set(windows) <= {"5m", "15m", "1h", "1d"}


@pytest.mark.parametrize("name", BOARDS)
def test_dashboard_shows_what_is_looked_for(name: str) -> None:
    text = " ".join(queries(BOARDS[name]))
    assert [series for series in sorted(WANTED[name]) if series not in text] == []


@pytest.mark.parametrize("panel", PANELS)
def test_panel_says_what_it_shows_and_in_which_unit(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert panel["description"].endswith(".")
    assert panel["targets"]
    assert all(target["legendFormat"] for target in panel["targets"])
    unit = panel["fieldConfig"]["defaults"]["unit"]
    assert unit in UNITS or unit.startswith("suffix: ")


@pytest.mark.parametrize("name", BOARDS)
def test_dashboard_is_marked_and_its_panels_are_told_apart(name: str) -> None:
    board = BOARDS[name]
    assert "DO NOT EDIT" in board["description"]
    assert board["uid"] == name.removesuffix(".json")
    for key in ("title", "id"):
        values = [panel[key] for panel in board["panels"]]
        assert len(values) == len(set(values))


def test_run_variables_are_asked_of_series_that_exist() -> None:
    variables = BOARDS["rlhf-run.json"]["templating"]["list"]
    asked = [v["query"] for v in variables if v["type"] == "query"]
    assert [v["name"] for v in variables] == [
        "datasource",
        "namespace",
        "run",
        "iteration",
        "phase",
    ]
    for query in asked:
        selector = query.removeprefix("label_values(").rpartition(",")[0]
        assert list(problems(selector)) == []
