"""What can be asked of the catalog, at one revision."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import numpy as np
from sqlalchemy import Column, and_, case, func, or_, select
from sqlalchemy.engine import Connection

from indexer.errors import GalleryDamaged
from indexer.names import fold
from indexer.schema import embedders, embeddings, images, names, references, revisions, upgrades
from indexer.vectors import Vectors

BULK = 10_000  # small rows fetched together
CHUNK = 500  # values in one IN (...), vectors in one array: bounds memory, keeps clear of SQLite's limits

Item = TypeVar("Item")


class Stamp(NamedTuple):
    """One revision of one history."""

    revision: int
    mark: str


@dataclass(frozen=True, slots=True)
class Revision:
    """One line of the log: what changed, and when (UTC, ISO 8601)."""

    id: int
    action: str
    summary: str
    made_at: str


class Row(NamedTuple):
    """A reference as the catalog has it. ``root`` is None for a learnt one."""

    id: int
    class_id: int
    hash: str
    root: str | None
    path: str | None

    @property
    def shown(self) -> str:
        """What to show for it: where its image is, as far as it is known."""
        if self.path is None:
            return f"sha256:{self.hash[:12]}"
        return self.path if self.root is None else os.path.join(self.root, self.path)  # noqa: PTH118 (must not tidy)


class EmbedderRow(NamedTuple):
    """An embedder as the catalog has it; ``description`` is JSON."""

    id: int
    fingerprint: str
    dim: int
    description: str


class Reader:
    """What can be asked of the catalog, at one revision: that of the transaction it lives in."""

    def __init__(self, connection: Connection, dim: int, stamp: Stamp, embedder_id: int) -> None:
        self.connection = connection
        self.dim = dim
        self.embedder_id = embedder_id  # of the vectors it speaks of
        self._origin = stamp

    def newest(self) -> Stamp:
        """Return the newest revision; the empty gallery's is 0, with the gallery's id as its mark."""
        row = self.connection.execute(
            select(revisions.c.id, revisions.c.mark).order_by(revisions.c.id.desc()).limit(1)
        ).first()
        return self._origin if row is None else Stamp(*row)

    def stamp(self, revision: int) -> Stamp:
        """Return the stamp of a revision that is there."""
        mark = self.connection.scalar(select(revisions.c.mark).where(revisions.c.id == revision))
        return self._origin if mark is None else Stamp(revision, mark)

    def knows(self, stamp: Stamp) -> bool:
        """Return whether that revision is part of this history."""
        mark = self.connection.scalar(select(revisions.c.mark).where(revisions.c.id == stamp.revision))
        return stamp == self._origin if stamp.revision == 0 else mark == stamp.mark

    def log(self, *, limit: int | None = None) -> list[Revision]:
        """Return the revisions, newest first."""
        columns = (revisions.c.id, revisions.c.action, revisions.c.summary, revisions.c.made_at)
        newest = select(*columns).order_by(revisions.c.id.desc()).limit(limit)
        return [Revision(*row) for row in self.connection.execute(newest)]

    def names(self) -> dict[int, str]:
        """Return the names of the live classes by class id."""
        live = select(names.c.class_id, names.c.name).where(names.c.went.is_(None))
        return {class_id: name for class_id, name in self.connection.execute(live)}

    def names_since(self, revision: int) -> dict[int, str]:
        """Return the names that came after ``revision`` and are live, by class id."""
        came = select(names.c.class_id, names.c.name, names.c.went).where(names.c.came > revision)
        return {row.class_id: row.name for row in self.connection.execute(came) if row.went is None}

    def class_id(self, name: str) -> int | None:
        """Return the id of the live class of that name, if there is one."""
        return self.class_ids([name]).get(name)

    def class_ids(self, wanted: Iterable[str]) -> dict[str, int]:
        """Return the ids of the live classes of these names."""
        found: dict[str, int] = {}
        for chunk in chunks(wanted):
            # Folded names have the index. Classes that differ only by case come along, and are passed over.
            live = select(names.c.name, names.c.class_id).where(
                names.c.went.is_(None), names.c.folded.in_({fold(name) for name in chunk})
            )
            exact = set(chunk)
            found.update((name, class_id) for name, class_id in self.connection.execute(live) if name in exact)
        return found

    def classes(self) -> dict[str, int]:
        """Return the number of references of each live class, sorted by name."""
        counts = (
            select(names.c.name, func.count())
            .join(references, references.c.class_id == names.c.class_id)
            .where(names.c.went.is_(None), references.c.went.is_(None))
            .group_by(names.c.class_id)
        )
        return {name: count for name, count in sorted(map(tuple, self.connection.execute(counts)))}

    def count(self) -> int:
        """Return the number of live references."""
        live = select(func.count()).select_from(references).where(references.c.went.is_(None))
        return self.connection.scalar(live) or 0

    def references(self, *, of_class: int | None = None) -> Iterator[Row]:
        """Yield the live references by ascending id."""
        live = _rows().where(references.c.went.is_(None)).order_by(references.c.id)
        if of_class is not None:
            live = live.where(references.c.class_id == of_class)
        for rows in self.connection.execute(live.execution_options(yield_per=CHUNK)).partitions():
            yield from map(Row._make, rows)

    def shown(self) -> Iterator[tuple[int, int, str]]:
        """Yield (id, class id, ``Row.shown``) of the live references by ascending id; rows cost more."""
        unnamed = select("sha256:" + func.substr(images.c.hash, 1, 12)).where(images.c.id == references.c.image_id)
        root, path = references.c.root, references.c.path
        shown = case(
            (path.is_(None), unnamed.scalar_subquery()),  # here alone: an image's page is read for no other
            (or_(root.is_(None), func.substr(path, 1, 1) == "/"), path),
            (or_(func.substr(root, -1) == "/", root == ""), root + path),
            else_=root + "/" + path,
        )
        live = select(references.c.id, references.c.class_id, shown).where(references.c.went.is_(None))
        for rows in self.connection.execute(live.order_by(references.c.id)).partitions(BULK):
            yield from map(tuple, rows)

    def references_since(self, revision: int) -> tuple[list[Row], list[tuple[int, int]]]:
        """Return the live references that came after ``revision``, and (id, class id) of those that went since."""
        # One condition in SQL, the other here: given both, SQLite may choose the index that narrows nothing.
        came = _rows(references.c.went).where(references.c.came > revision)
        went = select(references.c.id, references.c.class_id, references.c.came).where(references.c.went > revision)
        return (
            sorted(Row(*row[:-1]) for row in self.connection.execute(came) if row.went is None),
            [(row.id, row.class_id) for row in self.connection.execute(went) if row.came <= revision],
        )

    def moved_since(self, stamp: Stamp, *, limit: int) -> int:
        """Return how many references came or went after that revision, or ``limit`` if it is more."""
        after = stamp.revision
        came = select(references.c.id).where(references.c.came > after).limit(limit)
        went = select(references.c.id).where(references.c.went > after).limit(limit)
        counts = (select(func.count()).select_from(some.subquery()) for some in (came, went))
        return min(limit, sum(self.connection.scalar(count) or 0 for count in counts))

    def touched_since(self, revision: int) -> set[int]:
        """Return the ids of the classes with a reference that came or went after ``revision``."""
        touched = select(references.c.class_id).where(or_(references.c.came > revision, references.c.went > revision))
        return set(self.connection.scalars(touched.distinct()))

    def vectors(self, reference_ids: Iterable[int]) -> Iterator[tuple[list[int], Vectors]]:
        """Yield (ids, vectors) of these references, some hundred at a time, by ascending id within a chunk."""
        joined = select(references.c.id, embeddings.c.vector).join(embeddings, self.embedded(references.c.image_id))
        for chunk in chunks(reference_ids):
            found = self.connection.execute(joined.where(references.c.id.in_(chunk)).order_by(references.c.id)).all()
            yield [row.id for row in found], unpacked([row.vector for row in found], self.dim)

    def embedded(self, image_id: Any) -> Any:
        """Return the condition that joins ``embeddings`` to a column of image ids: those of this embedder."""
        return and_(embeddings.c.image_id == image_id, embeddings.c.embedder_id == self.embedder_id)

    def by(self, embedder: EmbedderRow) -> Reader:
        """Return one that speaks of the vectors of another embedder, in the same transaction."""
        return Reader(self.connection, embedder.dim, self._origin, embedder.id)

    def first_embedder(self) -> int:
        """Return the id of the embedder that the gallery was made with, as far as the history goes back."""
        return self.connection.scalar(select(func.min(embedders.c.id))) or 0

    def vectors_of(self, hashes: Iterable[str]) -> tuple[list[str], Vectors]:
        """Return contents and their vectors, as far as the catalog has them; the same order for any embedder."""
        joined = select(images.c.hash, embeddings.c.vector).join(embeddings, self.embedded(images.c.id))
        rows = self.connection.execute(joined.where(images.c.hash.in_(hashes)).order_by(images.c.hash)).all()
        return [row.hash for row in rows], unpacked([row.vector for row in rows], self.dim)

    def truly_embedded(self, hashes: Iterable[str]) -> set[str]:
        """Return those of the contents that were embedded, not mapped."""
        joined = select(images.c.hash).join(embeddings, self.embedded(images.c.id)).where(~embeddings.c.mapped)
        return {
            hash for chunk in chunks(hashes) for hash in self.connection.scalars(joined.where(images.c.hash.in_(chunk)))
        }

    def mapped(self, ids: Iterable[int] | None = None) -> set[int]:
        """Return the ids of the live references, of these or all, whose vectors were mapped. Soon told if none was."""
        mapped = embeddings.c.mapped & (embeddings.c.embedder_id == self.embedder_id)
        if self.connection.scalar(select(embeddings.c.id).where(mapped).limit(1)) is None:
            return set()
        live = select(references.c.id).join(embeddings, embeddings.c.image_id == references.c.image_id)
        live = live.where(references.c.went.is_(None), mapped)
        queries = [live] if ids is None else (live.where(references.c.id.in_(chunk)) for chunk in chunks(ids))
        return {id for query in queries for id in self.connection.scalars(query)}

    def known(self, hashes: Iterable[str]) -> set[str]:
        """Return those of the hashes whose embedding the catalog holds."""
        return {hash for hash, embedded in self.images_of(hashes).items() if embedded}

    def images_of(self, hashes: Iterable[str]) -> dict[str, bool]:
        """Return which of the contents the catalog has, and whether with an embedding."""
        found: dict[str, bool] = {}
        joined = select(images.c.hash, embeddings.c.id).outerjoin(embeddings, self.embedded(images.c.id))
        for chunk in chunks(hashes):
            rows = self.connection.execute(joined.where(images.c.hash.in_(chunk)))
            found.update((hash, id is not None) for hash, id in rows)
        return found

    def image_ids(self, hashes: Iterable[str]) -> dict[str, int]:
        """Return the ids of the images of these contents, as far as the catalog has them."""
        found: dict[str, int] = {}
        for chunk in chunks(hashes):
            rows = self.connection.execute(select(images.c.hash, images.c.id).where(images.c.hash.in_(chunk)))
            found.update((hash, id) for hash, id in rows)
        return found


# Made once: it is asked in every transaction.
_CURRENT = select(embedders).where(
    embedders.c.id
    == func.coalesce(
        select(upgrades.c.embedder_id).where(upgrades.c.went.is_(None)).scalar_subquery(),
        select(func.min(embedders.c.id)).scalar_subquery(),
    )
)


def current_embedder(connection: Connection) -> EmbedderRow:
    """Return the embedder whose vectors the newest revision has; GalleryDamaged if there is none."""
    row = connection.execute(_CURRENT).first()
    if row is None:
        raise GalleryDamaged("the catalog names no embedder; restore it from a copy")
    return EmbedderRow(*row)


def chunks(items: Iterable[Item], size: int = CHUNK) -> Iterator[list[Item]]:
    """Yield the items in lists of at most ``size``."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def packed(vector: Vectors) -> bytes:
    """Return the bytes in which the catalog keeps a vector."""
    return vector.astype("<f4").tobytes()


def unpacked(blobs: Sequence[bytes], dim: int) -> Vectors:
    """Return vectors ``(n, dim)`` from the catalog's bytes."""
    if any(len(blob) != 4 * dim for blob in blobs):
        raise GalleryDamaged(f"a vector in the catalog has not {dim} floats; verify tells which one")
    return np.frombuffer(b"".join(blobs), "<f4").reshape(-1, dim).astype(np.float32)


def _rows(*more: Column[Any]) -> Any:
    columns = (references.c.id, references.c.class_id, images.c.hash, references.c.root, references.c.path)
    return select(*columns, *more).join(images, images.c.id == references.c.image_id)
