"""Draws a dashboard as one SVG: its own layout, titles, units and legends, over real series."""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from typing import Any

from rlhf_trainer.report.chart import Axis, Point, axis, step_axis, thinned
from rlhf_trainer.report.formats import number, percent, tick_labels

COLUMN, ROW, GAP, MARGIN = 50.0, 26.0, 8.0, 10.0
"""Of Grafana's grid, in pixels."""

POINTS = 90
"""Of a curve: a panel is about four times as wide, and a picture is to stay small."""

LEGENDS = 4
"""Curves that a panel names; one more line says how many others there are."""

WIDE = 2
"""Numbers beside each other whose names fit in the usual type."""

COLOURS = ("#2a78d6", "#d65f2a", "#2a9d5c", "#8a56c2", "#c2a21e", "#c2407a", "#3aa6b9", "#777777")

_BREAK_SECONDS = 15.0
"""A curve with a longer gap than this has ended and begun again."""

_STYLE = """
text{font:11px system-ui,sans-serif;fill:#555}.title{font-weight:600;fill:#222}
.head{font-size:17px;font-weight:600;fill:#222}.row{font-size:13px;font-weight:600;fill:#222}
.value{font-size:20px;font-weight:600;fill:#222}.page{fill:#f4f5f6}.panel{fill:#fff;stroke:#ddd}
.grid{stroke:#8883}.line{fill:none;stroke-width:1.4}.mark{stroke-dasharray:3 2;opacity:.7}
.small{font-size:8px}.end{text-anchor:end}.middle{text-anchor:middle}
"""


Placed = Callable[[Point], tuple[float, float]]
"""Where a point of a panel lies, in pixels."""


@dataclass(frozen=True)
class Curve:
    """What one series of a panel is called, and its values by seconds since the start."""

    name: str
    points: Sequence[Point]


@dataclass(frozen=True)
class Moment:
    """When an annotation begins, and its colour."""

    x: float
    colour: str


@dataclass(frozen=True)
class Picture:
    """A dashboard and what its queries answered."""

    board: Mapping[str, Any]
    curves: Mapping[int, Sequence[Curve]]
    """By the panel's id."""
    moments: Sequence[Moment]
    seconds: float
    """How long the time shown is."""
    heading: str


def named(legend: str, labels: Mapping[str, str]) -> str:
    """Return a legend with the labels put in."""
    return re.sub(r"{{\s*(\w+)\s*}}", lambda found: labels.get(found[1], ""), legend).strip()


def draw(picture: Picture) -> str:
    """Return the SVG."""
    panels = picture.board["panels"]
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    width, height = 24 * COLUMN + 2 * MARGIN, rows * ROW + 44 + MARGIN
    inner = "".join(_placed(picture, panel) for panel in panels)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" role="img"'
        f' aria-label="{escape(picture.heading)}"><style>{_STYLE}</style>'
        f'<rect class="page" width="{width:g}" height="{height:g}"/>'
        f'<text class="head" x="{MARGIN}" y="27">{escape(picture.heading)}</text>{inner}</svg>\n'
    )


def _placed(picture: Picture, panel: Mapping[str, Any]) -> str:
    place = panel["gridPos"]
    x, y = MARGIN + place["x"] * COLUMN, 40 + place["y"] * ROW
    if panel["type"] == "row":
        return f'<text class="row" x="{x:g}" y="{y + 18:g}">{escape(panel["title"])}</text>'
    width, height = place["w"] * COLUMN - GAP, place["h"] * ROW - GAP
    curves = picture.curves.get(panel["id"], ())
    kind = _numbers if panel["type"] == "stat" else _curves
    inner = (
        "".join(kind(picture, panel, curves, width, height)) if curves else _empty(width, height)
    )
    return (
        f'<g transform="translate({x:g} {y:g})">'
        f'<rect class="panel" width="{width:g}" height="{height:g}" rx="3"/>'
        f'<text class="title" x="8" y="17">{escape(panel["title"])}</text>{inner}</g>'
    )


def _empty(width: float, height: float) -> str:
    return _text(width / 2, height / 2, "nothing in this time", "middle")


def _text(x: float, y: float, text: str, classes: str = "") -> str:
    kind = f' class="{classes}"' if classes else ""
    return f'<text{kind} x="{x:.0f}" y="{y:.0f}">{escape(text)}</text>'


def _numbers(
    picture: Picture, panel: Mapping[str, Any], curves: Sequence[Curve], width: float, height: float
) -> Iterator[str]:
    """Yield the newest value of each series, beside each other."""
    del picture
    each, write = (width - 16) / len(curves), _written(panel)
    names = "small middle" if len(curves) > WIDE else "middle"
    for index, curve in enumerate(curves):
        x, text = 8 + each * (index + 0.5), write(curve.points[-1][1])
        yield _text(x, height - 34, text, "value middle")
        # Names of many numbers stand in two lines, so that neighbours do not meet.
        lower = 12 if len(curves) > WIDE and index % 2 else 0
        yield _text(x, height - 20 + lower, curve.name, names)


def _curves(
    picture: Picture, panel: Mapping[str, Any], curves: Sequence[Curve], width: float, height: float
) -> Iterator[str]:
    shown = min(len(curves), LEGENDS) + (len(curves) > LEGENDS)
    top, bottom, right = 28.0, height - 24 - 14 * shown, width - 10
    defaults = panel["fieldConfig"]["defaults"]
    bounds = [defaults[key] for key in ("min", "max") if key in defaults]
    floor, roof = defaults.get("min", -math.inf), defaults.get("max", math.inf)
    values = [min(max(value, floor), roof) for curve in curves for _, value in curve.points]
    if bounds and max(values) == bounds[0]:  # a line on the floor needs something above it
        bounds.append(bounds[0] + 1)
    upright = axis(values, 3, include=bounds)
    labels = tick_labels(upright.ticks, _written(panel))
    left = 14 + 6.2 * max(map(len, labels.values()))
    minutes = step_axis([0.0, picture.seconds / 60], 6)

    def at(point: Point) -> tuple[float, float]:
        across = left + point[0] / picture.seconds * (right - left)
        value = min(max(point[1], floor), roof)
        share = (value - upright.low) / (upright.high - upright.low)
        return across, bottom - share * (bottom - top)

    for tick, label in labels.items():
        _, y = at((0, tick))
        yield f'<path class="grid" d="M{left:.0f} {y:.1f}H{right:.0f}"/>'
        yield _text(left - 5, y + 4, label, "end")
    yield from _minutes(minutes, at, bottom)
    for moment in picture.moments:
        x, _ = at((moment.x, upright.low))
        yield f'<path class="mark" stroke="{moment.colour}" d="M{x:.1f} {top}V{bottom:.0f}"/>'
    for index, curve in enumerate(curves):
        colour = COLOURS[index % len(COLOURS)]
        path = "".join(_path(stretch, at) for stretch in _stretches(curve.points))
        yield f'<path class="line" stroke="{colour}" d="{path}"/>'
    yield from _legend(curves, bottom + 30)


def _minutes(minutes: Axis, at: Placed, bottom: float) -> Iterator[str]:
    for tick in minutes.ticks:
        x, _ = at((tick * 60, 0))
        yield _text(x, bottom + 14, f"{number(tick)} min", "middle")


def _legend(curves: Sequence[Curve], y: float) -> Iterator[str]:
    for index, curve in enumerate(curves[:LEGENDS]):
        line = y + 14 * index
        yield f'<path stroke="{COLOURS[index]}" stroke-width="3" d="M10 {line - 4:.0f}h14"/>'
        yield _text(30, line, curve.name)
    if len(curves) > LEGENDS:
        yield _text(30, y + 14 * LEGENDS, f"and {len(curves) - LEGENDS} more")


def _stretches(points: Sequence[Point]) -> Iterator[Sequence[Point]]:
    begin = 0
    for index, (before, after) in enumerate(pairwise(points), start=1):
        if after[0] - before[0] > _BREAK_SECONDS:
            yield points[begin:index]
            begin = index
    yield points[begin:]


def _path(stretch: Sequence[Point], at: Placed) -> str:
    placed = [at(point) for point in thinned(stretch, POINTS) if math.isfinite(point[1])]
    if len(placed) == 1:  # a line of no length with round ends would not be seen
        placed.append((placed[0][0] + 2, placed[0][1]))
    return "".join(f"{'L' if index else 'M'}{x:.1f} {y:.1f}" for index, (x, y) in enumerate(placed))


def _written(panel: Mapping[str, Any]) -> Callable[[float], str]:
    """Return how a panel writes a value; a suffix stands in the panel's title."""
    match panel["fieldConfig"]["defaults"]["unit"]:
        case "percentunit":
            return percent
        case "bytes":
            return lambda value: f"{value / 2**30:.1f} GiB"
        case "s":
            return lambda value: f"{number(value)} s"
        case _:
            return number
