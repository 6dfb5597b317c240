"""Repair of what can be derived from the rest; what cannot be, ``verify`` goes on to name."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Table, delete, select, text, update

from indexer import history
from indexer.catalog import Catalog
from indexer.compaction import clear
from indexer.errors import GalleryError
from indexer.laws import BAD_FILE, BAD_THUMBNAIL, GONE_ATTRIBUTES, LAWS, NO_REFERENCES, NO_VECTOR, TWICE
from indexer.past import kept
from indexer.reader import CHUNK, Reader, chunks, packed
from indexer.schema import (
    attributes,
    embedders,
    embeddings,
    files,
    images,
    names,
    references,
    runtimes,
    tables,
    thumbnails,
)
from indexer.schema import revisions as revision_rows
from indexer.vectors import unit

ROUNDING = 0.01  # so far may a length be from 1 and still be rounding, of half precision say, not another vector

_ROOTS = ("revisions", "embedders")  # where one of these is missing, nobody can say what its rows were


@dataclass(frozen=True, slots=True)
class Repair:
    """What was wrong.

    Attributes:
        done: what was repaired, a sentence each.
        broken: what could not be, as ``verify`` says it.
    """

    done: list[str]
    broken: list[str]


def repair(catalog: Catalog) -> list[str]:
    """Repair what can be derived from the rest of the catalog; return what was done, a sentence each.

    What a row told that is gone or unreadable is lost, and what hangs on it goes with it; a sentence says so. The
    caller holds the writer's lock.
    """
    done = _indexes(catalog)
    with catalog.writing() as reader:
        lost = [*_dangling(reader), *_unusable(reader), *_bare(reader), *_lengths(reader)]
        ended = _ended(reader)
        done += [*lost, *ended, *_caches(reader)]
        orphans = clear(reader.connection, max(kept(reader.connection)[0], 1))
        if orphans:
            done.append(f"removed {history.counted(orphans, 'embedding')} that no reference named")
        if lost:  # rows that a view may show are other ones now: it must not be believed
            _another_history(reader)
    done += _indexes(catalog)
    return done


def _indexes(catalog: Catalog) -> list[str]:
    """Make indexes that are missing or damaged anew; what they index must be sound, or is left for later."""
    done = []
    with suppress(GalleryError), catalog.writing() as reader:
        connection = reader.connection
        if any(row != ("ok",) for row in map(tuple, connection.execute(text("PRAGMA integrity_check")))):
            connection.execute(text("REINDEX"))
            if all(row == ("ok",) for row in map(tuple, connection.execute(text("PRAGMA integrity_check")))):
                done.append("made the indexes of the catalog anew")
        present = set(connection.scalars(text("SELECT name FROM sqlite_master")))
        for table in tables.tables.values():
            for index in sorted(table.indexes, key=lambda one: str(one.name)):
                if index.name not in present:
                    index.create(connection)
                    done.append(f"made the index {index.name} anew")
    return done


def _dangling(reader: Reader) -> Iterator[str]:
    """Remove rows that point to a row that is not there; what they told of cannot be known."""
    told = embeddings.c.runtime_id
    unknown = told.is_not(None) & told.not_in(select(runtimes.c.id))
    if reader.connection.execute(update(embeddings).where(unknown).values(runtime_id=None)).rowcount:
        yield "forgot which runtime made some vectors: its row was not there"
    while True:
        found = reader.connection.execute(text("PRAGMA foreign_key_check")).all()
        found = [row for row in found if row[2] not in _ROOTS and row[1] is not None]
        if not found:
            return
        for table, row, parent, _ in found:
            reader.connection.execute(text(f'DELETE FROM "{table}" WHERE rowid = {int(row)}'))
            yield f"removed row {row} of {table}: the row of {parent} that it points to was not there"


def _unusable(reader: Reader) -> Iterator[str]:
    """Remove vectors that are none: of another size, of no length, not finite."""
    dims = dict(reader.connection.execute(select(embedders.c.id, embedders.c.dim)).all())
    for id, hash, embedder_id, blob in _vectors(reader):
        vector = np.frombuffer(blob, "<f4") if len(blob) == 4 * dims[embedder_id] else np.empty(0)
        if not (len(vector) and np.isfinite(vector).all() and vector.any()):
            reader.connection.execute(delete(embeddings).where(embeddings.c.id == id))
            yield f"removed the vector of image {hash[:12]}, which was none"


def _bare(reader: Reader) -> Iterator[str]:
    """Remove references that have no vector: no query could find them, in no revision."""
    shown = {row.id: row.shown for row in reader.references()}
    ids = _breaking(reader, NO_VECTOR)
    _remove(reader, references, ids)
    for id in ids:
        again = "; index its folder or learn it again" if id in shown else ""
        yield f"removed reference {id}, which had no vector{again}{f' ({shown[id]})' if id in shown else ''}"


def _lengths(reader: Reader) -> Iterator[str]:
    """Scale vectors to length 1 that only rounding keeps from it."""
    for id, hash, _, blob in _vectors(reader):
        vector = np.frombuffer(blob, "<f4")
        length = float(np.linalg.norm(vector.astype(np.float64)))
        if 1e-4 < abs(length - 1.0) <= ROUNDING:
            scaled = update(embeddings).where(embeddings.c.id == id).values(vector=packed(unit(vector)))
            reader.connection.execute(scaled)
            yield f"scaled the vector of image {hash[:12]} from length {length:g} to 1"


def _ended(reader: Reader) -> list[str]:
    """Let go, in a revision, what should have gone: references told twice, names and attributes of nothing."""
    done: list[str] = []
    revision = 0
    for sentence, table, column in (
        (TWICE, references, references.c.id),
        (NO_REFERENCES, names, names.c.class_id),
        (GONE_ATTRIBUTES, attributes, attributes.c.id),
    ):
        while ids := _breaking(reader, sentence):  # of three alike, the first look finds one
            revision = revision or history.begin(reader, "repair", "repair what verify found")
            for chunk in chunks(ids):
                ending = update(table).where(column.in_(chunk), table.c.went.is_(None), table.c.came < revision)
                reader.connection.execute(ending.values(went=revision))
            done += [f"{sentence.format(id)}: let it go" for id in ids]
    return done


def _caches(reader: Reader) -> Iterator[str]:
    """Forget what can be had again."""
    for sentence, table, column in (
        (BAD_FILE, files, files.c.path),
        (BAD_THUMBNAIL, thumbnails, thumbnails.c.image_id),
    ):
        ids = _breaking(reader, sentence)
        for chunk in chunks(ids):
            reader.connection.execute(delete(table).where(column.in_(chunk)))
        yield from (f"{sentence.format(id)}: forgot it" for id in ids)


def _another_history(reader: Reader) -> None:
    for id in reader.connection.scalars(select(revision_rows.c.id)).all():
        marked = update(revision_rows).where(revision_rows.c.id == id)
        reader.connection.execute(marked.values(mark=secrets.token_hex(16)))


def _breaking(reader: Reader, sentence: str) -> list[int]:
    return list(reader.connection.scalars(text(LAWS[sentence])))


def _remove(reader: Reader, table: Table, ids: Iterable[int]) -> None:
    for chunk in chunks(ids):
        reader.connection.execute(delete(table).where(table.c.id.in_(chunk)))


def _vectors(reader: Reader) -> Iterator[tuple[int, str, int, bytes]]:
    """Yield (id, hash, embedder, bytes) of all vectors, some hundred in memory at a time."""
    stored = select(embeddings.c.id, images.c.hash, embeddings.c.embedder_id, embeddings.c.vector)
    stored = stored.join(images, images.c.id == embeddings.c.image_id).order_by(embeddings.c.id).limit(CHUNK)
    last = 0
    while rows := reader.connection.execute(stored.where(embeddings.c.id > last)).all():
        yield from map(tuple, rows)
        last = rows[-1].id
