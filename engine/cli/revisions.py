"""Commands about the revisions of a gallery: they need no network, and do not wait for torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated

import typer

from engine.cli import display
from engine.cli.options import GalleryPath, Json
from indexer.differences import ClassDiff
from indexer.gallery import Gallery
from indexer.history import counted


def diff(
    *,
    before: Annotated[int, typer.Argument(help="a revision, as `log` lists them", metavar="BEFORE")],
    after: Annotated[int | None, typer.Argument(help="another; the newest if left out", show_default=False)] = None,
    gallery: GalleryPath,
    json: Json = False,
) -> None:
    """Say what differs between two revisions."""
    with Gallery.open(gallery) as opened:
        found = opened.diff(before, after)
    if json:
        display.print_json(asdict(found))
        return
    for one in found.classes:
        for line in _lines(one):
            display.out.print(line)
    came, went = (sum(len(getattr(one, what)) for one in found.classes) for what in ("came", "went"))
    told = f"{counted(came, 'reference')} came, {counted(went, 'reference')} went"
    display.out.print(f"revision {found.before} to {found.after}: {told}; classes that differ: {len(found.classes):,}")


def compact(
    *,
    keep: Annotated[int, typer.Option(help="how many revisions to keep, the newest ones")],
    gallery: GalleryPath,
    json: Json = False,
) -> None:
    """Forget old revisions for good, and give their space back."""
    with Gallery.open(gallery) as opened:
        done = opened.compact(keep=keep)
    if json:
        display.print_json(asdict(done))
        return
    told = f"{counted(done.forgotten, 'revision')} and {counted(done.images, 'embedding')} forgotten"
    display.out.print(f"{told}, {max(done.bytes, 0) / 1e6:,.1f} MB given back; kept: {done.oldest} to {done.newest}")
    if done.problem:
        display.err.print(f"the catalog could not be made smaller: {done.problem}")


def _lines(one: ClassDiff) -> Iterator[str]:
    name = one.after if one.before in (None, one.after) else one.before if one.after is None else None
    sign = "+" if one.before is None else "-" if one.after is None else " "
    yield f"{sign} {name}" if name is not None else f"  {one.before} -> {one.after}"
    yield from (f"    + {shown}" for shown in one.came)
    yield from (f"    - {shown}" for shown in one.went)
    yield from (f"    {before} -> {after}" for before, after in one.moved)
    yield from (f"    {key}: {before} -> {after}" for key, (before, after) in one.attributes.items())
    yield from (f"    {shown}: other attributes" for shown in one.described)
