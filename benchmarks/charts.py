"""Charts of benchmarks as SVG files: values with their intervals, one row a method, one panel a task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from engine.charts import document, text

Interval = tuple[float, float, float]
"""A value and the ends of its interval."""

LEFT, WIDTH, ROW, HEAD = 190, 560, 22, 34


def dot_chart(path: Path, title: str, panels: Mapping[str, Mapping[str, Interval]], *, unit: str = "%") -> None:
    """Write a chart to ``path``: each panel names a task and holds a value with its interval for each method.

    A panel has an axis of its own, from its lowest to its highest end.
    """
    parts, top = [text(12, 24, title, "ink", size=16)], 44
    for task, values in panels.items():
        parts += _panel(task, values, top, unit)
        top += HEAD + ROW * len(values) + 26
    drawing = document(title, parts, width=LEFT + WIDTH + 90, height=top)
    path.write_text(drawing, encoding="utf-8")


def _panel(task: str, values: Mapping[str, Interval], top: int, unit: str) -> list[str]:
    low = min(low for _, low, _ in values.values())
    high = max(high for _, _, high in values.values())
    span = (high - low) or 1.0
    best = max(value for value, _, _ in values.values())

    def x(value: float) -> float:
        return LEFT + (value - low) / span * WIDTH

    bottom = top + HEAD + ROW * len(values)
    parts = [text(12, top + 16, task, "ink", size=13, weight=600)]
    for value in (low, (low + high) / 2, high):
        parts.append(f'<line x1="{x(value):.1f}" x2="{x(value):.1f}" y1="{top + 22}" y2="{bottom}" class="grid"/>')
        parts.append(text(x(value), bottom + 14, f"{value:.1f} {unit}", "soft", size=11, anchor="middle"))
    for place, (method, (value, begin, end)) in enumerate(values.items()):
        y = top + HEAD + ROW * place + 4
        parts.append(text(LEFT - 12, y + 4, method, "soft", size=12, anchor="end"))
        parts.append(f'<line x1="{x(begin):.1f}" x2="{x(end):.1f}" y1="{y}" y2="{y}" class="mark" stroke-width="2"/>')
        parts.append(f'<circle cx="{x(value):.1f}" cy="{y}" r="4.5" class="mark"/>')
        weight = 700 if value == best else 400
        parts.append(text(LEFT + WIDTH + 12, y + 4, f"{value:.2f} {unit}", "ink", size=12, weight=weight))
    return parts
