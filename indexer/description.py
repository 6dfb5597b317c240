"""A class as a person looks at it: what is known of it, and its references with what is known of each."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from indexer import attributes, history, runtimes
from indexer.attributes import Attributes, Place
from indexer.errors import ArgumentError, ClassMissing
from indexer.history import Change
from indexer.names import check_name, suggestion
from indexer.printable import printable
from indexer.reader import Reader, chunks
from indexer.schema import images, references

Setting = tuple[str, str | None, Mapping[str, Any]]
"""A class by name, one of its references by the hash of its content or None, and what changes of its attributes."""

SHORTEST = 6  # characters of a hash that may stand for it
_NAMED = 5  # keys that a summary names


@dataclass(frozen=True, slots=True)
class Described:
    """A reference: where its image is, its content, and its own attributes, which go before those of its class.

    ``mapped``: its image was gone at an upgrade, and its vector was mapped from the one by the embedder before.
    ``runtime``: what ran the embedder when its vector was made; None if it was mapped, or if nobody said.
    """

    reference: str
    hash: str
    attributes: Attributes
    mapped: bool = False
    runtime: str | None = None


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


def class_id(reader: Reader, name: str) -> int:
    """Return the id of the class of that name; ClassMissing if there is none."""
    found = reader.class_id(check_name(name))
    if found is None:
        raise _missing(reader, name)
    return found


def describe(reader: Reader, class_id: int, name: str) -> Description:
    """Return what is known of a class."""
    rows = list(reader.references(of_class=class_id))
    own = dict(attributes.of_references(reader, [row.id for row in rows]))
    mapped, made_by = reader.mapped(row.id for row in rows), runtimes.of_references(reader, [row.id for row in rows])
    listed = [
        Described(row.shown, row.hash, own.get(row.id, {}), row.id in mapped, made_by.get(row.id)) for row in rows
    ]
    return Description(name, attributes.of_class(reader, class_id), listed)


def set_attributes(reader: Reader, changes: Iterable[Setting]) -> Change:
    """Change attributes of classes and references, in one revision; a place that is named twice is changed twice."""
    wanted = [(name, hash, attributes.checked(more)) for name, hash, more in changes]
    class_ids = reader.class_ids({name for name, _, _ in wanted})
    image_ids = _image_ids(reader, {hash for _, hash, _ in wanted if hash is not None})
    found: dict[Place, Attributes] = {}
    for name, hash, more in wanted:
        if name not in class_ids:
            raise _missing(reader, name)
        class_id = class_ids[name]
        if hash is not None and (class_id, hash) not in image_ids:
            raise ArgumentError(f"the class {name!r} has no reference sha256:{hash[:12]}; nothing was changed")
        place = class_id, None if hash is None else image_ids[class_id, hash]
        found[place] = {**found.get(place, {}), **more}
    return history.set_attributes(reader, found, _summary(wanted))


def writing(
    reader: Reader, described: Mapping[tuple[str, str], Mapping[str, Any]], *, anyway: bool
) -> Callable[[int], None] | None:
    """Return what changes references' attributes, by class name and content, in a revision that is being made.

    None if there is nothing to change, unless the revision is made ``anyway`` and may bring the references.
    """
    if not described or not (anyway or attributes.rewritten(reader, attributes.places(reader, described)).values):
        return None

    def write(revision: int) -> None:
        changes = attributes.places(reader, described)  # of the references that are there by now
        attributes.write(reader.connection, revision, *attributes.rewritten(reader, changes))

    return write


def _missing(reader: Reader, name: str) -> ClassMissing:
    return ClassMissing(f"there is no class {name!r}{suggestion(name, reader.names().values())}")


def _image_ids(reader: Reader, hashes: Iterable[str]) -> dict[tuple[int, str], int]:
    """Return the ids of the images of live references, by class id and hash."""
    live = (
        select(references.c.class_id, images.c.hash, images.c.id)
        .join(images, images.c.id == references.c.image_id)
        .where(references.c.went.is_(None))
    )
    found = {}
    for chunk in chunks(hashes):
        for class_id, hash, id in reader.connection.execute(live.where(images.c.hash.in_(chunk))):
            found[class_id, hash] = id
    return found


def _summary(wanted: list[tuple[str, str | None, Attributes]]) -> str:
    if len(wanted) != 1:
        return f"set attributes of {len(wanted):,} classes and references"
    ((name, hash, changes),) = wanted
    keys = ", ".join(map(repr, changes)) if len(changes) <= _NAMED else f"{len(changes)} attributes"
    return f"set {keys} of {name!r}" if hash is None else f"set {keys} of sha256:{hash[:12]} of {name!r}"
