"""The report: one page with what all benchmarks were to show and what they showed, made from the rows that were kept.

    python benchmarks/report.py

Writes benchmarks/results/report.html: first every goal, held or missed; then drawings of search, neighbours found
against queries a second and growth with size, a machine after the other; then all rows, file by file. It measures
nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from rows import RESULTS

from engine import charts
from engine.report import figures, page

Row = dict[str, Any]
SEARCHED = re.compile(r"(?P<size>.+ x \d+), (?P<method>.+) at [\d.]+, (?P<how>\d threads?, .+)")
COUNT = re.compile(r"[\d,]*\d")
STYLE = """<style>.verdict { font-weight: 600; } td:first-child, th:first-child { text-align: left; }
details { margin: .6rem 0; } summary { cursor: pointer; font-weight: 600; } svg { margin: 1rem 0; }
tr.missed td:first-child { border-left: 3px solid var(--bad); padding-left: .6rem; }
svg text.ink { fill: light-dark(#1d2430, #e6e9ef); }</style>"""


def kept() -> dict[str, list[Row]]:
    """Return the rows of each file of results, by its name."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))}


def goals(files: dict[str, list[Row]]) -> str:
    """Return a table of all rows that had a goal: those that missed it first."""
    judged = [(name, one) for name, rows in files.items() for one in rows if one["holds"] is not None]
    judged.sort(key=lambda pair: pair[1]["holds"])
    lines = [_line([one["measure"], *_told(one), _verdict(one), name], missed=not one["holds"]) for name, one in judged]
    return _table(("measure", "value", "goal", "", "file"), lines)


def searches(rows: Iterable[Row]) -> list[str]:
    """Return a drawing for each size, number of threads and way to ask: a line a method, a point a target."""
    drawn: dict[tuple[str, str], dict[str, list[charts.Point]]] = {}
    for one in rows:
        if match := SEARCHED.fullmatch(one["measure"]):
            lines = drawn.setdefault((match["size"], match["how"]), {})
            lines.setdefault(match["method"], []).append((one["ann_recall"], one["value"]))
    axes = charts.nines("ann_recall@10"), charts.logarithmic("queries/s")
    return [
        charts.curves(f"{size}: {how}", dict(sorted(lines.items(), key=_fastest)), *axes, goal=0.99)
        for (size, how), lines in drawn.items()
    ]


def growth(rows: Iterable[Row], target: str = "0.99") -> list[str]:
    """Return a drawing of a lone query's time by the number of vectors, if there are at least two numbers."""
    lines: dict[str, list[charts.Point]] = {}
    for one in rows:
        match = SEARCHED.fullmatch(one["measure"])
        count = match and COUNT.match(match["size"])
        if match and count and f"at {target}," in one["measure"] and match["how"] == "1 thread, one by one":
            kind = re.sub(r"IVF\d+", "IVF", match["method"])
            lines.setdefault(kind, []).append((float(count[0].replace(",", "")), 1e6 / one["value"]))
    lines = {name: sorted(points) for name, points in lines.items() if len(points) > 1}
    if not lines:
        return []
    axes = charts.logarithmic("vectors"), charts.logarithmic("µs a query")
    return [charts.curves(f"One query on one thread at ann_recall@10 >= {target}, by size", lines, *axes)]


def section(rows: Sequence[Row]) -> list[str]:
    """Return the drawings of a file of searches, under a title that names the machine; nothing if there is none."""
    drawings = [*growth(rows), *searches(rows)]
    return [f"<h2>Search: {escape(rows[0]['machine'])}</h2>", *drawings] if drawings else []


def everything(files: dict[str, list[Row]]) -> str:
    """Return all rows, a table a file, folded."""
    parts = []
    for name, rows in files.items():
        lines = [_line([one["measure"], *_told(one), _verdict(one)], missed=one["holds"] is False) for one in rows]
        first = rows[0] if rows else {}
        facts = f"{first.get('command', '')}; commit {first.get('commit', '')}; {first.get('machine', '')}"
        parts.append(
            f"<details><summary>{escape(name)} ({len(rows)})</summary>"
            f'<p class="soft">{escape(facts)}</p>{_table(("measure", "value", "goal", ""), lines)}</details>'
        )
    return "".join(parts)


def _fastest(line: tuple[str, Sequence[charts.Point]]) -> float:
    return -max(rate for _, rate in line[1])


def _told(one: Row) -> tuple[str, str]:
    return f"{one['value']:,.4g} {one['unit']}".strip(), one["goal"]


def _verdict(one: Row) -> str:
    return {True: "holds", False: "missed", None: ""}[one["holds"]]


def _line(cells: Iterable[str], *, missed: bool) -> str:
    colours = {"holds": "good verdict", "missed": "bad verdict"}
    inner = "".join(f'<td class="{colours.get(cell, "")}">{escape(cell)}</td>' for cell in cells)
    return f'<tr class="{"missed" if missed else ""}">{inner}</tr>'


def _table(columns: Iterable[str], lines: Iterable[str]) -> str:
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    return f'<div class="wide"><table><tr>{head}</tr>{"".join(lines)}</table></div>'


def made(files: dict[str, list[Row]]) -> str:
    """Return the whole page."""
    judged = [one for rows in files.values() for one in rows if one["holds"] is not None]
    held = sum(one["holds"] for one in judged)
    numbers = [(f"{held}", "goals hold"), (f"{len(judged) - held}", "are missed"), (f"{len(files)}", "benchmarks")]
    return page(
        "Firstsight: what was measured",
        STYLE,
        "<h1>What was measured</h1>",
        '<p class="soft">Each figure comes from a program in benchmarks/, its command stands with its rows; why a goal '
        "is missed, and what was tried, is in docs/performance.md.</p>",
        figures(numbers),
        "<h2>Goals</h2>",
        goals(files),
        *(part for name, rows in files.items() if name.startswith("search") for part in section(rows)),
        "<h2>All rows</h2>",
        everything(files),
    )


def main() -> None:
    path = RESULTS / "report.html"
    path.write_text(made(kept()), encoding="utf-8")
    print(f"open {path.name} in {path.parent.name}/")


if __name__ == "__main__":
    main()
