"""Commands that look after a gallery: they need no network, and do not wait for torch."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Annotated

import typer

from engine.cli import display
from engine.cli.options import ClassDepth, GalleryPath, Json, KeepRemoved, Paranoid, Retry, default
from indexer import build
from indexer.gallery import Gallery
from indexer.repair import Repair


def forget(
    *, name: Annotated[str, typer.Argument(help="of the class")], gallery: GalleryPath, json: Json = False
) -> None:
    """Remove a class and its references."""
    with Gallery.open(gallery) as opened:
        display.show_change(opened.remove(name), json=json)


def rename(
    *,
    old: Annotated[str, typer.Argument(help="name of the class now")],
    new: Annotated[str, typer.Argument(help="its new name")],
    gallery: GalleryPath,
    json: Json = False,
) -> None:
    """Give a class another name."""
    with Gallery.open(gallery) as opened:
        display.show_change(opened.rename(old, new), json=json)


def undo(*, gallery: GalleryPath, json: Json = False) -> None:
    """Take the newest change back, as a change of its own; twice does it again."""
    with Gallery.open(gallery) as opened:
        display.show_change(opened.undo(), json=json)


def log(*, gallery: GalleryPath, json: Json = False) -> None:
    """List the changes of a gallery, newest first."""
    with Gallery.open(gallery) as opened:
        revisions = [asdict(revision) for revision in opened.log()]
    if json:
        for revision in revisions:
            display.print_json(revision)
    else:
        display.print_table(("revision", "when", "what"), [(r["id"], r["made_at"], r["summary"]) for r in revisions])


def status(
    *,
    folder: Annotated[str | None, typer.Argument(help="say what indexing it would change", show_default=False)] = None,
    gallery: GalleryPath,
    class_depth: ClassDepth = default(build.plan, "class_depth"),
    keep_removed: KeepRemoved = default(build.plan, "keep_removed"),
    paranoid: Paranoid = default(build.plan, "paranoid"),
    retry: Retry = default(build.plan, "retry"),
    json: Json = False,
) -> None:
    """Say what a gallery holds and which embedder made it; given a folder, what indexing that would change."""
    with Gallery.open(gallery) as opened:
        if folder is None:
            _show_facts(opened, json=json)
            return
        with display.progress_bars(show=not json) as progress:
            found = build.status(
                opened,
                folder,
                class_depth=class_depth,
                keep_removed=keep_removed,
                paranoid=paranoid,
                retry=retry,
                progress=progress,
            )
    if json:
        display.print_json(asdict(found))
    else:
        display.show_failures(found.failed)
        display.show_report(found)


def _show_facts(opened: Gallery, *, json: bool) -> None:
    runtimes = opened.runtimes()
    facts = {
        "classes": len(opened.classes()),
        "images": len(opened),
        "revision": opened.revision,
        "weights": opened.embedder.get("weights"),
        "dim": opened.dim,
        "index": opened.serving().kind,
        "prototypes": opened.serving("prototypes").kind,
        "fingerprint": opened.fingerprint,
        "mapped": opened.mapped(),
    }
    if json:
        display.print_json({**facts, "runtimes": [one._asdict() for one in runtimes]})
    else:
        facts["runtimes"] = ", ".join(f"{one.name} (cosine {one.cosine:.4f} to float32)" for one in runtimes) or None
        for key, value in facts.items():
            display.out.print(f"{key:<12} {value}")


def failures(*, gallery: GalleryPath, json: Json = False) -> None:
    """List the files that could not be used when they were indexed; they are tried again when they have changed."""
    with Gallery.open(gallery) as opened:
        known = opened.files.failures()
    for one in known:
        if json:
            display.print_json(asdict(one))
        else:
            display.out.print(f"{os.path.join(one.root, one.path)}: {one.reason}")  # noqa: PTH118 (must not tidy)
    if not known and not json:
        display.out.print("no file failed")


def verify(
    *,
    gallery: GalleryPath,
    repair: Annotated[
        bool, typer.Option("--repair", help="put right what follows from the rest, and say what")
    ] = False,
    json: Json = False,
) -> None:
    """Check every promise that a gallery makes; exit status 1 if one is broken."""
    with Gallery.open(gallery) as opened:
        found = opened.repair() if repair else Repair([], opened.verify())
    if json:
        repaired = {"repaired": found.done} if repair else {}
        display.print_json({"sound": not found.broken, "broken": found.broken, **repaired})
    else:
        display.out.print("\n".join([*found.done, *(found.broken or ["the gallery is sound"])]))
    if found.broken:
        raise typer.Exit(1)
