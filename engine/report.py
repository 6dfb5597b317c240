"""Pages with pictures: self-contained HTML, light or dark as the reader prefers."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from io import BytesIO

from PIL import Image

STYLE = """
:root { color-scheme: light dark; --line: light-dark(#d8dce3, #3a4150); --soft: light-dark(#5b6575, #9aa5b8);
  --card: light-dark(#ffffff, #1c212b); --good: light-dark(#1a7f4b, #55c78d); --bad: light-dark(#b3372f, #f08a80);
  --accent: light-dark(#2f5fd0, #7ea2f5); }
body { font: 16px/1.55 system-ui, sans-serif; max-width: 62rem; margin: 0 auto; padding: 2rem 1.2rem 4rem;
  background: light-dark(#f6f7f9, #12151b); }
h1 { font-size: 1.7rem; margin: 0 0 .3rem; } h2 { font-size: 1.15rem; margin: 2.4rem 0 .6rem; }
p, figcaption, td, th { margin: .3rem 0; } .soft, figcaption { color: var(--soft); font-size: .88rem; }
.figures { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1.2rem 0; }
.figure { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .8rem 1.2rem; }
.figure b { display: block; font-size: 1.9rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(13rem, 1fr)); gap: .8rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; padding: .7rem; }
.card.wrong { border-color: var(--bad); } .pair { display: flex; align-items: center; gap: .5rem; }
.pair figure { margin: 0; text-align: center; } .pair .arrow { color: var(--soft); }
img { display: block; background: #fff; border-radius: .3rem; } .answer { font-weight: 600; }
.good { color: var(--good); } .bad { color: var(--bad); }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
td, th { padding: .25rem .6rem; text-align: right; border-bottom: 1px solid var(--line); font-weight: 400; }
th { color: var(--soft); } svg { display: block; max-width: 100%; } svg text { fill: var(--soft); font-size: 12px; }
.bar { fill: var(--accent); } .other { fill: var(--line); }
.line { fill: none; stroke: var(--accent); stroke-width: 2; } .faint { fill: none; stroke: var(--line); }
pre { overflow-x: auto; font-size: .8rem; color: var(--soft); }
"""


def page(title: str, *sections: str) -> str:
    """Return a whole HTML document."""
    body = "\n".join(sections)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def picture(image: Image.Image, *, side: int = 72, alt: str = "") -> str:
    """Return an ``img`` element that carries the image itself."""
    buffer = BytesIO()
    image.convert("RGB").save(buffer, "PNG", optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f'<img width="{side}" height="{side}" alt="{escape(alt)}" src="data:image/png;base64,{data}">'


def figures(numbers: Iterable[tuple[str, str]]) -> str:
    """Return big numbers side by side, each with the line that says what it is."""
    boxes = "".join(f'<div class="figure"><b>{escape(n)}</b>{escape(text)}</div>' for n, text in numbers)
    return f'<div class="figures">{boxes}</div>'


def decision_card(query: Image.Image, reference: Image.Image, *, answer: str, truth: str, note: str) -> str:
    """Return a card: the query, the reference that decided, the answer, and whether it is right."""
    right = answer == truth
    verdict = f'<span class="good">{escape(answer)} ✓</span>'
    if not right:
        verdict = f'<span class="bad">{escape(answer)} ✗</span> <span class="soft">it is {escape(truth)}</span>'
    return (
        f'<div class="card{"" if right else " wrong"}"><div class="pair">'
        f"<figure>{picture(query, alt=f'query, {truth}')}<figcaption>query</figcaption></figure>"
        '<span class="arrow">→</span>'
        f"<figure>{picture(reference, alt=f'reference, {answer}')}<figcaption>decided by</figcaption></figure></div>"
        f'<p class="answer">{verdict}</p><p class="soft">{escape(note)}</p></div>'
    )


def cards(items: Iterable[str]) -> str:
    """Return cards in a grid."""
    return f'<div class="cards">{"".join(items)}</div>'


def confusion_table(names: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    """Return a table of counts: a row for each class that was shown, a column for each that was answered."""
    head = "".join(f"<th>{escape(name)}</th>" for name in names)
    rows = []
    for i, name in enumerate(names):
        cells = "".join(_cell(count, right=i == j, total=sum(counts[i])) for j, count in enumerate(counts[i]))
        rows.append(f"<tr><th>{escape(name)}</th>{cells}</tr>")
    return f'<div class="wide"><table><tr><th>shown \\ answered</th>{head}</tr>{"".join(rows)}</table></div>'


def _cell(count: int, *, right: bool, total: int) -> str:
    if not count:
        return '<td class="soft">·</td>'
    colour, strength = "var(--good)" if right else "var(--bad)", round(8 + 55 * count / max(1, total))
    return f'<td style="background: color-mix(in srgb, {colour} {strength}%, transparent)">{count}</td>'


def histogram(values: Sequence[float], *, other: Sequence[float], names: tuple[str, str]) -> str:
    """Return a drawing of two sets of percentages, binned by 2.5 points: ``values`` in front of ``other``."""
    width, height, bins = 640, 150, 40
    counts = [[0] * bins, [0] * bins]
    for which, group in enumerate((values, other)):
        for value in group:
            counts[which][min(bins - 1, int(value / 100 * bins))] += 1
    top = max(1, *counts[0], *counts[1])
    bars = [
        f'<rect class="{style}" x="{i * width / bins:.1f}" width="{width / bins - 1:.1f}" '
        f'y="{height - height * count / top:.1f}" height="{height * count / top:.1f}"/>'
        for which, style in ((1, "other"), (0, "bar"))
        for i, count in enumerate(counts[which])
        if count
    ]
    axis = "".join(
        f'<text x="{share / 100 * width:.0f}" y="{height + 16}" text-anchor="{_anchor(share)}">{share} %</text>'
        for share in range(0, 101, 20)
    )
    legend = (
        f'<rect class="bar" x="4" y="2" width="11" height="11"/><text x="20" y="12">{escape(names[0])}</text>'
        f'<rect class="other" x="4" y="20" width="11" height="11"/><text x="20" y="30">{escape(names[1])}</text>'
    )
    return (
        f'<svg viewBox="0 0 {width} {height + 22}" role="img" aria-label="accuracy over the choices of references">'
        f"{''.join(bars)}{axis}{legend}</svg>"
    )


def curve(points: Sequence[tuple[float, float]], *, label: str, smooth: int = 1) -> str:
    """Return a drawing of values by step; with ``smooth``, a mean of so many neighbours before the bare ones."""
    width, height, left = 640, 200, 52
    steps, values = [step for step, _ in points], [value for _, value in points]
    low, high, last = min(values), max(values), max(*steps, 1)
    span = (high - low) or 1.0

    def place(step: float, value: float) -> str:
        return f"{left + step / last * (width - left - 8):.1f},{8 + (high - value) / span * (height - 16):.1f}"

    means = [sum(part) / len(part) for part in (values[max(0, i - smooth + 1) : i + 1] for i in range(len(values)))]
    lines = [("line", means)] if smooth == 1 else [("faint", values), ("line", means)]
    drawn = "".join(
        f'<polyline class="{style}" points="{" ".join(map(place, steps, heights))}"/>' for style, heights in lines
    )
    axis = "".join(
        f'<line class="faint" x1="{left}" x2="{width}" y1="{y}" y2="{y}"/>'
        f'<text x="{left - 6}" y="{y + 4}" text-anchor="end">{value:.3g}</text>'
        for value, y in ((high, 8), ((high + low) / 2, height // 2), (low, height - 8))
    ) + "".join(
        f'<text x="{left + share * (width - left - 8):.0f}" y="{height + 14}" '
        f'text-anchor="{_anchor(round(100 * share))}">{share * last:,.0f}</text>'
        for share in (0, 0.5, 1)
    )
    return f'<svg viewBox="0 0 {width} {height + 20}" role="img" aria-label="{escape(label)}">{axis}{drawn}</svg>'


def _anchor(share: int) -> str:
    return {0: "start", 100: "end"}.get(share, "middle")
