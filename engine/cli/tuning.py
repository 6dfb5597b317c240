"""The command that lets a gallery choose its index: it needs no network, and does not wait for torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import typer

from engine import charts
from engine.cli import display
from engine.cli.options import GalleryPath, Json, default
from indexer.gallery import Gallery
from indexer.searched import SEARCHED, searched
from indexer.trials import Promise, Trial
from indexer.tuning import Tuning


def tune(
    *,
    gallery: GalleryPath,
    ann_recall: Annotated[float, typer.Option(help="of the k nearest, the share that a search must find")] = default(
        Promise, "ann_recall"
    ),
    k: Annotated[
        int, typer.Option("--k", "-k", help="neighbours that the promise is about; 100 prototypes at least")
    ] = default(Promise, "k"),
    latency_ms: Annotated[
        float, typer.Option(help="exact search that takes no longer a query is fast enough, and stays")
    ] = default(Promise, "latency_ms"),
    bytes_a_vector: Annotated[
        float | None, typer.Option(help="what an index may take beside the exact vectors", show_default=False)
    ] = default(Promise, "bytes_a_vector"),
    of: Annotated[
        str | None,
        typer.Option(
            help="what to try them on: references, by which search finds, or prototypes, by which recognize does;"
            " both unless told otherwise",
            show_default=False,
        ),
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="search by it from now on")] = False,
    plot: Annotated[
        Path | None,
        typer.Option(
            help="file for a drawing (SVG) of what was tried; that of prototypes lies beside it, if both are",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Try kinds of index on a gallery's own references and prototypes; say which one finds enough at least cost."""
    promise = Promise(ann_recall, k, latency_ms, bytes_a_vector)
    wanted = list(SEARCHED) if of is None else [searched(of).what]
    with Gallery.open(gallery) as opened, display.progress_bars(show=not json) as progress:
        tunings = {
            what: opened.tune(promise, of=what, apply=apply, progress=partial(_tell, progress, what)) for what in wanted
        }
    if plot is not None:
        for number, (what, tuning) in enumerate(tunings.items()):
            path = plot.with_stem(f"{plot.stem}_{what}") if number else plot
            path.write_text(drawing(tuning, what), encoding="utf-8")
    if json:
        display.print_json(as_dict(tunings))
    else:
        for what, tuning in tunings.items():
            _show(what, tuning)


def _tell(progress: Callable[..., None], of: str, what: str, done: int, total: int) -> None:
    progress(f"tuning {of}", done, total, f"{what:<60}")


def as_dict(tunings: Mapping[str, Tuning]) -> dict[str, Any]:
    """Return tunings as ``tune --json`` prints them: the first one, and in it the others by their names."""
    (first, tuning), *others = tunings.items()
    return {"of": first, **_as_dict(tuning), **{what: _as_dict(other) for what, other in others}}


def _as_dict(tuning: Tuning) -> dict[str, Any]:
    winner = tuning.winner
    return {
        "promise": asdict(tuning.promise),
        "exact": asdict(tuning.exact),
        "trials": [asdict(trial) for trial in tuning.trials],
        "choice": None if winner is None else asdict(winner.choice),
        "why": tuning.why,
    }


def drawing(tuning: Tuning, of: str) -> str:
    """Return a drawing of what was tried, as an SVG document: the time of a query over the neighbours found."""
    promised = tuning.promise.ann_recall
    title = f"What finding {tuning.promise.k} {of} takes"
    return charts.curves(title, _lines(tuning), *_axes(tuning), goal=promised, note=tuning.why)


def _lines(tuning: Tuning) -> dict[str, list[charts.Point]]:
    lines = {"exact": [(1.0, tuning.exact.microseconds)]}
    for (count, factory), trials in groupby(tuning.trials, lambda trial: (trial.vectors, trial.choice.factory)):
        lines[f"{factory} ({count:,})"] = [(trial.ann_recall, trial.microseconds) for trial in trials]
    return lines


def _axes(tuning: Tuning) -> tuple[charts.Axis, charts.Axis]:
    k, promised = tuning.promise.k, tuning.promise.ann_recall
    return charts.nines(f"ann_recall@{k}; promised are {promised:g}"), charts.logarithmic("µs a query")


def _show(of: str, tuning: Tuning) -> None:
    if tuning.trials:
        display.out.print(of)
        columns = (
            "index",
            "effort",
            "vectors",
            "ann_recall",
            "at least",
            "µs a query",
            "bytes a vector",
            "build s",
            "",
        )
        display.print_table(columns, [_row(trial) for trial in (tuning.exact, *tuning.trials)])
        drawn = charts.in_letters(_lines(tuning), *_axes(tuning), goal=tuning.promise.ann_recall)
        display.out.print(drawn, markup=False, highlight=False)
    display.out.print(f"{of}: {tuning.why}")


def _row(trial: Trial) -> tuple[object, ...]:
    choice = trial.choice
    effort = f"{choice.effort}" if choice.depth == 1 else f"{choice.effort} x{choice.depth}"
    return (
        choice.factory,
        effort,
        f"{trial.vectors:,}",
        f"{trial.ann_recall:.4f}",
        f"{trial.low:.4f}",
        round(trial.microseconds),
        round(trial.bytes_a_vector),
        f"{trial.build_seconds:.1f}",
        "keeps" if trial.keeps else "",
    )
