"""What a hit needs beside vectors, as a file: mappings in pages, each read when something on it is first asked for.

A sealed file whose blocks are pages in JSON; its facts say which page of which mapping they are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from indexer import folder
from indexer.pages import Pages
from indexer.sealed import Label, NoView, Sealed, Sealing

Make = Callable[[Any], Any]
"""A value from what JSON gives back of it."""


def save(mappings: Mapping[str, Pages[Any]], path: Path, label: Label) -> None:
    """Write mappings to ``path``, whole or not at all. Raises OSError when the disk is full or may not be written."""
    places: dict[str, list[tuple[int, int]]] = {}  # number and length of each page, in the order of the blocks
    with folder.written_whole(path) as file:
        sealing = Sealing(file)
        for name, pages in mappings.items():
            places[name] = []
            for place, page in pages.passing():
                sealing.add(json.dumps(list(page.items()), separators=(",", ":")).encode())
                places[name].append((place, len(page)))
        sealing.seal({**asdict(label), "pages": places})


def load(path: Path, makes: Mapping[str, Make], *, what: str, gallery: str) -> tuple[dict[str, Pages[Any]], Label]:
    """Return the mappings named in ``makes``, and the file's label; NoView unless it shows ``what`` of this gallery.

    Whether a page is whole is found out when it is asked for.
    """
    file = Sealed(path)
    label = Label.read(file, what=what, gallery=gallery)
    try:
        told: dict[str, list[tuple[int, int]]] = file.facts["pages"]
        if list(told) != list(makes) or sum(map(len, told.values())) != len(file):
            raise NoView("holds something else")
        mappings, first = {}, 0
        for name, places in told.items():
            mappings[name] = _lazily(file, first, places, makes[name])
            first += len(places)
    except (KeyError, TypeError, ValueError) as error:
        raise NoView("is not a view") from error
    return mappings, label


def _lazily(file: Sealed, first: int, places: list[tuple[int, int]], make: Make) -> Pages[Any]:
    blocks = {place: first + number for number, (place, _) in enumerate(places)}

    def fetch(place: int) -> dict[int, Any]:
        return {key: make(value) for key, value in json.loads(file.read(blocks[place]))}

    return Pages.lazy(dict(places), fetch)
