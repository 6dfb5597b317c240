"""Commands that need the embedder: they fill a gallery and ask it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Annotated, Any

import typer

from engine.cli import display
from engine.cli.options import (
    AsOf,
    ClassDepth,
    Conditions,
    Device,
    GalleryPath,
    Images,
    Json,
    KeepRemoved,
    Memory,
    Paranoid,
    Retry,
    Runtime,
    Thumbnails,
    Weights,
    conditions,
    default,
)
from engine.recognizer import Recognizer, index_folder
from indexer import build
from indexer.errors import ImageError
from indexer.gallery import Gallery


def index(
    *,
    folder: Annotated[str, typer.Argument(help="a class per sub-folder; or a zip, tar or CSV file, or a URL")],
    gallery: GalleryPath,
    weights: Weights = None,
    device: Device = None,
    runtime: Runtime = default(Recognizer.open, "runtime"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would change, change nothing")] = False,
    class_depth: ClassDepth = default(build.plan, "class_depth"),
    keep_removed: KeepRemoved = default(build.plan, "keep_removed"),
    paranoid: Paranoid = default(build.plan, "paranoid"),
    retry: Retry = default(build.plan, "retry"),
    batch_size: Annotated[
        int | None, typer.Option(help="images embedded at once; what was found to be fastest", show_default=False)
    ] = None,
    max_pixels: Annotated[int, typer.Option(help="larger images are left out")] = default(build.index, "max_pixels"),
    memory: Memory = default(build.index, "memory"),
    thumbnails: Thumbnails = default(build.index, "thumbnails"),
    json: Json = False,
) -> None:
    """Make a gallery hold what a folder holds; run again, it embeds only what is new."""
    with display.progress_bars(show=not json) as progress:
        report = index_folder(
            folder,
            gallery,
            weights=weights,
            device=device,
            runtime=runtime,
            dry_run=dry_run,
            class_depth=class_depth,
            keep_removed=keep_removed,
            paranoid=paranoid,
            retry=retry,
            **({} if batch_size is None else {"batch_size": batch_size}),
            max_pixels=max_pixels,
            memory=memory,
            thumbnails=thumbnails,
            progress=progress,
        )
    if json:
        display.print_json(asdict(report))
        return
    display.show_failures(report.failed)
    display.show_report(report)
    if report.added and not dry_run:
        with Gallery.open(gallery) as opened:
            display.show_slow(opened.slow(), gallery)


def recognize(
    *,
    images: Images,
    gallery: GalleryPath,
    k: Annotated[int, typer.Option("-k", help="classes to name at most")] = default(Recognizer.recognize_each, "k"),
    metric: Annotated[str, typer.Option(help="cosine or euclidean")] = default(Recognizer.recognize_each, "metric"),
    where: Conditions = None,
    as_of: AsOf = None,
    weights: Weights = None,
    device: Device = None,
    runtime: Runtime = default(Recognizer.open, "runtime"),
    json: Json = False,
) -> None:
    """Name what images show."""
    with Recognizer.open(gallery, weights=weights, device=device, runtime=runtime) as recognizer:
        answers = recognizer.recognize_each(
            images,
            k=k,
            metric=metric,  # type: ignore[arg-type]  # checked there
            where=conditions(where),
            as_of=as_of,
        )
    show = (lambda i, a: display.print_json(display.answer_as_dict(i, a))) if json else display.show_answer
    _show_each(images, answers, show, json=json)


def search(
    *,
    images: Images,
    gallery: GalleryPath,
    k: Annotated[int, typer.Option("-k", help="references to show at most")] = default(Recognizer.search_each, "k"),
    where: Conditions = None,
    as_of: AsOf = None,
    weights: Weights = None,
    device: Device = None,
    runtime: Runtime = default(Recognizer.open, "runtime"),
    json: Json = False,
) -> None:
    """Find the reference images most like images."""
    with Recognizer.open(gallery, weights=weights, device=device, runtime=runtime) as recognizer:
        found = recognizer.search_each(images, k=k, where=conditions(where), as_of=as_of)

    def show(image: str, hits: Any) -> None:
        if json:
            display.print_json({"image": image, "hits": [display.hit_as_dict(hit) for hit in hits]})
        else:
            display.show_hits(image, hits)

    _show_each(images, found, show, json=json)


def _show_each(images: list[str], outcomes: list[Any], show: Callable[[str, Any], None], *, json: bool) -> None:
    """Show each outcome; an image that could not be read gets a line of its own, and the exit status tells."""
    failed = False
    for image, outcome in zip(images, outcomes, strict=True):
        if not isinstance(outcome, ImageError):
            show(image, outcome)
            continue
        failed = True
        if json:
            display.print_json({"image": image, "error": outcome.reason})
        else:
            display.err.print(str(outcome))
    if failed:
        raise typer.Exit(1)


def learn(
    *,
    name: Annotated[str, typer.Argument(help="of the class")],
    images: Images,
    gallery: GalleryPath,
    weights: Weights = None,
    device: Device = None,
    runtime: Runtime = default(Recognizer.open, "runtime"),
    thumbnails: Thumbnails = default(Recognizer.learn, "thumbnails"),
    json: Json = False,
) -> None:
    """Add images to the references of a class; one image makes a class."""
    with Recognizer.open(gallery, weights=weights, device=device, runtime=runtime) as recognizer:
        display.show_change(recognizer.learn(name, list(images), thumbnails=thumbnails), json=json)
