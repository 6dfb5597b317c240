"""The command that measures a gallery."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from engine.cli import display
from engine.cli.options import ClassDepth, Device, GalleryPath, Json, Weights, default
from engine.evaluation import Evaluation, evaluate_folder
from engine.recognizer import Recognizer

SHOWN = 10  # classes and confusions that a person reads; --json has all


def evaluate(
    *,
    folder: Annotated[Path, typer.Argument(help="images that the gallery does not hold, a class per sub-folder")],
    gallery: GalleryPath,
    weights: Weights = None,
    device: Device = None,
    class_depth: ClassDepth = default(evaluate_folder, "class_depth"),
    json: Json = False,
) -> None:
    """Measure how well a gallery names images of known class."""
    with (
        Recognizer.open(gallery, weights=weights, device=device) as recognizer,
        display.progress_bars(show=not json) as progress,
    ):
        evaluation = evaluate_folder(recognizer, folder, class_depth=class_depth, progress=progress)
    if json:
        display.print_json(asdict(evaluation))
    else:
        _show(evaluation)


def _show(evaluation: Evaluation) -> None:
    display.show_failures(evaluation.failed)
    of = f"{len(evaluation.per_class):,} of {evaluation.classes:,} classes"
    display.out.print(f"{evaluation.queries:,} images of {of} ({evaluation.seconds:.1f} s)")
    recalls = [
        (f"recall@{k}", _percent(found.share), f"{_percent(found.low)} to {_percent(found.high)}")
        for k, found in evaluation.recall_at_k.items()
    ]
    ranks = [("mAP@R", evaluation.map_at_r), ("R-precision", evaluation.r_precision)]
    display.print_table(
        ("measure", "value", "95 % interval"), [*recalls, *((name, _percent(value), "") for name, value in ranks)]
    )
    worst = sorted((one for one in evaluation.per_class if one.right < one.queries), key=lambda o: o.right / o.queries)
    if worst:
        rows = [(one.name, one.queries, one.right, _percent(one.right / one.queries)) for one in worst[:SHOWN]]
        display.print_table(("worst classes", "images", "right", "recall@1"), rows)
        pairs = [(one.true, one.answered, one.count) for one in evaluation.confusions[:SHOWN]]
        display.print_table(("images of", "taken for", "times"), pairs)
    if evaluation.known_already:
        display.err.print(f"not asked: {evaluation.known_already:,} images that are references themselves")
    for name, count in evaluation.without_class.items():
        display.err.print(f"not asked: {count:,} images of {name}, a class that the gallery does not know")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
