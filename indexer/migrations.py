"""Bring a catalog that an older version made to the schema of this one, in one transaction."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Engine, select, update
from sqlalchemy.engine import Connection

from indexer.schema import SCHEMA_VERSION, attributes, files, meta, tables, thumbnails


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
    tables.create_all(connection, tables=[attributes, files, thumbnails])


STEPS: dict[int, Callable[[Connection], None]] = {1: _from_1}
