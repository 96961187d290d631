"""Geometry of the page's pictures: points of tables to coordinates; the templates draw them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

WIDTH, HEIGHT = 560, 300
LEFT, RIGHT, TOP, BOTTOM = 40, 12, 10, 38
_APART = 34  # pixels between two labels of the horizontal axis
STYLES = 8  # colours; of more curves the lines are dashed otherwise


@dataclass(frozen=True)
class Point:
    """A point of a curve: where it is drawn, and what is said of it."""

    x: float
    y: float
    said: str


@dataclass(frozen=True)
class Line:
    """A curve: ``path`` and, with intervals, the ``band`` around it, as SVG path data.

    Attributes:
        weight: ``strong``, ``faint``, or "".
    """

    name: str
    style: str
    path: str
    band: str
    points: Sequence[Point]
    said: str
    weight: str = ""


@dataclass(frozen=True)
class Tick:
    """A label of an axis, where it stands, and which part of it stands there."""

    at: float
    text: str
    anchor: str = "middle"


@dataclass(frozen=True)
class Chart:
    """Curves in one frame; ``heads`` and ``rows`` are the same numbers as a table."""

    title: str
    axis: str
    lines: Sequence[Line]
    ticks: Sequence[Tick]
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Value:
    """A value on a curve: ``low`` and ``high`` are NaN where there is no interval."""

    budget: float
    name: str
    mean: float
    low: float = math.nan
    high: float = math.nan


def across(budget: float, largest: float) -> float:
    """The horizontal place of a budget, rounded to a tenth of a pixel."""
    share = budget / largest if largest else 0.5
    return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)


def upright(score: float) -> float:
    """The vertical place of a share of one."""
    return round(TOP + (1 - min(max(score, 0), 1)) * (HEIGHT - TOP - BOTTOM), 1)


def draw(name: str, number: int, values: Sequence[Value], largest: float, weight: str = "") -> Line:
    """A curve through its values, in the colour and dashes of that number; a strong one's band."""
    places = [(across(v.budget, largest), upright(v.mean)) for v in values]
    points = [
        Point(x, y, f"{name}, {value.name}: {written(value)}")
        for (x, y), value in zip(places, values, strict=True)
    ]
    sure = [value for value in values if not math.isnan(value.low)]
    there = [(across(v.budget, largest), upright(v.high)) for v in sure]
    back = [(across(v.budget, largest), upright(v.low)) for v in reversed(sure)]
    band = _path([*there, *back]) + "Z" if weight == "strong" and len(sure) > 1 else ""
    first, last = values[0], values[-1]
    ends = f"from {first.mean:.3f} at {first.name} to {last.mean:.3f} at {last.name}"
    style = f"c{number % STYLES} d{number // STYLES % 4}"
    return Line(name, style, _path(places), band, points, f"{name}: {ends}", weight)


def steps(name: str, number: int, values: Sequence[Value], largest: float) -> Line:
    """A survival curve: it falls at each value and is level between them."""
    places: list[tuple[float, float]] = []
    for value in values:
        x, y = across(value.budget, largest), upright(value.mean)
        if places:
            places.append((x, places[-1][1]))
        places.append((x, y))
    style = f"c{number % STYLES} d{number // STYLES % 4}"
    said = f"{name}: {values[-1].mean:.0%} of the cases stand at {values[-1].name}"
    return Line(name, style, _path(places), "", (), said, "strong")


def ticks(budgets: Sequence[tuple[float, str]], largest: float) -> list[Tick]:
    """Labels of the horizontal axis, those left out that would touch the one before."""
    found: list[Tick] = []
    for budget, name in budgets:
        at = across(budget, largest)
        tick = Tick(at, name, "end" if at > WIDTH - RIGHT - 8 and len(name) > 2 else "middle")
        if not found or tick.at - found[-1].at >= _APART:
            found.append(tick)
    return found


def written(value: Value) -> str:
    """``0.887 [0.879, 0.895]``, without brackets where there is no interval."""
    if math.isnan(value.mean):
        return "–"
    if math.isnan(value.low):
        return f"{value.mean:.3f}"
    return f"{value.mean:.3f} [{value.low:.3f}, {value.high:.3f}]"


def violin(counts: Sequence[int], width: float, height: float) -> str:
    """How cases are spread over [0, 1]: a shape that is widest where most of them are."""
    most, step, middle = max(counts) or 1, height / len(counts), width / 2
    down, up = list[str](), list[str]()  # along the right side, and back along the left
    start = 0
    for count, alike in groupby(reversed(counts)):
        end = start + len([*alike])
        reach = round(middle + count / most * (middle - 1), 1)
        down.append(f"H{reach:g}V{round(end * step, 1):g}")
        up.append(f"H{round(width - reach, 1):g}V{round(start * step, 1):g}")
        start = end
    return "".join([f"M{middle:g} 0", *down, *reversed(up), "Z"])


def _path(places: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:g} {y:g}" for x, y in places)
