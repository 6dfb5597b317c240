"""Commands that bring galleries to other places and together: they need no network, and do not wait for torch."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from engine.cli import display
from engine.cli.options import GalleryPath, Json, default
from indexer.merging import merge as merge_galleries
from indexer.portable import Portable, export_gallery, import_gallery


def export(
    *,
    out: Annotated[Path, typer.Argument(help="folder to make")],
    gallery: GalleryPath,
    newest_only: Annotated[bool, typer.Option("--newest-only", help="leave out the history")] = default(
        export_gallery, "newest_only"
    ),
    json: Json = False,
) -> None:
    """Write a gallery to a folder of Parquet tables and JSON, for any program and machine."""
    _show("exported", export_gallery(gallery, out, newest_only=newest_only), json=json)


def import_(
    *,
    folder: Annotated[Path, typer.Argument(help="folder that `export` wrote")],
    gallery: GalleryPath,
    json: Json = False,
) -> None:
    """Make a new gallery of an exported one: same answers, same log."""
    _show("imported", import_gallery(folder, gallery), json=json)


def merge(
    *,
    other: Annotated[Path, typer.Argument(help="gallery of the same embedder")],
    gallery: GalleryPath,
    json: Json = False,
) -> None:
    """Add the classes and references of another gallery, as one change."""
    display.show_change(merge_galleries(gallery, other), json=json)


def _show(done: str, what: Portable, *, json: bool) -> None:
    if json:
        display.print_json(asdict(what))
    else:
        display.out.print(f"{done} {what.classes:,} classes from {what.images:,} images (revision {what.revision})")
