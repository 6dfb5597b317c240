"""The catalog as it was at a revision: views that stand before its tables, for one connection and one transaction.

A name without a schema is SQLite's temporary one first. So whatever is asked of the catalog, by whatever part of this
package, is answered from the past; the file is not written.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Table, func, select
from sqlalchemy.engine import Connection

from indexer.errors import RevisionMissing
from indexer.schema import revisions, tables
from indexer.vectors import check_count

TEMPORAL = [table for table in tables.sorted_tables if "went" in table.columns]
"""The tables whose rows say in which revision they came and in which they went."""


@contextmanager
def seen(connection: Connection, revision: int) -> Iterator[None]:
    """Let the connection, in a transaction, see the catalog as it was; RevisionMissing if that cannot be."""
    check_known(connection, revision)
    views = {table.name: _as_of(table, revision) for table in TEMPORAL}
    views[revisions.name] = f"SELECT * FROM main.{revisions.name} WHERE id <= {revision:d}"
    for name, query in views.items():
        connection.exec_driver_sql(f'CREATE TEMP VIEW "{name}" AS {query}')
    yield
    for name in views:  # if it fails in between, the transaction takes them back
        connection.exec_driver_sql(f'DROP VIEW temp."{name}"')


def check_known(connection: Connection, revision: int) -> int:
    """Return the number of a revision that the catalog can show, else raise RevisionMissing."""
    revision = check_count("a revision", revision, least=0)
    oldest, newest = kept(connection)
    if revision > newest:
        raise RevisionMissing(f"there is no revision {revision}; the newest is {newest}, and log lists them all")
    if revision < oldest:
        raise RevisionMissing(f"revision {revision} was forgotten by compact; the oldest one kept is {oldest}")
    return revision


def kept(connection: Connection) -> tuple[int, int]:
    """Return the oldest and the newest revision that can be shown; the empty gallery's is 0."""
    oldest, newest = connection.execute(select(func.min(revisions.c.id), func.max(revisions.c.id))).one()
    return (0 if oldest in (None, 1) else oldest), newest or 0


def _as_of(table: Table, revision: int) -> str:
    columns = ", ".join(f'"{column.name}"' for column in table.columns if column.name != "went")
    went = f"CASE WHEN went <= {revision:d} THEN went END AS went"
    return f'SELECT {columns}, {went} FROM main."{table.name}" WHERE came <= {revision:d}'
