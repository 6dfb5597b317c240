"""Commands about what a gallery knows of a class beside its name: they do not wait for torch."""

from __future__ import annotations

import json as json_text
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

import typer

from engine.cli import display
from engine.cli.options import GalleryPath, Json
from indexer import attributes
from indexer.errors import ArgumentError
from indexer.gallery import Gallery


def set(
    *,
    name: Annotated[str, typer.Argument(help="of the class")],
    values: Annotated[
        list[str], typer.Argument(metavar="KEY=VALUE...", help="JSON, or else text; null removes", show_default=False)
    ],
    gallery: GalleryPath,
    reference: Annotated[
        str | None, typer.Option(help="of this one, by its path or hash, not of the class", show_default=False)
    ] = None,
    json: Json = False,
) -> None:
    """Set attributes of a class, or of one of its references."""
    changes = dict(_pair(text) for text in values)
    with Gallery.open(gallery) as opened:
        hash = None if reference is None else opened.describe(name).find(reference)
        display.show_change(opened.set(name, changes, hash=hash), json=json)


def show(
    *, name: Annotated[str, typer.Argument(help="of the class")], gallery: GalleryPath, json: Json = False
) -> None:
    """Show a class: its attributes, and its references with theirs."""
    with Gallery.open(gallery) as opened:
        found = opened.describe(name)
    if json:
        display.print_json(asdict(found))
        return
    display.out.print(found.name)
    for line in _lines(found.attributes):
        display.out.print(f"  {line}")
    rows = [
        (display.marked(one), one.hash[:12], one.runtime or "", ", ".join(_lines(one.attributes)))
        for one in found.references
    ]
    display.print_table(("reference", "sha256", "embedded by", "attributes of its own"), rows)


def _pair(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise ArgumentError(f"{text!r} sets nothing: write KEY=VALUE, as in site=paris or price=3")
    return key.strip(), attributes.parsed(value.strip())


def _lines(found: Mapping[str, Any]) -> list[str]:
    return [f"{key} = {json_text.dumps(value, ensure_ascii=False)}" for key, value in found.items()]
