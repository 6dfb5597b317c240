"""The tables of the catalog, and the SQLite file they live in.

History is append-only: a row says in which revision it came, and ``went`` is the only field that is ever updated. The
one refinement: bulk indexing writes embeddings before its revision exists. They are *staged*: no reference names their
images, so nobody sees them, and a run that was killed finds them by their hash and embeds nothing twice. An upgrade
stages those of the embedder to be, which nobody sees before the revision that puts it in the place of the old one.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sqlalchemy import (
    Boolean,
    Column,
    Engine,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    create_engine,
    func,
    true,
)
from sqlalchemy import event as events
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from indexer.errors import FirstsightError, GalleryBusy, GalleryDamaged, GalleryError

SCHEMA_VERSION = 3
BUSY_SECONDS = 10.0  # how long SQLite waits for a lock of its own; they are held for milliseconds


def _lifetime(*, index: bool = True) -> tuple[Column[Any], Column[Any]]:
    """Return the columns that say in which revision a row came, and in which it went: NULL while it lives."""
    came: Column[Any] = Column("came", ForeignKey("revisions.id"), nullable=False, index=index)
    return came, Column("went", ForeignKey("revisions.id"))


tables = MetaData()
meta = Table("meta", tables, Column("key", Text, primary_key=True), Column("value", Text, nullable=False))
revisions = Table(
    "revisions",
    tables,
    Column("id", Integer, primary_key=True),
    Column("mark", Text, nullable=False, unique=True),  # random: this 7 is not the 7 of a copy
    Column("action", Text, nullable=False),
    Column("summary", Text, nullable=False),
    Column("made_at", Text, nullable=False),
)
# AUTOINCREMENT: an id is never used twice, so a view that knows an id knows its vector.
images = Table(
    "images",
    tables,
    Column("id", Integer, primary_key=True),
    Column("hash", Text, nullable=False, unique=True),
    sqlite_autoincrement=True,
)
# What made the vectors. The one with the lowest id is the gallery's first; of a row nothing but the description, which
# says where the weights are, ever changes.
embedders = Table(
    "embedders",
    tables,
    Column("id", Integer, primary_key=True),
    Column("fingerprint", Text, nullable=False, unique=True),
    Column("dim", Integer, nullable=False),
    Column("description", Text, nullable=False),  # a JSON object, the engine's own
)
# Which embedder stands in the place of the first one; none since no upgrade, or since one was undone.
upgrades = Table(
    "upgrades",
    tables,
    Column("id", Integer, primary_key=True),
    Column("embedder_id", ForeignKey("embedders.id"), nullable=False),
    *_lifetime(index=False),  # nobody looks for what came in a revision: there are few
    sqlite_autoincrement=True,
)
# How an embedder ran: on which device, by which library, how precisely.
runtimes = Table(
    "runtimes",
    tables,
    Column("id", Integer, primary_key=True),
    Column("embedder_id", ForeignKey("embedders.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("cosine", Float, nullable=False),  # the least to plain float32 that was measured on the gallery's images
)
Index("runtime_of_embedder", runtimes.c.embedder_id, runtimes.c.name, unique=True)
embeddings = Table(
    "embeddings",
    tables,
    Column("id", Integer, primary_key=True),
    Column("image_id", ForeignKey("images.id"), nullable=False),
    Column("embedder_id", ForeignKey("embedders.id"), nullable=False),
    Column("vector", LargeBinary, nullable=False),  # float32, little-endian
    Column("mapped", Boolean, nullable=False),  # not embedded: the image was gone, its older vector was mapped
    Column("runtime_id", ForeignKey("runtimes.id")),  # that made it; NULL if mapped, or if nobody said
)
Index("embedding_of_image", embeddings.c.image_id, embeddings.c.embedder_id, unique=True)
# Nearly always empty, and asked when a gallery is opened: are there any?
mapped_embeddings = Index("mapped_embeddings", embeddings.c.embedder_id, sqlite_where=embeddings.c.mapped == true())
classes = Table("classes", tables, Column("id", Integer, primary_key=True), sqlite_autoincrement=True)
names = Table(
    "names",
    tables,
    Column("id", Integer, primary_key=True),
    Column("class_id", ForeignKey("classes.id"), nullable=False),
    Column("name", Text, nullable=False),
    Column("folded", Text, nullable=False),  # equal for names that differ only by case
    *_lifetime(),
    sqlite_autoincrement=True,
)
references = Table(
    "references",
    tables,
    Column("id", Integer, primary_key=True),
    Column("class_id", ForeignKey("classes.id"), nullable=False),
    Column("image_id", ForeignKey("images.id"), nullable=False),
    Column("root", Text),  # the indexed folder; NULL for a learnt reference
    Column("path", Text),  # below root; for a learnt reference as it was given
    *_lifetime(),
    sqlite_autoincrement=True,
)
# What a class is beside its name (image_id NULL), or one of its references; JSON, replaced as a whole.
attributes = Table(
    "attributes",
    tables,
    Column("id", Integer, primary_key=True),
    Column("class_id", ForeignKey("classes.id"), nullable=False),
    Column("image_id", ForeignKey("images.id")),
    Column("value", Text, nullable=False),
    *_lifetime(),
    sqlite_autoincrement=True,
)
for _table in (names, references, attributes):
    # Without the living: an index in which nearly all is NULL would be chosen to find them, and be no help.
    Index(f"gone_{_table.name}", _table.c.went, sqlite_where=_table.c.went.is_not(None))
Index("live_names", names.c.folded, unique=True, sqlite_where=names.c.went.is_(None))
Index("live_name_of_class", names.c.class_id, unique=True, sqlite_where=names.c.went.is_(None))
Index(
    "live_references",
    references.c.class_id,
    references.c.image_id,
    unique=True,
    sqlite_where=references.c.went.is_(None),
)
Index(
    "live_attributes",
    attributes.c.class_id,
    func.coalesce(attributes.c.image_id, 0),  # NULLs would differ from each other
    unique=True,
    sqlite_where=attributes.c.went.is_(None),
)
# Two tables outside of history: what they hold can be had again, and may be dropped at any time.
# A file as it was when it was last read: unchanged in size, time and inode, it is not read again. With a reason, it
# could not be used: not tried again until it changes.
files = Table(
    "files",
    tables,
    Column("root", Text, primary_key=True),
    Column("path", Text, primary_key=True),
    Column("size", Integer, nullable=False),
    Column("modified_ns", Integer, nullable=False),
    Column("inode", Integer, nullable=False),
    Column("hash", Text),
    Column("reason", Text),
    sqlite_with_rowid=False,
)
# A small picture of a content, for pages to show when the image itself is gone.
thumbnails = Table(
    "thumbnails",
    tables,
    Column("image_id", ForeignKey("images.id"), primary_key=True),
    Column("jpeg", LargeBinary, nullable=False),
)


def engine_for(path: Path, *, options: str = "mode=rw") -> Engine:
    """Return an engine on the SQLite file at ``path``; ``options`` are those of an SQLite URI."""
    uri = f"file:{quote(os.fsencode(path.absolute()))}?{options}"

    def connect() -> sqlite3.Connection:
        connection = sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    engine = create_engine("sqlite://", creator=connect, poolclass=QueuePool, max_overflow=-1)
    events.listen(engine, "begin", _begin)
    return engine


def _begin(connection: Connection) -> None:
    # The driver would begin only at the first change; one snapshot for several reads needs a BEGIN of its own.
    writing = connection.get_execution_options().get("writing", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writing else "BEGIN")


@contextmanager
def plain_errors(path: Path) -> Iterator[None]:
    """Turn the errors of the database into those of this package, one line each."""
    try:
        yield
    except (DBAPIError, sqlite3.Error) as error:
        raise explained(path, error) from error


def explained(path: Path, error: DBAPIError | sqlite3.Error) -> FirstsightError:
    """Return the error to show for one of the database's."""
    reason = str(error.orig if isinstance(error, DBAPIError) else error).splitlines()[0]
    if "locked" in reason:
        return GalleryBusy(f"{path}: another program holds the catalog; try again when it has finished")
    if "disk is full" in reason:
        return GalleryError(f"{path}: the disk is full; nothing was changed, free some space and try again")
    if "readonly" in reason:
        return GalleryError(f"{path}: may only be read; change its permissions or copy it")
    if "unable to open" in reason or "disk I/O" in reason:
        return GalleryError(f"{path}: the catalog cannot be opened ({reason}); check the permissions and the disk")
    return GalleryDamaged(f"{path}: the catalog cannot be read ({reason}); restore it from a copy")
