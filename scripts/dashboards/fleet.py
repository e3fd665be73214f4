"""The dashboard *Fleet*: all runs, and the operator that looks after them."""

from grafana_foundation_sdk.builders import dashboard
from grafana_foundation_sdk.models import units

from dashboards.panels import STEPS_WINDOW, Panel, Query, add_rows, board, mark

HOURS = "suffix: GPU h"


def in_an_hour(counter: str, *, by: str) -> str:
    """Return the query of what rare events there were: a rate of one event in minutes misleads."""
    return f"sum by ({by}) (increase({counter}[1h]))"


def mean(series: str, *, by: str) -> str:
    """Return the query of a histogram's mean over the time shown, if anything was observed."""
    total = f"sum by ({by}) (increase({series}_sum[$__range]))"
    number = f"sum by ({by}) (increase({series}_count[$__range]))"
    return f"{total} / ({number} > 0)"


def quantile(share: float, series: str) -> str:
    """Return the query of a quantile of one of the operator's histograms."""
    rate = f"sum by (le) (rate({series}_bucket[$__rate_interval]))"
    return f"histogram_quantile({share}, {rate})"


RUNS = (
    Panel(
        "Runs by phase",
        "Runs that have not been deleted, by what `kubectl get rlhf` prints: the phase that is "
        "due, or how the run ended.",
        units.Short,
        (Query("sum by (phase) (rlhf_operator_runs)", "{{phase}}"),),
        minimum=0,
    ),
    Panel(
        "Runs that ended",
        "In the hour before, by outcome.",
        units.Short,
        (Query(in_an_hour("rlhf_operator_runs_finished_total", by="outcome"), "{{outcome}}"),),
        minimum=0,
    ),
    Panel(
        "GPU hours",
        "Of attempts that ended in the time shown, by phase. Those that still run are not in it.",
        HOURS,
        (
            Query(
                "sum by (phase_name) (increase(rlhf_operator_gpu_seconds_total[$__range])) / 3600",
                "{{phase_name}}",
            ),
        ),
        minimum=0,
    ),
    Panel(
        "KL of the limit, highest",
        "The ten runs that are nearest to their KL limit, or above it.",
        units.PercentUnit,
        (Query("topk(10, rlhf_kl_nats / rlhf_kl_limit_nats)", "{{namespace}}/{{run}}"),),
        minimum=0,
    ),
    Panel(
        "Stops on KL",
        "Runs ended by the rule on KL in the hour before, by who applied it. Stops by the "
        "operator mean that a trainer's own guard did not act.",
        units.Short,
        (Query(in_an_hour("rlhf_operator_kl_stops_total", by="by"), "{{by}}"),),
        minimum=0,
    ),
    Panel(
        "Retries",
        "Attempts after the first of their phase in the hour before. One phase that stands out "
        "is a bug or bad data; all of them together are the machines.",
        units.Short,
        (Query(in_an_hour("rlhf_operator_retries_total", by="phase_name"), "{{phase_name}}"),),
        minimum=0,
    ),
    Panel(
        "Throughput",
        f"Tokens per second of all runs, by kind; mean over the {STEPS_WINDOW} before, since "
        "tokens are counted once a step.",
        "suffix: tokens/s",
        (Query(f"sum by (kind) (rate(rlhf_tokens_total[{STEPS_WINDOW}]))", "{{kind}}"),),
        minimum=0,
    ),
    Panel(
        "Time of a phase",
        "Mean over the phases that were completed in the time shown, from the first attempt to the "
        "end.",
        units.Seconds,
        (Query(mean("rlhf_operator_phase_duration_seconds", by="phase_name"), "{{phase_name}}"),),
        minimum=0,
    ),
    Panel(
        "Trainers that do not answer",
        "Pods of runs whose metrics Prometheus cannot read.",
        units.Short,
        (Query('count by (namespace) (up{run!=""} == 0)', "{{namespace}}"),),
        minimum=0,
    ),
)

OPERATOR = (
    Panel(
        "Who leads",
        "1 in the replica that works. Never more than one; none for longer than a few seconds "
        "means that nobody looks after the runs.",
        units.Short,
        (Query("rlhf_operator_leads", "{{namespace}}/{{pod}}"),),
        minimum=0,
        maximum=1,
    ),
    Panel(
        "Time of a pass",
        "One look at one run, its writes included.",
        units.Seconds,
        (
            Query(quantile(0.5, "rlhf_operator_pass_duration_seconds"), "median"),
            Query(quantile(0.99, "rlhf_operator_pass_duration_seconds"), "99 %"),
        ),
        minimum=0,
    ),
    Panel(
        "Passes",
        "Per second, and how many of them failed and were tried again.",
        "suffix: /s",
        (
            Query(
                "sum(rate(rlhf_operator_pass_duration_seconds_count[$__rate_interval]))", "passes"
            ),
            Query("sum(rate(rlhf_operator_pass_errors_total[$__rate_interval]))", "failed"),
        ),
        minimum=0,
    ),
    Panel(
        "Runs that wait for a pass",
        "Near 0 when the operator keeps up; the chart's value `workers` says how many it looks at "
        "at a time.",
        units.Short,
        (Query("sum(rlhf_operator_queue_depth)", "waiting"),),
        minimum=0,
    ),
    Panel(
        "Readings that brought nothing",
        "Of trainers' metrics, by the operator's watchdog, per second. Some are normal at the "
        "start and the end of an attempt.",
        "suffix: /s",
        (Query("sum(rate(rlhf_operator_scrape_failures_total[$__rate_interval]))", "failed"),),
        minimum=0,
    ),
    Panel(
        "Runs that the operator cannot read",
        "Live attempts whose metrics bring nothing: outside the trainer nobody holds their KL to "
        "its limit, or sees a hang.",
        units.Short,
        (Query("sum by (run_namespace) (rlhf_operator_metrics_unreadable)", "{{run_namespace}}"),),
        minimum=0,
    ),
)


def fleet_dashboard() -> dashboard.Dashboard:
    """Return the dashboard of all runs."""
    made = board("rlhf-fleet", "RLHF / Fleet", "All RLHFRuns, and the operator.")
    stops = "increase(rlhf_operator_kl_stops_total[5m]) > 0"
    made.annotation(mark("Stop on KL", stops, "by {{by}}", colour="red"))
    return add_rows(made, {"Runs": RUNS, "Operator": OPERATOR})
