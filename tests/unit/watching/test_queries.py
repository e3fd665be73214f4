"""What is wrong with a query is found, and a query that is right passes."""

import pytest

from queries import known_series, problems


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        pytest.param("rate(rlhf_tokens_total[5m]", "cannot be parsed", id="bracket"),
        pytest.param("rate(rlhf_tokens_total)", "cannot be parsed", id="no-range"),
        pytest.param("rlhf_kl", "nobody exports 'rlhf_kl'", id="no-such-series"),
        pytest.param("rate(rlhf_tokens[5m])", "nobody exports 'rlhf_tokens'", id="in-a-range"),
        pytest.param("max_over_time(sum(rlhf_kl)[1h:1m])", "nobody exports", id="in-a-subquery"),
        pytest.param('rlhf_loss{nme="sft"}', "rlhf_loss has no label 'nme'", id="no-such-label"),
        pytest.param("sum by (kind) (rlhf_step)", "groups by 'kind'", id="aggregation"),
        pytest.param("rlhf_step * on (stage) rlhf_step", "groups by 'stage'", id="matching"),
        pytest.param(
            "rlhf_step * on (run) group_left (kind) rlhf_step", "groups by 'kind'", id="group-left"
        ),
    ],
)
def test_problems_of_a_bad_query_are_named(query: str, complaint: str) -> None:
    [problem] = problems(query)
    assert complaint in problem


@pytest.mark.parametrize(
    "query",
    [
        'rlhf_kl_nats{namespace="$namespace",run=~"$run"} / rlhf_kl_limit_nats',
        "sum by (kind) (rate(rlhf_tokens_total[$__rate_interval]))",
        "histogram_quantile(0.5, rate(rlhf_operator_pass_duration_seconds_bucket[5m]))",
        'up{run!=""} == 0',
    ],
)
def test_problems_of_a_good_query_are_none(query: str) -> None:
    assert list(problems(query)) == []


def test_known_series_hold_both_sides() -> None:
    assert {"rlhf_run_info", "rlhf_heartbeat_total", "rlhf_operator_runs"} <= known_series().keys()
    assert {"phase", "outcome"} <= known_series()["rlhf_operator_runs"]
