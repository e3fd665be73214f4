"""Draws both dashboards from a Prometheus that watched a run: `dashboard_pictures.py URL NS RUN`.

`make cluster` prints the address of such a Prometheus. docs/dashboard-run.svg and
docs/dashboard-fleet.svg are made by it.
"""

import argparse
import json
import sys
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import generate_dashboards
from dashboards.picture import Curve, Moment, Picture, draw, named
from queries import as_sent

DOCS = Path(__file__).resolve().parents[1] / "docs"

STEP_SECONDS = 2

LOOK_BACK_SECONDS = 6 * 3600
"""The time that dashboards show at first, and longest age of the run."""

AFTER_SECONDS = 30
"""Shown after the run's end: what the operator counted then."""


@dataclass(frozen=True)
class Source:
    """A Prometheus and the time to be shown."""

    url: str
    start: float
    end: float

    def range(self, expr: str) -> list[tuple[Mapping[str, str], list[tuple[float, float]]]]:
        """Return labels and points of every series, by seconds since the start."""
        times = {"start": self.start, "end": self.end, "step": STEP_SECONDS}
        return [
            (one["metric"], [(float(at) - self.start, float(value)) for at, value in one["values"]])
            for one in ask(self.url, "query_range", {"query": expr, **times})
        ]


def ask(url: str, path: str, parameters: Mapping[str, object]) -> list[dict[str, Any]]:
    """Return the series that Prometheus answers with."""
    body = urllib.parse.urlencode(parameters).encode()
    with urllib.request.urlopen(f"{url}/api/v1/{path}", body, timeout=60) as answer:  # noqa: S310 - the user's own
        found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return found


def time_of(url: str, namespace: str, run: str) -> tuple[float, float]:
    """Return when a run's first and last sample were read."""
    chosen = f'rlhf_run_info{{namespace="{namespace}",run="{run}"}}'
    times = f"timestamp({chosen})[{LOOK_BACK_SECONDS}s:1s]"
    ends = [
        [
            float(one["value"][1])
            for one in ask(url, "query", {"query": f"{which}_over_time({times})"})
        ]
        for which in ("min", "max")
    ]
    if not ends[0]:
        raise SystemExit(f"{url} has read nothing of run {namespace}/{run}")
    return min(ends[0]), max(ends[1])


def picture(board: Mapping[str, Any], source: Source, choices: Mapping[str, str]) -> Picture:
    """Ask for everything that a dashboard shows."""
    curves: dict[int, Sequence[Curve]] = {}
    for panel in board["panels"]:
        found = [
            Curve(named(target["legendFormat"], labels), points)
            for target in panel.get("targets", [])
            for labels, points in source.range(as_sent(target["expr"], choices))
        ]
        curves[panel["id"]] = found
    moments = [
        Moment(points[0][0], mark["iconColor"])
        for mark in board["annotations"]["list"]
        for _, points in source.range(as_sent(mark["target"]["expr"], choices))
    ]
    heading = f"{board['title']}: {choices['$namespace']}/{choices['$run']}"
    if "$run" not in json.dumps(board):
        heading = str(board["title"])
    return Picture(board, curves, moments, source.end - source.start, heading)


def main() -> int:
    """Write the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url", help="of a Prometheus, such as the one of `make cluster`")
    parser.add_argument("namespace")
    parser.add_argument("run")
    arguments = parser.parse_args()
    start, end = time_of(arguments.url, arguments.namespace, arguments.run)
    source = Source(arguments.url, start - 2, end + AFTER_SECONDS)
    choices = {
        "$namespace": arguments.namespace,
        "$run": arguments.run,
        "$iteration": ".*",
        "$phase": ".*",
        "$__rate_interval": "20s",
        "$__range": f"{round(source.end - source.start)}s",
    }
    for name, text in generate_dashboards.texts().items():
        drawn = draw(picture(json.loads(text), source, choices))
        path = DOCS / f"dashboard-{name.removeprefix('rlhf-').removesuffix('.json')}.svg"
        path.write_text(drawn, encoding="utf-8")
        print(f"{path}: {len(drawn) / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
