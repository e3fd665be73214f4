"""What a chart is made of, before anything is drawn. Pure."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise

from rlhf_trainer.report.formats import number

Point = tuple[float, float]

MAXIMUM_POINTS = 600
"""More than a chart has pixels for."""

DENSE_POINTS = 250
"""From here on a line shows its scatter, and a mean is drawn over it."""

_MEAN_SHARE = 40
"""The mean is taken over this part of all points."""

_NICE = (1.0, 2.0, 2.5, 5.0, 10.0)
"""Distances between ticks, times a power of ten."""

_NICE_WHOLE = (1.0, 2.0, 5.0, 10.0)

_ROUNDING = 1e-9
"""A range that is smaller than this part of its values is rounding: they are drawn as one value."""

_LARGEST, _SMALLEST = 1e300, 1e-300
"""Sizes between which ranges, their parts and their ticks neither overflow nor lose digits."""


@dataclass(frozen=True)
class Line:
    """One series. Its place in the chart chooses its colour."""

    label: str
    points: Sequence[Point]
    spread: Sequence[Point] = ()
    """Half-width of a band around the line, by x."""


@dataclass(frozen=True)
class Rule:
    """A horizontal line that a series is held against."""

    label: str
    value: float
    kind: str
    """`limit` (must not be crossed), `target` or `gate` (must be reached)."""


@dataclass(frozen=True)
class Mark:
    """A step worth pointing out."""

    x: float
    label: str
    kind: str
    """`stop` or `certified`."""


@dataclass(frozen=True)
class Chart:
    """Series over steps."""

    title: str
    unit: str
    lines: Sequence[Line]
    rules: Sequence[Rule] = ()
    marks: Sequence[Mark] = ()
    from_zero: bool = False
    x_label: str = "step"
    note: str = ""
    """What a reader may not know about it."""
    write: Callable[[float], str] = field(default=number)

    @property
    def has_points(self) -> bool:
        """Whether there is anything to draw."""
        return any(line.points for line in self.lines)

    @property
    def is_dense(self) -> bool:
        """Whether means are drawn over its lines."""
        return any(len(line.points) >= DENSE_POINTS for line in self.lines)


@dataclass(frozen=True)
class Axis:
    """A range and where its ticks stand."""

    low: float
    high: float
    ticks: tuple[float, ...]


def bounded(value: float) -> float:
    """Return the value, or what it is drawn as if it is too large to be calculated with."""
    return min(max(value, -_LARGEST), _LARGEST)


def axis(values: Sequence[float], count: int, *, include: Sequence[float] = ()) -> Axis:
    """Return an axis that begins and ends at ticks and holds all finite values, as `bounded`."""
    finite = [bounded(value) for value in (*values, *include) if math.isfinite(value)]
    low, high = _widened(min(finite, default=0.0), max(finite, default=1.0))
    step = _nice_step((high - low) / count)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    # The step's own two digits: a fixed number of decimals would make small ticks coincide.
    decimals = 1 - math.floor(math.log10(step) + 1e-9)
    ticks = tuple(round(index * step, decimals) for index in range(first, last + 1))
    return Axis(ticks[0], ticks[-1], ticks)


def _widened(low: float, high: float) -> tuple[float, float]:
    """Return the range, or one around it where it is too small for ticks that differ."""
    size = max(abs(low), abs(high))
    if high - low >= max(_ROUNDING * size, _SMALLEST):
        return low, high
    half = size / 2 if size > _SMALLEST else 0.5
    return low - half, high + half


def step_axis(steps: Sequence[float], count: int) -> Axis:
    """Return an axis that ends with the last step, and whose ticks are whole numbers."""
    low, high = min(steps, default=0.0), max(steps, default=1.0)
    if low == high:
        return Axis(low - 1, high + 1, (low,))
    step = max(1.0, _nice_step((high - low) / count, _NICE_WHOLE))
    first = math.ceil(low / step)
    ticks = (float(index * step) for index in range(first, math.floor(high / step) + 1))
    return Axis(low, high, tuple(ticks))


def _nice_step(least: float, factors: Sequence[float] = _NICE) -> float:
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in factors if factor * power >= least * (1 - 1e-9))


def thinned(points: Sequence[Point], maximum: int = MAXIMUM_POINTS) -> list[Point]:
    """Return at most `maximum` points that keep every peak: least and largest of each stretch."""
    if len(points) <= maximum:
        return list(points)
    stretches = maximum // 2
    bounds = [len(points) * index // stretches for index in range(stretches + 1)]
    kept: list[Point] = []
    for begin, end in pairwise(bounds):
        stretch = points[begin:end]
        finite = [point for point in stretch if math.isfinite(point[1])]
        chosen = (
            {min(finite, key=lambda point: point[1]), max(finite, key=lambda point: point[1])}
            if len(finite) == len(stretch)
            else {stretch[0], next(point for point in stretch if not math.isfinite(point[1]))}
        )
        kept += sorted(chosen, key=lambda point: point[0])
    return kept


def smoothed(points: Sequence[Point]) -> list[Point]:
    """Return the mean over the neighbours of every finite point; the first has none."""
    finite = [point for point in points if math.isfinite(point[1])]
    half = max(1, len(finite) // _MEAN_SHARE // 2)
    sums = [0.0, *accumulate(bounded(value) for _, value in finite)]
    means: list[Point] = []
    for index, (x, _) in enumerate(finite):
        # Early steps move fast: as far to the one side as to the other, or the mean would lag.
        begin, end = index - min(half, index), min(index + min(half, index) + 1, len(finite))
        means.append((x, (sums[end] - sums[begin]) / (end - begin)))
    return means


def runs(points: Sequence[Point]) -> list[list[Point]]:
    """Return the stretches of finite points: a line breaks where a value is not a number."""
    stretches: list[list[Point]] = [[]]
    for point in points:
        if math.isfinite(point[1]):
            stretches[-1].append(point)
        elif stretches[-1]:
            stretches.append([])
    return [stretch for stretch in stretches if stretch]
