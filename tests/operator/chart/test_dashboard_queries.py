"""What dashboards ask for answers what their titles say, by a real Prometheus' arithmetic."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from charting import Promtool

import generate_dashboards
from queries import as_sent

BOARDS = {name: json.loads(text) for name, text in generate_dashboards.texts().items()}

CHOICES = {"$namespace": "research", "$run": "one", "$iteration": ".*", "$phase": ".*"}

ONE = 'namespace="research",run="one",phase="ppo",iteration="1"'
STOP = 'rlhf_operator_stop_kl_nats{run_namespace="research",run_name="one",by="Trainer"'
BREACH = f'rlhf_guard_breaches_total{{{ONE},attempt="1",signal="Entropy",action="Warn"}}'
SECONDS = 'rlhf_operator_phase_duration_seconds_{}{{phase_name="SFT"}}'


def panel(board: str, title: str) -> str:
    [found] = [one for one in BOARDS[board]["panels"] if one["title"] == title]
    expr: str = found["targets"][0]["expr"]
    return expr


def mark(board: str, name: str) -> str:
    [found] = [one for one in BOARDS[board]["annotations"]["list"] if one["name"] == name]
    expr: str = found["target"]["expr"]
    return expr


def asked(
    promtool: Promtool,
    folder: Path,
    expr: str,
    series: Mapping[str, str],
    answers: Mapping[str, Sequence[tuple[str, float]]],
) -> None:
    """Hold what an expression answers, by the time of asking, against labels and values."""
    cases: dict[str, Any] = {
        "interval": "15s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": as_sent(expr, CHOICES),
                "eval_time": time,
                "exp_samples": [{"labels": labels, "value": value} for labels, value in samples],
            }
            for time, samples in answers.items()
        ],
    }
    path = folder / "cases.json"
    # Series are there up to the last evaluation of rules.
    text = json.dumps({"evaluation_interval": "15s", "tests": [cases]})
    path.write_text(text, encoding="utf-8")
    promtool("test", "rules", str(path))


def test_stop_is_marked_once_though_another_replica_tells_of_it_after_a_gap(
    promtool: Promtool, tmp_path: Path
) -> None:
    series = {
        STOP + ',pod="rlhf-0"}': "_x20 22x20 stale",
        STOP + ',pod="rlhf-1"}': "_x50 22x100",
    }
    answers = {"5m15s": [('{by="Trainer"}', 22.0)], "7m": [], "12m45s": [], "20m": []}
    asked(promtool, tmp_path, mark("rlhf-run.json", "Stopped on KL"), series, answers)


def test_breach_is_marked_as_it_happens_and_not_after_a_missed_scrape(
    promtool: Promtool, tmp_path: Path
) -> None:
    series = {BREACH: "_x20 1x20 stale _x40 1x100"}
    here = (BREACH, 1.0)
    answers: dict[str, list[tuple[str, float]]] = {"5m15s": [here], "7m": [], "20m45s": []}
    asked(promtool, tmp_path, mark("rlhf-run.json", "Breach"), series, answers)


def test_attempts_are_counted_that_ended_before_they_measured_anything(
    promtool: Promtool, tmp_path: Path
) -> None:
    series = {
        f'rlhf_run_info{{{ONE},attempt="1",run_name="one"}}': "1x10 stale",
        f'rlhf_run_info{{{ONE},attempt="2",run_name="one"}}': "_x20 1x100",
        f'rlhf_step{{{ONE},attempt="2"}}': "_x40 1x80",
    }
    answers = {"20m": [('{phase="ppo"}', 2.0)]}
    asked(promtool, tmp_path, panel("rlhf-run.json", "Attempts"), series, answers)


def test_time_of_a_phase_is_its_mean_and_nothing_where_none_was_completed(
    promtool: Promtool, tmp_path: Path
) -> None:
    series = {
        SECONDS.format("sum"): "0x20 5000x20 12000x100",
        SECONDS.format("count"): "0x20 1x20 2x100",
    }
    answers: dict[str, list[tuple[str, float]]] = {
        "4m": [],
        "20m": [('{phase_name="SFT"}', 6000.0)],
    }
    asked(promtool, tmp_path, panel("rlhf-fleet.json", "Time of a phase"), series, answers)


@pytest.mark.parametrize("board", BOARDS)
def test_throughput_holds_between_the_steps_that_count(
    promtool: Promtool, tmp_path: Path, board: str
) -> None:
    # A step of five minutes with 3,000 tokens.
    counted = " ".join(f"{3000 * step}x19" for step in range(8))
    series = {f'rlhf_tokens_total{{{ONE},attempt="1",kind="trained"}}': counted}
    answers = {time: [('{kind="trained"}', 10.0)] for time in ("31m", "33m")}
    # Prometheus stretches what it has seen over the ends of the window.
    asked(promtool, tmp_path, f"round({panel(board, 'Throughput')})", series, answers)
