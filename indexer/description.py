"""A class as a person looks at it: what is known of it, and its references with what is known of each."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from indexer import attributes, history
from indexer.attributes import Attributes
from indexer.errors import ArgumentError
from indexer.history import Change
from indexer.images import printable
from indexer.reader import Reader
from indexer.schema import images

SHORTEST = 6  # characters of a hash that may stand for it
_NAMED = 5  # keys that a summary names


@dataclass(frozen=True, slots=True)
class Described:
    """A reference: where its image is, its content, and its own attributes, which go before those of its class."""

    reference: str
    hash: str
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class Description:
    """A class with its attributes and all its references, by the order in which they came."""

    name: str
    attributes: Attributes
    references: list[Described]

    def find(self, reference: str) -> str:
        """Return the hash of the reference that a text means: its path, its hash, or six or more characters of that.

        Raises:
            ArgumentError: it means none of them, or several.
        """
        start = reference.removeprefix("sha256:").lower()
        paths = {reference, printable(reference), os.fspath(Path(reference).absolute())}
        found = {one.hash for one in self.references if one.reference in paths}
        if not found and len(start) >= SHORTEST:
            found = {one.hash for one in self.references if one.hash.startswith(start)}
        if len(found) != 1:
            many = "several references" if found else "no reference"
            raise ArgumentError(
                f"the class {self.name!r} has {many} {printable(reference)}; `firstsight show` lists them"
            )
        return found.pop()


def describe(reader: Reader, class_id: int, name: str) -> Description:
    """Return what is known of a class."""
    rows = list(reader.references(of_class=class_id))
    own = dict(attributes.of_references(reader, [row.id for row in rows]))
    listed = [Described(row.shown, row.hash, own.get(row.id, {})) for row in rows]
    return Description(name, attributes.of_class(reader, class_id), listed)


def set_attributes(
    reader: Reader, class_id: int, name: str, changes: Mapping[str, Any], *, hash: str | None = None
) -> Change:
    """Change attributes of a class, or of its reference with that content, in one revision; None removes one."""
    chosen = attributes.checked(changes)
    keys = ", ".join(map(repr, chosen)) if len(chosen) <= _NAMED else f"{len(chosen)} attributes"
    if hash is None:
        return history.set_attributes(reader, class_id, None, chosen, f"set {keys} of {name!r}")
    if all(row.hash != hash for row in reader.references(of_class=class_id)):
        raise ArgumentError(f"the class {name!r} has no reference sha256:{hash[:12]}; nothing was changed")
    image_id = reader.connection.scalar(select(images.c.id).where(images.c.hash == hash))
    return history.set_attributes(reader, class_id, image_id, chosen, f"set {keys} of sha256:{hash[:12]} of {name!r}")
