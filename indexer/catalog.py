"""The catalog: what a gallery holds and held, in SQLite. It is the truth; every index is a view of it."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, insert, select
from sqlalchemy.engine import Connection
from sqlalchemy.exc import OperationalError

from indexer import past, regular
from indexer.errors import EmbedderMismatch, GalleryDamaged, GalleryError, GalleryNewer, GalleryOlder
from indexer.migrations import migrate
from indexer.reader import Reader, Stamp, current_embedder
from indexer.regular import NotRegular
from indexer.schema import SCHEMA_VERSION, embedders, engine_for, explained, meta, plain_errors, tables


class Catalog:
    """The SQLite file of one gallery, opened for the vectors of one embedder: after an upgrade, open it again.

    Attributes:
        gallery: tells galleries apart.
        id: tells apart what views can show: the same for the same gallery and embedder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with plain_errors(path):
            self._engine, facts = _opened(path)
            try:
                with self._engine.connect() as connection:
                    current = current_embedder(connection)
                self.dim, self.fingerprint, self.embedder_id = int(current.dim), current.fingerprint, current.id
                self.embedder: dict[str, Any] = json.loads(current.description)
                self.gallery: str = facts["gallery"]
            except (KeyError, ValueError) as error:
                self._engine.dispose()
                raise GalleryDamaged(f"{path}: the catalog lacks a part ({error}); restore it from a copy") from error
            except BaseException:
                self._engine.dispose()
                raise
        self.id = space(self.gallery, self.fingerprint)
        self._kept = self._engine.raw_connection()
        self._watch: Any = self._kept.driver_connection
        self._watching = threading.Lock()  # one connection for all threads
        self._closed = False

    @staticmethod
    def create(path: Path, *, dim: int, fingerprint: str, embedder: Mapping[str, Any]) -> None:
        """Make an empty catalog at ``path``."""
        first = {"fingerprint": fingerprint, "dim": dim, "description": json.dumps(dict(embedder))}
        Catalog.make(
            path, gallery=uuid.uuid4().hex, fill=lambda connection: connection.execute(insert(embedders), first)
        )

    @staticmethod
    def make(path: Path, *, gallery: str, fill: Callable[[Connection], Any]) -> None:
        """Make a catalog at ``path`` for the gallery with that id, and let ``fill`` write its rows, all at once."""
        facts = {"schema_version": str(SCHEMA_VERSION), "gallery": gallery}
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
                    fill(connection)
            finally:
                engine.dispose()

    def version(self) -> int:
        """Return a number that is another one after any commit, by whomever. It costs microseconds."""
        self._check_open()
        try:  # without plain_errors, which costs as much as the question: each query asks it
            with self._watching:
                return self._watch.execute("PRAGMA data_version").fetchone()[0]
        except sqlite3.Error as error:
            raise explained(self.path, error) from error

    @contextmanager
    def reading(self, as_of: int | None = None) -> Iterator[Reader]:
        """A transaction that sees one revision: the newest, or that one; RevisionMissing if it is not there."""
        self._check_open()
        with (
            plain_errors(self.path),
            self._engine.connect() as connection,
            connection.begin(),
            nullcontext() if as_of is None else past.seen(connection, as_of),
        ):
            if as_of is None:
                yield self._reader(connection)
            else:
                then = current_embedder(connection)
                yield Reader(connection, int(then.dim), Stamp(0, self.id), then.id)

    @contextmanager
    def writing(self) -> Iterator[Reader]:
        """A transaction that changes the catalog: whole when it ends, nothing if it fails."""
        self._check_open()
        with plain_errors(self.path), self._engine.connect() as connection:
            connection.execution_options(writing=True)
            with connection.begin():
                yield self._reader(connection)

    def bytes(self) -> int:
        """Return how large the file and its write-ahead log are."""
        files = (self.path, self.path.with_name(self.path.name + "-wal"))
        return sum(path.stat().st_size for path in files if path.exists())

    def shrink(self) -> None:
        """Give the space of what is gone back to the disk. Readers go on; it takes as much free space as is left."""
        self._check_open()
        with plain_errors(self.path), closing(self._engine.raw_connection()) as connection:
            driver: Any = connection.driver_connection
            driver.execute("VACUUM")
            driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def close(self) -> None:
        """Close all connections; the last one to leave folds the write-ahead log into the file."""
        if not self._closed:
            self._closed = True
            self._kept.close()
            self._engine.dispose()

    def _reader(self, connection: Connection) -> Reader:
        if current_embedder(connection).id != self.embedder_id:
            raise EmbedderMismatch(
                f"{self.path.parent}: got another embedder since it was opened; open it again, with those weights"
            )
        return Reader(connection, self.dim, Stamp(0, self.id), self.embedder_id)

    def _check_open(self) -> None:
        if self._closed:
            raise GalleryError(f"{self.path.parent}: the gallery is closed; open it again")


def space(gallery: str, fingerprint: str) -> str:
    """Return what tells apart the spaces in which the vectors of galleries lie: 32 hexadecimal digits."""
    return hashlib.sha256(f"{gallery} {fingerprint}".encode()).hexdigest()[:32]


def _opened(path: Path) -> tuple[Engine, dict[str, str]]:
    """Open the file as well as its folder allows: one that may only be read has no place for SQLite's lock file."""
    for name in (path.name, *(f"{path.name}-{what}" for what in ("wal", "shm", "journal"))):
        _check_regular(path.with_name(name))
    *ways, last = _ways(path)
    for way in ways:
        with suppress(OperationalError):
            return _tried(path, way)
    return _tried(path, last)


def _check_regular(path: Path) -> None:
    """SQLite would wait for a fifo."""
    try:
        with suppress(FileNotFoundError):
            regular.check(path.stat())
    except NotRegular as error:
        raise GalleryDamaged(f"{path}: {error}; remove it, or restore the gallery from a copy") from error


def _ways(path: Path) -> list[str]:
    if os.access(path.parent, os.W_OK):
        return ["mode=rw"]
    log = path.with_name(path.name + "-wal")
    if log.exists() and log.stat().st_size:  # what is in it would be missed
        return ["mode=rw", "mode=ro"]
    return ["mode=rw", "mode=ro", "immutable=1"]


def _tried(path: Path, way: str) -> tuple[Engine, dict[str, str]]:
    engine = engine_for(path, options=way)
    try:
        facts = _facts(engine, path)
        if int(facts["schema_version"]) < SCHEMA_VERSION:
            _modernise(engine, path)
        return engine, facts
    except BaseException:
        engine.dispose()
        raise


def _facts(engine: Engine, path: Path) -> dict[str, str]:
    with engine.connect() as connection:
        facts = {key: value for key, value in connection.execute(select(meta.c.key, meta.c.value))}
    version = facts.get("schema_version", "")
    if version.isdecimal() and int(version) > SCHEMA_VERSION:
        raise GalleryNewer(
            f"{path.parent}: made by a newer firstsight (schema {version}, this one knows {SCHEMA_VERSION}); upgrade it"
        )
    if not version.isdecimal() or int(version) < 1:
        raise GalleryDamaged(f"{path}: the catalog has no schema version; restore it from a copy")
    return facts


def _modernise(engine: Engine, path: Path) -> None:
    try:
        migrate(engine)
    except OperationalError as error:
        if "readonly" not in str(error.orig):
            raise
        raise GalleryOlder(
            f"{path.parent}: made by an older firstsight, and may only be read: copy it to where it can be changed"
        ) from error
