"""Charts of benchmarks as SVG files: values with their intervals, one row a method, one panel a task."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from pathlib import Path

Interval = tuple[float, float, float]
"""A value and the ends of its interval."""

LEFT, WIDTH, ROW, HEAD = 190, 560, 22, 34
INK, SOFT, LINE, MARK = "#1d2430", "#5b6575", "#d8dce3", "#2f5fd0"


def dot_chart(path: Path, title: str, panels: Mapping[str, Mapping[str, Interval]], *, unit: str = "%") -> None:
    """Write a chart to ``path``: each panel names a task and holds a value with its interval for each method.

    A panel has an axis of its own, from its lowest to its highest end.
    """
    parts, top = [_text(12, 24, title, size=16, colour=INK)], 44
    for task, values in panels.items():
        parts += _panel(task, values, top, unit)
        top += HEAD + ROW * len(values) + 26
    drawing = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 90} {top}" '
        f'font-family="system-ui, sans-serif"><rect width="100%" height="100%" fill="#ffffff"/>{"".join(parts)}</svg>\n'
    )
    path.write_text(drawing, encoding="utf-8")


def _panel(task: str, values: Mapping[str, Interval], top: int, unit: str) -> list[str]:
    low = min(low for _, low, _ in values.values())
    high = max(high for _, _, high in values.values())
    span = (high - low) or 1.0
    best = max(value for value, _, _ in values.values())

    def x(value: float) -> float:
        return LEFT + (value - low) / span * WIDTH

    bottom = top + HEAD + ROW * len(values)
    parts = [_text(12, top + 16, task, size=13, colour=INK, weight=600)]
    for value in (low, (low + high) / 2, high):
        parts.append(f'<line x1="{x(value):.1f}" x2="{x(value):.1f}" y1="{top + 22}" y2="{bottom}" stroke="{LINE}"/>')
        parts.append(_text(x(value), bottom + 14, f"{value:.1f} {unit}", size=11, colour=SOFT, anchor="middle"))
    for place, (method, (value, begin, end)) in enumerate(values.items()):
        y = top + HEAD + ROW * place + 4
        parts.append(_text(LEFT - 12, y + 4, method, size=12, colour=SOFT, anchor="end"))
        parts.append(
            f'<line x1="{x(begin):.1f}" x2="{x(end):.1f}" y1="{y}" y2="{y}" stroke="{MARK}" stroke-width="2"/>'
        )
        parts.append(f'<circle cx="{x(value):.1f}" cy="{y}" r="4.5" fill="{MARK}"/>')
        weight = 700 if value == best else 400
        parts.append(_text(LEFT + WIDTH + 12, y + 4, f"{value:.2f} {unit}", size=12, colour=INK, weight=weight))
    return parts


def _text(x: float, y: float, text: str, *, size: int, colour: str, anchor: str = "start", weight: int = 400) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" font-weight="{weight}" fill="{colour}" '
        f'text-anchor="{anchor}">{escape(text)}</text>'
    )
