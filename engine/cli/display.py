"""What the shell shows: one JSON object a line for programs, tables and progress bars for people."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from engine.answers import Answer, Hit, Match
from indexer.build import Report, Status
from indexer.description import Described
from indexer.history import Change
from indexer.sources import Failure
from indexer.stations import IN_THREADS, ORDER, Stations


def _console(*, stderr: bool) -> Console:
    """A console that folds lines on a terminal only: a pipe or a file gets them whole."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(
        stderr=stderr, soft_wrap=True, highlight=False, markup=False, width=None if stream.isatty() else 10_000
    )


out = _console(stderr=False)
err = _console(stderr=True)


def print_json(value: Any) -> None:
    """Print one JSON object on one line, and nothing else."""
    print(json.dumps(value, ensure_ascii=False), flush=True)  # noqa: T201 - standard output is the interface


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows under their column names; numbers stand to the right."""
    rows = [list(row) for row in rows]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for index, column in enumerate(columns):
        numeric = bool(rows) and all(isinstance(row[index], int | float) for row in rows)
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row))
    out.print(table)


class _Rate(ProgressColumn):
    """Units a second, over the last few seconds."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f}/s" if speed else "", style="progress.data.speed")


@contextmanager
def progress_bars(*, show: bool = True) -> Iterator[Callable[..., None]]:
    """Yield ``progress(stage, done, total, note="")``: a bar a stage, with rate and time left, on standard error."""
    bar = Progress(
        TextColumn("{task.description:<10}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=err,
        disable=not show,
    )
    stages: dict[str, TaskID] = {}

    def advance(stage: str, done: int, total: int, note: str = "") -> None:
        if not stages:
            bar.start()  # not before there is something to show: a refusal stays one line
        if stage not in stages:
            stages[stage] = bar.add_task(stage, total=total, note=note)
        bar.update(stages[stage], completed=done, total=total, note=note)

    try:
        yield advance
    finally:
        if stages:
            bar.stop()


def show_failures(failed: Sequence[Failure]) -> None:
    """Print on standard error what could not be used, and why."""
    for failure in failed:
        err.print(f"left out: {failure.path}: {failure.reason}")


def show_report(report: Report) -> None:
    """Print what indexing did, or, with the first paths of each kind, what it would do."""
    renamed = [f"renamed class {one.old} -> {one.new}" for one in report.renamed]
    counts = [f"{getattr(report, kind):,} {kind}" for kind in _COUNTED if getattr(report, kind)]
    told = ", ".join([*_first(renamed, "more classes renamed"), *counts]) or "nothing to do"
    out.print(f"{'would be ' if isinstance(report, Status) else ''}{told}; {len(report.failed):,} left out")
    if isinstance(report, Status):
        for kind, paths in report.paths.items():
            for line in _first(paths, "more"):
                out.print(f"{kind:<8} {line}")
    else:
        out.print(
            f"the gallery knows {report.classes:,} classes from {report.images:,} images "
            f"(revision {report.revision}, {report.seconds:.1f} s)"
        )
        if report.stations is not None and report.seconds >= LONG:
            show_stations(report.stations, report.runtime)


def show_slow(slow: Mapping[str, float], gallery: Path) -> None:
    """Say what is searched more slowly than it need be."""
    if slow:
        told = " and ".join(f"all {what} in {milliseconds:.0f} ms" for what, milliseconds in slow.items())
        out.print(
            f"a query looks through {told}: `firstsight tune --apply -g {quote(str(gallery))}` finds what takes less"
        )


LONG = 5.0  # seconds; who waited no longer does not ask where they went
_BAR = 30  # characters


def show_stations(stations: Stations, runtime: str | None) -> None:
    """Print where the time went: a bar a station, as a share of the time that its threads had."""
    had = stations.embedding + stations.waiting  # what the network's thread had; each other one had as much
    out.print(f"where the time went, finding {stations.finding:.1f} s, then {had:.1f} s:")
    for name in ORDER:
        spent, threads = getattr(stations, name), stations.workers if name in IN_THREADS else 1
        share = spent / (threads * had) if had else 0.0
        bar = "█" * round(_BAR * min(1.0, share))
        many = f"{threads} threads" if threads > 1 else "1 thread"
        out.print(f"{name:<10} {bar:<{_BAR}} {share:>5.0%} of {many}, {spent:,.1f} s")
    out.print(
        f"the network waited {stations.waiting:.1f} s; {stations.ahead:.0%} of the room for prepared pictures was full;"
        f" batches of {stations.batch_size}{'' if runtime is None else f', run by {runtime}'}"
    )


_COUNTED = ("added", "changed", "moved", "removed", "unchanged")
_LISTED = 10  # of one kind


def _first(lines: Sequence[str], more: str) -> list[str]:
    rest = len(lines) - _LISTED
    return [*lines[:_LISTED], *([f"and {rest:,} {more}"] if rest > 0 else [])]


def answer_as_dict(image: str, answer: Answer) -> dict[str, Any]:
    """Return an answer as ``recognize --json`` prints it."""
    matches = [hit_as_dict(match) for match in answer.matches]
    return {"image": image, "name": answer.name, "matches": matches, "metric": answer.metric}


def hit_as_dict(hit: Match | Hit) -> dict[str, Any]:
    """Return a match or a hit as ``--json`` prints it: with attributes and ``mapped`` only if there is something."""
    return {key: value for key, value in asdict(hit).items() if value or key not in ("attributes", "mapped")}


def show_answer(image: str, answer: Answer) -> None:
    """Print the classes an image may show, best first."""
    out.print(f"{image}: {answer.name or 'no class to choose from'}")
    rows = [(m.name, m.score, m.distance, m.probability, marked(m)) for m in answer.matches]
    print_table(("class", "score", "distance", "probability", "nearest reference"), rows)


def show_hits(image: str, hits: Sequence[Hit]) -> None:
    """Print the references most like an image, best first."""
    out.print(f"{image}:")
    print_table(("class", "score", "distance", "reference"), [(h.name, h.score, h.distance, marked(h)) for h in hits])


def marked(found: Match | Hit | Described) -> str:
    """Return where a reference is, and that its vector was mapped if it was."""
    return f"{found.reference}{' (mapped)' * found.mapped}"


def show_change(change: Change, *, json: bool) -> None:
    """Print what a change did."""
    if json:
        print_json(asdict(change))
    else:
        out.print(f"{change.summary} (revision {change.revision})")
