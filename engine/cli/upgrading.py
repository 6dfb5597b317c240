"""The command that gives a gallery another embedder."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from engine.cli import display
from engine.cli.options import Device, GalleryPath, Json, Memory, NewWeights, default
from engine.upgrading import upgrade_gallery
from indexer import upgrading


def upgrade(
    *,
    weights: NewWeights,
    gallery: GalleryPath,
    device: Device = None,
    drop_missing: Annotated[
        bool, typer.Option("--drop-missing", help="leave out references whose images are gone, do not map them")
    ] = default(upgrading.upgrade, "drop_missing"),
    batch_size: Annotated[int, typer.Option(help="images embedded at once")] = default(upgrading.upgrade, "batch_size"),
    max_pixels: Annotated[int, typer.Option(help="larger images are refused")] = default(
        upgrading.upgrade, "max_pixels"
    ),
    memory: Memory = default(upgrading.upgrade, "memory"),
    json: Json = False,
) -> None:
    """Embed a gallery's images with other weights, and put them in place at once; killed, it goes on."""
    with display.progress_bars(show=not json) as progress:
        done = upgrade_gallery(
            gallery,
            weights=weights,
            device=device,
            drop_missing=drop_missing,
            batch_size=batch_size,
            max_pixels=max_pixels,
            memory=memory,
            progress=progress,
        )
    if json:
        display.print_json(asdict(done))
        return
    display.show_failures(done.failed)
    display.out.print(
        f"{done.embedded:,} embedded, {done.mapped:,} mapped, {done.dropped:,} left out"
        f" (revision {done.revision}, {done.seconds:.1f} s)"
    )
    if done.loss is not None:
        display.out.print(
            f"on images at hand that it had not seen, the map reached a mean cosine of {done.loss.cosine:.3f}"
            f" and a class recall@1 of {done.loss.recall_at_1:.3f}; `firstsight undo` takes the upgrade back"
        )
