"""Curves as SVG files, light or dark as the reader prefers: what several methods take for what they give."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

LEFT, TOP, WIDTH, HEIGHT, RIGHT = 70, 48, 520, 340, 230
COLOURS = ("#2f5fd0", "#c2571a", "#1a7f4b", "#8a3fb0", "#b3372f", "#0f7f8a", "#7a6a12", "#5b6575", "#c0398a", "#3d7a1f")
MOST_NINES = 5.0  # a share nearer to 1 than this is drawn as this

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Axis:
    """What an axis shows, how a value becomes a place on it, and where its marks are.

    Attributes:
        label: what its numbers are.
        place: value -> place, in any unit.
        marks: values to draw lines at, if they lie within.
    """

    label: str
    place: Callable[[float], float]
    marks: Sequence[float]


def logarithmic(label: str) -> Axis:
    """Return an axis on which each tenfold is as far as the last."""
    marks = [step * 10.0**power for power in range(-6, 13) for step in (1, 2, 5)]
    return Axis(label, lambda value: math.log10(max(value, 1e-9)), marks)


def nines(label: str) -> Axis:
    """Return an axis for shares near 1, on which 0.99 is as far from 0.9 as 0.999 is from 0.99."""
    marks = [0.0, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9999]
    return Axis(label, lambda value: min(-math.log10(max(1 - value, 1e-12)), MOST_NINES), marks)


def curves(
    title: str, lines: Mapping[str, Sequence[Point]], x: Axis, y: Axis, *, goal: float | None = None, note: str = ""
) -> str:
    """Return a whole SVG document: a line through the points of each name, and one across at ``goal`` on the x axis.

    Raises:
        ValueError: no line has a point.
    """
    points = [point for line in lines.values() for point in line]
    across = _scale([x.place(one) for one, _ in points] + ([] if goal is None else [x.place(goal)]), LEFT, WIDTH)
    up = _scale([y.place(one) for _, one in points], TOP + HEIGHT, -HEIGHT)

    def at(point: Point) -> tuple[float, float]:
        return across(x.place(point[0])), up(y.place(point[1]))

    parts = [text(LEFT, 24, title, "ink", size=15), text(LEFT, 40, note, "soft")]
    parts += _marks(x, y, across, up)
    if goal is not None:
        place = across(x.place(goal))
        parts.append(f'<line class="goal" x1="{place:.1f}" x2="{place:.1f}" y1="{TOP}" y2="{TOP + HEIGHT}"/>')
    for number, (name, line) in enumerate(lines.items()):
        parts += _line(name, [at(point) for point in line], number)
    return document(title, parts, width=LEFT + WIDTH + RIGHT, height=TOP + HEIGHT + 50)


def in_letters(
    lines: Mapping[str, Sequence[Point]],
    x: Axis,
    y: Axis,
    *,
    goal: float | None = None,
    columns: int = 72,
    rows: int = 15,
) -> str:
    """Return the same as text for a terminal: a letter for each line, its last one where several fall together.

    Raises:
        ValueError: no line has a point.
    """
    points = [point for line in lines.values() for point in line]
    across = _scale([x.place(one) for one, _ in points] + ([] if goal is None else [x.place(goal)]), 0, columns - 1)
    up = _scale([y.place(one) for _, one in points], rows - 1, 1 - rows)
    field = [[" "] * columns for _ in range(rows)]
    if goal is not None:
        for row in field:
            row[round(across(x.place(goal)))] = "┊"
    for letter, line in zip(_LETTERS, lines.values(), strict=False):
        for one, other in line:
            field[round(up(y.place(other)))][round(across(x.place(one)))] = letter
    marked = _rarely({round(up(y.place(value))): _number(value) for value in y.marks}, rows, 2)
    wide = max(map(len, marked.values()), default=0)
    drawn = [f"{marked.get(number, ''):>{wide}} │{''.join(row)}".rstrip() for number, row in enumerate(field)]
    below = [" "] * (columns + 8)
    under = {round(across(x.place(value))): _number(value) for value in x.marks}
    for place, text in _rarely(under, columns, 8).items():
        below[place : place + len(text)] = text
    keys = [f"  {letter}  {name}" for letter, name in zip(_LETTERS, lines, strict=False)]
    foot = [f"{'':>{wide}} └{'─' * columns}", f"{'':>{wide}}  {''.join(below)}".rstrip()]
    return "\n".join([y.label, *drawn, *foot, f"{x.label:>{wide + 2 + columns}}", *keys])


_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def _rarely(marks: Mapping[int, str], length: int, apart: int) -> dict[int, str]:
    """Return the marks that lie within and, from the first on, at least so far apart."""
    kept: dict[int, str] = {}
    for place in sorted(place for place in marks if 0 <= place < length):
        if not kept or place - max(kept) >= apart:
            kept[place] = marks[place]
    return kept


_STYLE = (
    ".paper{fill:#fff}.ink{fill:#1d2430}.soft{fill:#5b6575}.grid{stroke:#d8dce3}.goal{stroke:#5b6575;"
    "stroke-dasharray:5 4}.mark{fill:#2f5fd0;stroke:#2f5fd0}@media(prefers-color-scheme:dark){.paper{fill:#12151b}"
    ".ink{fill:#e6e9ef}.soft{fill:#9aa5b8}.grid{stroke:#3a4150}.goal{stroke:#9aa5b8}.mark{fill:#7ea2f5;stroke:#7ea2f5}}"
)


def _scale(places: Sequence[float], start: float, length: float) -> Callable[[float], float]:
    low, high = min(places), max(places)
    margin = 0.04 * (high - low) or 0.5
    return lambda place: start + length * (place - low + margin) / (high - low + 2 * margin)


def _marks(x: Axis, y: Axis, across: Callable[[float], float], up: Callable[[float], float]) -> list[str]:
    bottom, right = TOP + HEIGHT, LEFT + WIDTH
    parts = [text(LEFT + WIDTH / 2, bottom + 40, x.label, "soft", anchor="middle")]
    parts.append(text(10, TOP - 8, y.label, "soft"))
    for value in x.marks:
        place = across(x.place(value))
        if LEFT <= place <= right:
            parts.append(f'<line class="grid" x1="{place:.1f}" x2="{place:.1f}" y1="{TOP}" y2="{bottom}"/>')
            parts.append(text(place, bottom + 18, _number(value), "soft", anchor="middle"))
    for value in y.marks:
        place = up(y.place(value))
        if TOP <= place <= bottom:
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{place:.1f}" y2="{place:.1f}"/>')
            parts.append(text(LEFT - 8, place + 4, _number(value), "soft", anchor="end"))
    return parts


def _line(name: str, places: Sequence[Point], number: int) -> list[str]:
    """Return a line and its key; where colours begin again, lines are dashed and points hollow."""
    again, colour = divmod(number, len(COLOURS))
    stroke = f'stroke="{COLOURS[colour]}" stroke-width="1.6"'
    point = f'{stroke} fill="{"none" if again else COLOURS[colour]}"'
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" {point}/>' for x, y in places)
    left, legend = LEFT + WIDTH + 16, TOP + 12 + 18 * number
    dashed = ' stroke-dasharray="7 4"' if again else ""
    return [
        f'<polyline points="{path}" fill="none" {stroke}{dashed}/>{dots}',
        f'<circle cx="{left}" cy="{legend - 4:.1f}" r="4" {point}/>',
        text(left + 10, legend, name, "ink"),
    ]


def _number(value: float) -> str:
    return f"{value:,.10g}"


def text(
    x: float, y: float, words: str, style: str, *, size: int = 12, anchor: str = "start", weight: int = 400
) -> str:
    """Return words in one of the styles of ``document``: "ink" or "soft"."""
    return (
        f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" '
        f'text-anchor="{anchor}">{escape(words)}</text>'
    )


def document(title: str, parts: Iterable[str], *, width: float, height: float) -> str:
    """Return a whole SVG document of these elements, which may have the styles ink, soft, grid, goal and mark."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'font-family="system-ui, sans-serif" role="img" aria-label="{escape(title)}"><style>{_STYLE}</style>'
        f'<rect class="paper" width="100%" height="100%"/>{"".join(parts)}</svg>\n'
    )
