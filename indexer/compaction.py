"""Forgetting old revisions: what only they had goes for good, and its space is given back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from sqlalchemy import ColumnElement, CompoundSelect, Table, delete, exists, func, or_, select, update
from sqlalchemy.engine import Connection

from indexer.catalog import Catalog
from indexer.errors import GalleryError
from indexer.past import TEMPORAL, kept
from indexer.reader import current_embedder
from indexer.schema import classes, embedders, embeddings, images, revisions, tables, upgrades


@dataclass(frozen=True, slots=True)
class Compaction:
    """What forgetting did.

    Attributes:
        oldest: the oldest revision that is kept; 0 if that is the empty gallery's.
        newest: the newest one.
        forgotten: revisions that are gone.
        images: contents whose embeddings are gone, since no reference has them any more.
        bytes: by which the catalog's files are smaller now.
        problem: why they are not, if they could not be made smaller; what was forgotten is forgotten all the same.
    """

    oldest: int
    newest: int
    forgotten: int
    images: int
    bytes: int
    problem: str | None = None


def compact(catalog: Catalog, *, keep: int) -> Compaction:
    """Forget all revisions but the newest ``keep``, in one transaction; then make the file smaller.

    Embeddings that no reference of a kept revision has go too, those that a killed run staged among them: the caller
    holds the writer's lock, so no run is about to use them.
    """
    before = catalog.bytes()
    with catalog.writing() as reader:
        first, newest = kept(reader.connection)
        oldest = max(first, newest - keep + 1)
        forgotten = _forget(reader.connection, oldest) if oldest > 1 else 0
        gone = clear(reader.connection, oldest)
    problem = None
    try:
        catalog.shrink()
    except GalleryError as error:
        problem = str(error)
    return Compaction(first if oldest == 1 else oldest, newest, forgotten, gone, before - catalog.bytes(), problem)


def _forget(connection: Connection, oldest: int) -> int:
    """What went by then was never there; what came before came then."""
    for table in TEMPORAL:
        connection.execute(delete(table).where(table.c.went <= oldest))
        connection.execute(update(table).where(table.c.came < oldest).values(came=oldest))
    return connection.execute(delete(revisions).where(revisions.c.id < oldest)).rowcount


def clear(connection: Connection, oldest: int) -> int:
    """Delete what no revision from ``oldest`` on names: images, classes, vectors of other embedders.

    Return the number of images. Those that are staged are among them.
    """
    unused = ~_named_by(images, TEMPORAL)
    gone = select(images.c.id).where(unused)
    with _indexed(connection):
        for table in tables.sorted_tables:
            for column in _pointing(table, images) if table not in TEMPORAL else ():
                connection.execute(delete(table).where(column.in_(gone)))
        count = connection.execute(delete(images).where(unused)).rowcount
        connection.execute(delete(classes).where(~_named_by(classes, TEMPORAL)))
    needed = {current_embedder(connection).id, *connection.scalars(_embedders(oldest))}
    connection.execute(delete(embeddings).where(embeddings.c.embedder_id.not_in(needed)))
    return count


def _embedders(oldest: int) -> CompoundSelect[tuple[int]]:
    """Those whose vectors some revision from ``oldest`` on has: the first one's where no other stands in its place."""
    went_later = or_(upgrades.c.went.is_(None), upgrades.c.went > revisions.c.id)
    upgraded = exists().where(upgrades.c.came <= revisions.c.id, went_later).correlate(revisions)
    bare = exists().where(revisions.c.id >= oldest, ~upgraded)
    return select(upgrades.c.embedder_id).union(select(func.coalesce(func.min(embedders.c.id), 0)).where(bare))


def _named_by(target: Table, others: list[Table]) -> ColumnElement[bool]:
    return or_(*(exists().where(column == target.c.id) for table in others for column in _pointing(table, target)))


def _pointing(table: Table, target: Table) -> list[ColumnElement[int]]:
    return [column for column in table.columns if any(key.column.table is target for key in column.foreign_keys)]


@contextmanager
def _indexed(connection: Connection) -> Iterator[None]:
    """Have an index on every column that names an image or a class: without it, each deletion looks at all rows."""
    columns = [
        (f"compacting_{table.name}_{column.name}", table.name, column.name)
        for table in tables.sorted_tables
        for target in (images, classes)
        for column in _pointing(table, target)
    ]
    for index, table_name, column_name in columns:
        connection.exec_driver_sql(f'CREATE INDEX "{index}" ON "{table_name}" ("{column_name}")')
    yield
    for index, _, _ in columns:  # if it fails in between, the transaction takes them back
        connection.exec_driver_sql(f'DROP INDEX "{index}"')
