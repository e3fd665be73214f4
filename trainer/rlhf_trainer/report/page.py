"""Puts a report together: one HTML file without a reference to anything outside of it."""

import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from pydantic import JsonValue
from ruamel.yaml import YAML

from rlhf_trainer.contract import Workspace
from rlhf_trainer.report.advice import advise
from rlhf_trainer.report.chart import Chart
from rlhf_trainer.report.curves import Group, groups, leading_chart
from rlhf_trainer.report.facts import RunFacts
from rlhf_trainer.report.formats import duration
from rlhf_trainer.report.panels import Tile, choices, compared_rows, phase_rows, sample_rows, tiles
from rlhf_trainer.report.reading import read_run
from rlhf_trainer.report.story import tell
from rlhf_trainer.report.svg import draw_bars, draw_lines, draw_spark

_LEADING_SIZE = (758.0, 332.0)
_CHART_SIZE = (370.0, 190.0)
_SPARK_SIZE = (120.0, 44.0)
"""Drawn size in pixels; the page scales them with its width."""

_COLUMNS = 3
_COLUMN_GAP = 48.0
"""Pixels between the drawings of neighbouring columns."""

_SAMPLES_SHOWN = 8
"""The rest can be unfolded."""


@dataclass(frozen=True)
class _Figure:
    chart: Chart
    drawing: Markup
    legend: Sequence[tuple[str, str]]
    """Name and last value of every line."""


def write_report(root: Path, output: Path | None = None) -> Path:
    """Write the report on a workspace; return where it is."""
    path = output or Workspace(root).report
    path.write_text(render(read_run(root), time.time()), encoding="utf-8")
    return path


def render(facts: RunFacts, now: float) -> str:
    """Return the report as HTML."""
    environment = Environment(
        loader=PackageLoader("rlhf_trainer.report", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    story = tell(facts)
    leading = leading_chart(facts)
    samples = sample_rows(facts.samples)
    return environment.get_template("report.html").render(
        style=_asset(environment, "report.css"),
        script=_asset(environment, "report.js"),
        facts=facts,
        written=datetime.fromtimestamp(now, UTC).strftime("%-d %B %Y, %H:%M UTC"),
        overline=_overline(facts),
        story=story,
        advice=advise(facts, story),
        leading=_figure(leading) if leading else None,
        tiles=[(tile, _spark(tile)) for tile in tiles(facts)],
        phases=phase_rows(facts),
        compared=compared_rows(facts),
        groups=[_drawn(group) for group in groups(facts)],
        samples=samples[:_SAMPLES_SHOWN],
        more_samples=samples[_SAMPLES_SHOWN:],
        choices=choices(facts.samples),
        configuration=_yaml(facts.shown_config),
    )


def _overline(facts: RunFacts) -> str:
    parts = ["RLHF run"]
    if facts.config is not None:
        parts[0] += f" of {facts.config.model.source}"
    if facts.iteration > 1:
        parts.append(f"iteration {facts.iteration}")
    seconds = sum(phase.duration_seconds for phase in facts.phases)
    if seconds:
        parts.append(f"{duration(seconds)} in all")
    return " · ".join(parts)


def _asset(environment: Environment, name: str) -> Markup:
    """Return a file of the page's own, which is trusted as it is."""
    source, _, _ = environment.loader.get_source(environment, name)  # type: ignore[union-attr]
    return Markup(source)  # noqa: S704 - shipped with this package


def _figure(chart: Chart) -> _Figure:
    return _Figure(chart, _markup(draw_lines(chart, *_LEADING_SIZE)), _legend(chart))


def _drawn(group: Group) -> dict[str, object]:
    return {
        "title": group.title,
        "figures": [
            _Figure(chart, _markup(draw_lines(chart, *_CHART_SIZE)), _legend(chart))
            for chart in group.charts
        ],
        "stages": _stages(group),
        "span": _columns_left(group),
        "events": group.events,
        "dense": any(chart.is_dense for chart in group.charts),
    }


def _stages(group: Group) -> _Figure | None:
    if group.stages is None:
        return None
    columns = _columns_left(group)
    width = columns * _CHART_SIZE[0] + (columns - 1) * _COLUMN_GAP
    drawing = draw_bars(group.stages, width, _CHART_SIZE[1])
    return _Figure(group.stages, _markup(drawing), _shares(group.stages))


def _columns_left(group: Group) -> int:
    """Return how wide the chart of stages is: it fills the last row, or has one of its own."""
    return -len(group.charts) % _COLUMNS or _COLUMNS


def _legend(chart: Chart) -> list[tuple[str, str]]:
    return [
        (line.label, chart.write(line.points[-1][1])) if line.points else (line.label, "")
        for line in chart.lines
    ]


def _shares(stages: Chart) -> list[tuple[str, str]]:
    """Return each stage's share of all time."""
    sums = [sum(seconds for _, seconds in line.points) for line in stages.lines]
    total = sum(sums) or 1.0
    return [
        (line.label, f"{100 * seconds / total:.0f}%")
        for line, seconds in zip(stages.lines, sums, strict=True)
    ]


def _spark(tile: Tile) -> Markup:
    return _markup(draw_spark(tile.points, *_SPARK_SIZE))


def _markup(drawing: str) -> Markup:
    """Trust a drawing: `svg` escapes every text that it writes."""
    return Markup(drawing)  # noqa: S704 - see above


def _yaml(config: Mapping[str, JsonValue]) -> str:
    if not config:
        return ""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    text = io.StringIO()
    yaml.dump(dict(config), text)
    return text.getvalue()
