"""Draws charts as SVG; colours and type are those of the page's stylesheet.

Nothing is fetched and nothing runs: what a pointer shows is in `data-hover`, for `page.js`.
"""

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from rlhf_trainer.report.chart import (
    DENSE_POINTS,
    Axis,
    Chart,
    Line,
    Mark,
    Point,
    Rule,
    axis,
    bounded,
    runs,
    smoothed,
    step_axis,
    thinned,
)
from rlhf_trainer.report.formats import NOT_A_NUMBER, number, tick_labels

_CHARACTER = 6.4
"""Width of a digit of tick labels, in pixels."""

_TOP, _BOTTOM, _RIGHT = 24.0, 26.0, 10.0
_LEAST_LEFT = 40.0
"""Room for the name of the x axis."""

_PIXELS_PER_X_TICK, _PIXELS_PER_Y_TICK = 76, 44

_HEADROOM = 0.1
"""Share of a rule's value that the axis goes on above it."""

_LABEL_GAP = 14.0
"""Least distance between the baselines of two labels."""

_MISSING = "\N{MULTIPLICATION SIGN}"
"""Stands at the top where a value is not a number."""

_DEVIATIONS = 2
"""Standard errors that a band shows to either side."""


@dataclass(frozen=True)
class _Frame:
    """The plotting area, and how values map onto it."""

    width: float
    height: float
    left: float
    x: Axis
    y: Axis

    @property
    def right(self) -> float:
        return self.width - _RIGHT

    @property
    def bottom(self) -> float:
        return self.height - _BOTTOM

    def at_x(self, value: float) -> float:
        share = (value - self.x.low) / (self.x.high - self.x.low)
        return self.left + share * (self.right - self.left)

    def at_y(self, value: float) -> float:
        share = (bounded(value) - self.y.low) / (self.y.high - self.y.low)
        return self.bottom - share * (self.bottom - _TOP)

    def place(self, point: Point) -> str:
        return f"{self.at_x(point[0]):.1f},{self.at_y(point[1]):.1f}"


def draw_lines(chart: Chart, width: float, height: float) -> str:
    """Return a line chart."""
    lines = [Line(line.label, thinned(line.points), line.spread) for line in chart.lines]
    means = [
        thinned(smoothed(line.points)) if len(line.points) >= DENSE_POINTS else []
        for line in chart.lines
    ]
    frame = _frame(chart, lines, width, height)
    inner = [
        *(_zone(frame, rule) for rule in chart.rules if rule.kind == "limit"),
        *_axes(frame, chart),
        *(_across(frame, frame.at_y(rule.value), f"rule {rule.kind}") for rule in chart.rules),
        *(part for index, line in enumerate(lines) for part in _line(frame, line, index, means)),
        *_rule_labels(frame, chart, lines),
        *_marks(frame, chart.marks),
    ]
    return _svg(chart, frame, lines, inner)


def draw_bars(chart: Chart, width: float, height: float) -> str:
    """Return a chart of bars, in which the lines' values are stacked."""
    lines = chart.lines
    steps = sorted({x for line in lines for x, _ in line.points})
    by_step = [dict(line.points) for line in lines]
    sums = [math.fsum(values.get(step, 0.0) for values in by_step) for step in steps]
    left = _left(axis(sums, 4, include=[0.0]), chart)
    spacing = (steps[-1] - steps[0]) / max(1, len(steps) - 1) or 1.0
    ends = (steps[0] - spacing / 2, steps[-1] + spacing / 2)
    ticks = step_axis(steps, round((width - left) / _PIXELS_PER_X_TICK)).ticks
    y_axis = axis(sums, round(height / _PIXELS_PER_Y_TICK), include=[0.0])
    frame = _Frame(width, height, left, Axis(*ends, ticks), y_axis)
    bar = max(1.0, 0.8 * (frame.right - frame.left) / max(1, len(steps)))
    inner = list(_axes(frame, chart))
    for step in steps:
        base = 0.0
        for index, values in enumerate(by_step):
            top = base + values.get(step, 0.0)
            y, size = frame.at_y(top), frame.at_y(base) - frame.at_y(top)
            inner.append(
                f'<rect class="bar c{index}" x="{frame.at_x(step) - bar / 2:.1f}" y="{y:.1f}"'
                f' width="{bar:.1f}" height="{max(0.0, size):.2f}"/>'
            )
            base = top
    return _svg(chart, frame, lines, inner)


def draw_spark(points: Sequence[Point], width: float, height: float) -> str:
    """Return a line without axes: only where a number came from."""
    shown = smoothed(points) if len(points) >= DENSE_POINTS else points
    kept = [point for point in thinned(shown) if math.isfinite(point[1])]
    if len(kept) <= 1:
        return ""
    steps, values = [x for x, _ in kept], [bounded(y) for _, y in kept]
    pad = 4.0
    wide, high = max(steps) - min(steps) or 1.0, max(values) - min(values) or 1.0
    placed = [
        (
            pad + (width - 2 * pad) * (x - min(steps)) / wide,
            height - pad - (height - 2 * pad) * (y - min(values)) / high,
        )
        for x, y in zip(steps, values, strict=True)
    ]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
    return (
        f'<svg class="spark" viewBox="0 0 {width:g} {height:g}" aria-hidden="true">'
        f'<polyline class="line c0" points="{path}"/>'
        f'<circle class="dot c0" cx="{placed[-1][0]:.1f}" cy="{placed[-1][1]:.1f}" r="3"/></svg>'
    )


def _frame(chart: Chart, lines: Sequence[Line], width: float, height: float) -> _Frame:
    values = [y for line in lines for _, y in line.points]
    for line in lines:
        spread = dict(line.spread)
        values += [y + _DEVIATIONS * spread.get(x, 0.0) for x, y in line.points]
    include = [0.0] if chart.from_zero else []
    for rule in chart.rules:
        # A line that must not be crossed needs room above it, for its name and for what lies there.
        include.append(rule.value + _HEADROOM * abs(rule.value))
        include.append(rule.value)
    y_axis = axis(values, round((height - _TOP - _BOTTOM) / _PIXELS_PER_Y_TICK), include=include)
    left = _left(y_axis, chart)
    steps = [x for line in lines for x, _ in line.points]
    x_axis = step_axis(steps, round((width - left) / _PIXELS_PER_X_TICK))
    return _Frame(width, height, left, x_axis, y_axis)


def _left(y_axis: Axis, chart: Chart) -> float:
    widest = max(map(len, tick_labels(y_axis.ticks, chart.write).values()))
    return max(_LEAST_LEFT, 12 + _CHARACTER * widest)


def _axes(frame: _Frame, chart: Chart) -> Iterable[str]:
    for tick, label in tick_labels(frame.y.ticks, chart.write).items():
        y = frame.at_y(tick)
        kind = "base" if tick == frame.y.low else "grid"
        yield _across(frame, y, kind)
        yield _text(frame.left - 7, y + 4, label, "tick end")
    for tick in frame.x.ticks:
        x = frame.at_x(tick)
        yield (
            f'<line class="base" x1="{x:.1f}" x2="{x:.1f}"'
            f' y1="{frame.bottom}" y2="{frame.bottom + 4}"/>'
        )
        yield _text(x, frame.bottom + 18, number(tick), "tick middle")
    yield _text(frame.left - 14, frame.bottom + 18, chart.x_label, "name end")
    yield _text(0, 11, chart.unit, "name")


def _zone(frame: _Frame, rule: Rule) -> str:
    top, y = frame.at_y(frame.y.high), frame.at_y(rule.value)
    return (
        f'<rect class="zone" x="{frame.left}" y="{top:.1f}"'
        f' width="{frame.right - frame.left:.1f}" height="{max(0.0, y - top):.1f}"/>'
    )


def _rule_labels(frame: _Frame, chart: Chart, lines: Sequence[Line]) -> Iterable[str]:
    above = math.inf
    for rule in sorted(chart.rules, key=lambda rule: rule.value):
        y = frame.at_y(rule.value)
        label = y - 5 if above - y >= _LABEL_GAP else y + 13
        text = f"{rule.label} {chart.write(rule.value)}"
        if _is_nearer_at_the_end(rule, lines):
            yield _text(frame.left + 8, label, text, f"label {rule.kind}")
        else:
            yield _text(frame.right - 8, label, text, f"label {rule.kind} end")
        above = y


def _is_nearer_at_the_end(rule: Rule, lines: Sequence[Line]) -> bool:
    """Tell on which side a rule's name would meet a line."""
    stretches = [stretch for line in lines for stretch in runs(line.points)]
    first = min((abs(stretch[0][1] - rule.value) for stretch in stretches), default=1.0)
    last = min((abs(stretch[-1][1] - rule.value) for stretch in stretches), default=0.0)
    return last <= first


def _marks(frame: _Frame, marks: Sequence[Mark]) -> Iterable[str]:
    middle = (frame.left + frame.right) / 2
    for index, mark in enumerate(marks):
        x = frame.at_x(min(max(mark.x, frame.x.low), frame.x.high))
        anchor, gap = ("end", -6) if x > middle else ("", 6)
        yield (
            f'<line class="mark {mark.kind}" x1="{x:.1f}" x2="{x:.1f}"'
            f' y1="{_TOP}" y2="{frame.bottom}"/>'
        )
        yield _text(
            x + gap, _TOP + 12 + _LABEL_GAP * index, mark.label, f"label {mark.kind} {anchor}"
        )


def _line(frame: _Frame, line: Line, index: int, means: Sequence[Sequence[Point]]) -> Iterable[str]:
    mean = means[index]
    spread = dict(line.spread)
    for stretch in runs(line.points):
        if spread:
            offsets = [(x, y, _DEVIATIONS * spread.get(x, 0.0)) for x, y in stretch]
            outline = [(x, _held(frame.y, y + half)) for x, y, half in offsets]
            outline += [(x, _held(frame.y, y - half)) for x, y, half in reversed(offsets)]
            yield f'<polygon class="band c{index}" points="{_points(frame, outline)}"/>'
        scatter = " scatter" if mean else ""
        yield f'<polyline class="line{scatter} c{index}" points="{_points(frame, stretch)}"/>'
    if mean:
        yield f'<polyline class="line c{index}" points="{_points(frame, mean)}"/>'
    finite = [point for point in mean or line.points if math.isfinite(point[1])]
    if finite:
        x, y = frame.at_x(finite[-1][0]), frame.at_y(finite[-1][1])
        yield f'<circle class="dot c{index}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>'
    for x_value, y_value in line.points:
        if not math.isfinite(y_value):
            yield _text(frame.at_x(x_value), _TOP + 10, _MISSING, "label stop middle")


def _held(y_axis: Axis, value: float) -> float:
    return min(max(value, y_axis.low), y_axis.high)


def _points(frame: _Frame, points: Iterable[Point]) -> str:
    return " ".join(frame.place(point) for point in points)


def _across(frame: _Frame, y: float, classes: str) -> str:
    return (
        f'<line class="{classes}" x1="{frame.left:.1f}" x2="{frame.right:.1f}"'
        f' y1="{y:.1f}" y2="{y:.1f}"/>'
    )


def _text(x: float, y: float, text: str, classes: str) -> str:
    return f'<text class="{classes.strip()}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _svg(chart: Chart, frame: _Frame, lines: Sequence[Line], inner: Iterable[str]) -> str:
    hover = escape(json.dumps(_hover(chart, frame, lines), ensure_ascii=False))
    return (
        f'<svg class="chart" viewBox="0 0 {frame.width:g} {frame.height:g}" role="img"'
        f' aria-label="{escape(_spoken(chart))}" data-hover="{hover}">{"".join(inner)}'
        f'<line class="cursor" y1="{_TOP}" y2="{frame.bottom}" visibility="hidden"/></svg>'
    )


def _hover(chart: Chart, frame: _Frame, lines: Sequence[Line]) -> dict[str, object]:
    """Return what stands under a pointer: for every step its place and what to write."""
    by_step = [dict(line.points) for line in lines]
    steps = sorted({x for values in by_step for x in values})
    return {
        "width": frame.width,
        "at": [round(frame.at_x(step), 1) for step in steps],
        "step": [number(step) for step in steps],
        "names": [line.label for line in lines],
        "values": [
            [chart.write(values[step]) if step in values else "" for step in steps]
            for values in by_step
        ],
    }


def _spoken(chart: Chart) -> str:
    """Describe the chart to those who do not see it."""
    ends = [
        f"{line.label} ends at {chart.write(line.points[-1][1])}"
        for line in chart.lines
        if line.points
    ]
    rules = [f"{rule.label} {chart.write(rule.value)}" for rule in chart.rules]
    return f"{chart.title} ({chart.unit}): {', '.join([*ends, *rules]) or NOT_A_NUMBER}"
