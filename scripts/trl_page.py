"""Compares PPO curves of TRL and ours, and writes what came out: `trl_page.py CURVES PAGE`.

CURVES is what the test of the same run leaves: JSON, side -> metric -> one list of steps per seed.
PAGE is docs/trl.md; its table is written anew, and the plot beside it.
"""

import argparse
import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlhf_trainer.report.chart import Chart, Line
from rlhf_trainer.report.svg import draw_lines

Curves = Sequence[Sequence[float]]
"""One list of steps per seed."""
Side = Mapping[str, Curves]
"""Curves by metric."""

TRL, OURS, CONTROL = "TRL", "ours", "control"
METRICS = {"reward": "score units", "KL": "nats per response"}
STANDARD_ERRORS = 3.0
STANDARD_ERRORS_OF_A_STEP = 4.0
"""The largest of all steps is allowed more: there are as many tries as steps."""

BEGIN, END = "<!-- measured: begin -->\n", "<!-- measured: end -->\n"
_WIDTH, _HEIGHT = 420.0, 260.0
_STYLE = """
text{font:11px system-ui,sans-serif;fill:#666}
.grid{stroke:#8883;stroke-width:1}.base{stroke:#888;stroke-width:1}
.line{fill:none;stroke-width:1.8}.band{opacity:.18}.cursor{display:none}
.line.c0{stroke:#2a78d6}.dot.c0,.band.c0,.key.c0{fill:#2a78d6}
.line.c1{stroke:#d65f2a}.dot.c1,.band.c1,.key.c1{fill:#d65f2a}
.end{text-anchor:end}.middle{text-anchor:middle}
"""


@dataclass(frozen=True)
class Check:
    """A difference between two sides, and what it is held against."""

    metric: str
    where: str
    trl: float
    ours: float
    standard_error: float
    """Of the difference, from the scatter between seeds."""
    limit: float = STANDARD_ERRORS
    """In standard errors."""

    @property
    def distance(self) -> float:
        """The difference in standard errors."""
        return (self.ours - self.trl) / self.standard_error

    @property
    def passes(self) -> bool:
        """Whether the difference is within noise."""
        return abs(self.distance) <= self.limit


def compare(trl: Side, ours: Side) -> list[Check]:
    """Compare two sides of at least two seeds: on average, at the end, and at the worst step."""
    return [check for metric in METRICS for check in _checks(metric, trl[metric], ours[metric])]


def _checks(metric: str, trl: Curves, ours: Curves) -> list[Check]:
    steps = len(trl[0])
    last = steps - max(1, steps // 4)
    checks = []
    for where, begin in (("mean of all steps", 0), ("mean of the last quarter", last)):
        means = [[statistics.fmean(run[begin:]) for run in side] for side in (trl, ours)]
        error = math.sqrt(_pooled(*means) * (1 / len(trl) + 1 / len(ours)))
        checks.append(
            Check(metric, where, statistics.fmean(means[0]), statistics.fmean(means[1]), error)
        )
    by_step = [[[run[step] for run in side] for side in (trl, ours)] for step in range(steps)]
    pooled = statistics.fmean(_pooled(*both) for both in by_step)
    error = math.sqrt(pooled * (1 / len(trl) + 1 / len(ours)))
    distances = [
        Check(
            metric,
            f"step {step}, the farthest apart",
            statistics.fmean(both[0]),
            statistics.fmean(both[1]),
            error,
            STANDARD_ERRORS_OF_A_STEP,
        )
        for step, both in enumerate(by_step)
    ]
    worst = max(distances, key=lambda check: abs(check.distance))
    return [*checks, worst]


def _pooled(first: Sequence[float], second: Sequence[float]) -> float:
    return (statistics.variance(first) + statistics.variance(second)) / 2


def table(checks: Sequence[Check]) -> str:
    """Return the checks as a Markdown table."""
    lines = [
        "| curve | where | TRL | ours | difference | standard error | in standard errors | limit |",
        "|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {check.metric} | {check.where} | {check.trl:.3f} | {check.ours:.3f} "
        f"| {check.ours - check.trl:+.3f} | {check.standard_error:.3f} "
        f"| {check.distance:+.1f} | {check.limit:g} |"
        for check in checks
    ]
    return "\n".join(lines) + "\n"


def plot(sides: Mapping[str, Side]) -> str:
    """Return both curves as one SVG: means over seeds, and two standard errors around them."""
    parts = []
    for index, (metric, unit) in enumerate(METRICS.items()):
        lines = [_line(side, sides[side][metric]) for side in (TRL, OURS)]
        chart = draw_lines(Chart(metric, f"{metric} ({unit})", lines), _WIDTH, _HEIGHT)
        place = f'x="{index * _WIDTH:g}" y="20" width="{_WIDTH:g}" height="{_HEIGHT:g}"'
        parts.append(chart.replace("<svg ", f"<svg {place} ", 1))
    keys = "".join(
        f'<circle class="key c{index}" cx="{60 + 60 * index}" cy="10" r="4"/>'
        f'<text x="{68 + 60 * index}" y="14">{side}</text>'
        for index, side in enumerate((TRL, OURS))
    )
    size = f'viewBox="0 0 {2 * _WIDTH:g} {_HEIGHT + 20:g}" width="{2 * _WIDTH:g}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size}><style>{_STYLE}</style>'
        f"{keys}{''.join(parts)}</svg>\n"
    )


def _line(label: str, curves: Curves) -> Line:
    steps = [list(values) for values in zip(*curves, strict=True)]
    errors = [statistics.stdev(values) / math.sqrt(len(values)) for values in steps]
    means = [statistics.fmean(values) for values in steps]
    return Line(
        label,
        [(float(step), mean) for step, mean in enumerate(means)],
        [(float(step), error) for step, error in enumerate(errors)],
    )


def main() -> None:
    """Write the page's table and its plot."""
    parser = argparse.ArgumentParser(description="Write docs/trl.md's table and plot.")
    parser.add_argument("curves", type=Path)
    parser.add_argument("page", type=Path)
    arguments = parser.parse_args()
    sides: dict[str, Side] = json.loads(arguments.curves.read_text(encoding="utf-8"))
    measured = table(compare(sides[TRL], sides[OURS]))
    control = table(compare(sides[TRL], sides[CONTROL]))
    text = arguments.page.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    told = (
        f"\n{measured}\nThe same with our KL coefficient at a third, as a control:\n\n{control}\n"
    )
    arguments.page.write_text(f"{before}{BEGIN}{told}{END}{after}", encoding="utf-8")
    arguments.page.with_suffix(".svg").write_text(plot(sides), encoding="utf-8")


if __name__ == "__main__":
    main()
