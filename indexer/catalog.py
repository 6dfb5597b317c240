"""The catalog: what a gallery holds and held, in SQLite. It is the truth; every index is a view of it."""

from __future__ import annotations

import json
import os
import sqlite3
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from sqlalchemy import Engine, func, insert, or_, select
from sqlalchemy.engine import Connection
from sqlalchemy.exc import OperationalError

from indexer.errors import GalleryDamaged, GalleryError, GalleryNewer
from indexer.schema import (
    SCHEMA_VERSION,
    engine_for,
    images,
    meta,
    names,
    plain_errors,
    references,
    revisions,
    tables,
)
from indexer.vectors import Vectors

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


class Reader:
    """What can be asked of the catalog, at one revision: that of the transaction it lives in."""

    def __init__(self, connection: Connection, dim: int, stamp: Stamp) -> None:
        self.connection = connection
        self.dim = dim
        self._origin = stamp

    def newest(self) -> Stamp:
        """Return the newest revision; the empty gallery's is 0, with the gallery's id as its mark."""
        row = self.connection.execute(
            select(revisions.c.id, revisions.c.mark).order_by(revisions.c.id.desc()).limit(1)
        ).first()
        return self._origin if row is None else Stamp(*row)

    def knows(self, stamp: Stamp) -> bool:
        """Return whether that revision is part of this history."""
        mark = self.connection.scalar(select(revisions.c.mark).where(revisions.c.id == stamp.revision))
        return stamp == self._origin if stamp.revision == 0 else mark == stamp.mark

    def log(self) -> list[Revision]:
        """Return all revisions, newest first."""
        columns = (revisions.c.id, revisions.c.action, revisions.c.summary, revisions.c.made_at)
        return [Revision(*row) for row in self.connection.execute(select(*columns).order_by(revisions.c.id.desc()))]

    def names(self) -> dict[int, str]:
        """Return the names of the live classes by class id."""
        live = select(names.c.class_id, names.c.name).where(names.c.went.is_(None))
        return {class_id: name for class_id, name in self.connection.execute(live)}

    def names_since(self, revision: int) -> dict[int, str]:
        """Return the names that came after ``revision`` and are live, by class id."""
        came = select(names.c.class_id, names.c.name).where(names.c.went.is_(None), names.c.came > revision)
        return {class_id: name for class_id, name in self.connection.execute(came)}

    def class_id(self, name: str) -> int | None:
        """Return the id of the live class of that name, if there is one."""
        return self.connection.scalar(select(names.c.class_id).where(names.c.name == name, names.c.went.is_(None)))

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
        return map(Row._make, self.connection.execute(live.execution_options(yield_per=CHUNK)))

    def references_since(self, revision: int) -> tuple[list[Row], list[tuple[int, int]]]:
        """Return the live references that came after ``revision``, and (id, class id) of those that went since."""
        came = _rows().where(references.c.came > revision, references.c.went.is_(None)).order_by(references.c.id)
        went = select(references.c.id, references.c.class_id).where(
            references.c.went > revision, references.c.came <= revision
        )
        return (
            [Row(*row) for row in self.connection.execute(came)],
            [(row.id, row.class_id) for row in self.connection.execute(went)],
        )

    def touched_since(self, revision: int) -> set[int]:
        """Return the ids of the classes with a reference that came or went after ``revision``."""
        touched = select(references.c.class_id).where(or_(references.c.came > revision, references.c.went > revision))
        return set(self.connection.scalars(touched.distinct()))

    def vectors(self, reference_ids: Iterable[int]) -> Iterator[tuple[list[int], Vectors]]:
        """Yield (ids, vectors) of these references, some hundred at a time, by ascending id within a chunk."""
        joined = select(references.c.id, images.c.vector).join(images, images.c.id == references.c.image_id)
        for chunk in chunks(reference_ids):
            found = self.connection.execute(joined.where(references.c.id.in_(chunk)).order_by(references.c.id)).all()
            yield [row.id for row in found], unpacked([row.vector for row in found], self.dim)

    def known(self, hashes: Iterable[str]) -> set[str]:
        """Return those of the hashes whose embedding the catalog holds."""
        found: set[str] = set()
        for chunk in chunks(hashes):
            found.update(self.connection.scalars(select(images.c.hash).where(images.c.hash.in_(chunk))))
        return found


class Catalog:
    """The SQLite file of one gallery, opened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with plain_errors(path):
            self._engine, facts = _opened(path)
        try:
            self.dim, self.fingerprint = int(facts["dim"]), facts["fingerprint"]
            self.id: str = facts["gallery"]
            self.embedder: dict[str, Any] = json.loads(facts["embedder"])
        except (KeyError, ValueError) as error:
            self._engine.dispose()
            raise GalleryDamaged(f"{path}: the catalog lacks a part ({error}); restore it from a copy") from error
        self._kept = self._engine.raw_connection()
        self._watch: Any = self._kept.driver_connection
        self._closed = False

    @staticmethod
    def create(path: Path, *, dim: int, fingerprint: str, embedder: Mapping[str, Any]) -> None:
        """Make an empty catalog at ``path``."""
        facts = {
            "schema_version": str(SCHEMA_VERSION),
            "gallery": uuid.uuid4().hex,
            "dim": str(dim),
            "fingerprint": fingerprint,
            "embedder": json.dumps(dict(embedder)),
        }
        engine = engine_for(path, options="mode=rwc")
        with plain_errors(path):
            try:
                with engine.connect() as connection:
                    driver = connection.connection.driver_connection
                    assert isinstance(driver, sqlite3.Connection)
                    driver.execute("PRAGMA journal_mode = WAL")  # it lasts: the file remembers
                with engine.begin() as connection:
                    tables.create_all(connection)
                    connection.execute(insert(meta), [{"key": key, "value": value} for key, value in facts.items()])
            finally:
                engine.dispose()

    def version(self) -> int:
        """Return a number that is another one after any commit, by whomever. It costs microseconds."""
        self._check_open()
        with plain_errors(self.path):
            return self._watch.execute("PRAGMA data_version").fetchone()[0]

    @contextmanager
    def reading(self) -> Iterator[Reader]:
        """A transaction that sees one revision."""
        self._check_open()
        with plain_errors(self.path), self._engine.connect() as connection, connection.begin():
            yield Reader(connection, self.dim, Stamp(0, self.id))

    @contextmanager
    def writing(self) -> Iterator[Reader]:
        """A transaction that changes the catalog: whole when it ends, nothing if it fails."""
        self._check_open()
        with plain_errors(self.path), self._engine.connect() as connection:
            connection.execution_options(writing=True)
            with connection.begin():
                yield Reader(connection, self.dim, Stamp(0, self.id))

    def close(self) -> None:
        """Close all connections; the last one to leave folds the write-ahead log into the file."""
        if not self._closed:
            self._closed = True
            self._kept.close()
            self._engine.dispose()

    def _check_open(self) -> None:
        if self._closed:
            raise GalleryError(f"{self.path.parent}: the gallery is closed; open it again")


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


def _rows() -> Any:
    columns = (references.c.id, references.c.class_id, images.c.hash, references.c.root, references.c.path)
    return select(*columns).join(images, images.c.id == references.c.image_id)


def _opened(path: Path) -> tuple[Engine, dict[str, str]]:
    """Open the file as well as its folder allows: one that may only be read has no place for SQLite's lock file."""
    ways = ["mode=rw"]
    if not os.access(path.parent, os.W_OK):
        log = path.with_name(path.name + "-wal")
        ways += ["mode=ro"] if log.exists() and log.stat().st_size else ["mode=ro", "immutable=1"]
    for way in ways:
        engine = engine_for(path, options=way)
        try:
            return engine, _facts(engine, path)
        except OperationalError:
            engine.dispose()
            if way == ways[-1]:
                raise
        except BaseException:
            engine.dispose()
            raise
    raise AssertionError("unreachable")


def _facts(engine: Engine, path: Path) -> dict[str, str]:
    with engine.connect() as connection:
        facts = {key: value for key, value in connection.execute(select(meta.c.key, meta.c.value))}
    version = facts.get("schema_version", "")
    if version.isdecimal() and int(version) > SCHEMA_VERSION:
        raise GalleryNewer(
            f"{path.parent}: made by a newer firstsight (schema {version}, this one knows {SCHEMA_VERSION}); upgrade it"
        )
    if version != str(SCHEMA_VERSION):
        raise GalleryDamaged(f"{path}: the catalog has no schema version; restore it from a copy")
    return facts
