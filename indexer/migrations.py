"""Bring a catalog that an older version made to the schema of this one, in one transaction."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Engine, inspect, select, text, update
from sqlalchemy.engine import Connection

from indexer.schema import (
    SCHEMA_VERSION,
    attributes,
    embedders,
    embeddings,
    files,
    mapped_embeddings,
    meta,
    runtimes,
    tables,
    thumbnails,
    upgrades,
)


def migrate(engine: Engine) -> None:
    """Change the tables step by step, version by version; another process that was faster leaves nothing to do."""
    with engine.connect() as connection:
        connection.execution_options(writing=True)
        with connection.begin():
            row = meta.c.key == "schema_version"
            version = int(connection.scalars(select(meta.c.value).where(row)).one())
            for step in range(version, SCHEMA_VERSION):
                STEPS[step](connection)
            connection.execute(update(meta).where(row).values(value=str(SCHEMA_VERSION)))


def _from_1(connection: Connection) -> None:
    """One embedder was written down beside its gallery's facts, its vectors beside the hashes of their images."""
    tables.create_all(connection, tables=[attributes, files, thumbnails, embedders, runtimes, upgrades, embeddings])
    fact = "(SELECT value FROM meta WHERE key = '{}')".format
    for statement in (
        "INSERT INTO embedders (id, fingerprint, dim, description)"
        f" SELECT 1, {fact('fingerprint')}, CAST({fact('dim')} AS INTEGER), {fact('embedder')}",
        "DELETE FROM meta WHERE key IN ('fingerprint', 'dim', 'embedder')",
        "INSERT INTO embeddings (image_id, embedder_id, vector, mapped)"
        " SELECT id, 1, vector, 0 FROM images ORDER BY id",
        "ALTER TABLE images DROP COLUMN vector",
    ):
        connection.execute(text(statement))


def _from_2(connection: Connection) -> None:
    """Nothing found the mapped vectors but a look at all, and nobody said what an embedder ran by."""
    # The step before has made today's tables already.
    mapped_embeddings.create(connection, checkfirst=True)
    tables.create_all(connection, tables=[runtimes])
    if "runtime_id" not in {column["name"] for column in inspect(connection).get_columns("embeddings")}:
        connection.execute(text("ALTER TABLE embeddings ADD COLUMN runtime_id INTEGER REFERENCES runtimes (id)"))


STEPS: dict[int, Callable[[Connection], None]] = {1: _from_1, 2: _from_2}
