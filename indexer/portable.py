"""A gallery as a folder of Parquet tables and a page of JSON, for any program and any machine; and back again.

`docs/portable.md` describes the format. All that comes back is checked before there is a gallery of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import unicodedata
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, Table, func, insert, literal, null, select
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from indexer import folder, parquet, regular, verify
from indexer.attributes import checked
from indexer.catalog import Catalog
from indexer.errors import ArgumentError, GalleryDamaged, GalleryMissing, GalleryNewer
from indexer.parquet import NoTable
from indexer.reader import Reader
from indexer.schema import (
    attributes,
    classes,
    embedders,
    embeddings,
    images,
    names,
    references,
    revisions,
    runtimes,
    thumbnails,
    upgrades,
)

FORMAT: Final = 1
MANIFEST: Final = "gallery.json"
# Each after those that it points to.
TABLES: Final = (
    *(revisions, embedders, runtimes, upgrades, classes, images),
    *(embeddings, names, references, attributes, thumbnails),
)
# Texts that may hold no control character.
_PLAIN: Final = frozenset({"hash", "mark", "action", "summary", "made_at", "fingerprint"})


@dataclass(frozen=True, slots=True)
class Portable:
    """What went into an exported gallery, or came out of one.

    Attributes:
        revision: the newest.
        classes: in that revision.
        images: references in that revision.
        newest_only: that revision alone, without those before it.
    """

    revision: int
    classes: int
    images: int
    newest_only: bool


def export_gallery(
    gallery: str | os.PathLike[str], out: str | os.PathLike[str], *, newest_only: bool = False
) -> Portable:
    """Write the gallery at ``gallery`` to the new folder ``out``, as of one revision; return what it holds.

    Args:
        gallery: others may write to it meanwhile.
        out: a folder that does not exist, or an empty one; it is there whole or not at all.
        newest_only: leave out the history; what is imported again has one revision.

    Raises:
        GalleryMissing, GalleryExists, GalleryDamaged: as their names say.
        FirstsightError: pyarrow is not installed.
    """
    parquet.library()
    catalog = Catalog(folder.find(gallery) / folder.CATALOG)
    try:
        with catalog.reading() as reader:
            revision = reader.newest().revision
            told = Portable(
                min(revision, 1) if newest_only else revision, len(reader.classes()), reader.count(), newest_only
            )
            id = uuid.uuid4().hex if newest_only else catalog.gallery  # another history is another gallery
            facts = {
                "format": "firstsight gallery",
                "version": FORMAT,
                "gallery": id,
                **asdict(told),
                "embedder": {"fingerprint": catalog.fingerprint, "dim": catalog.dim, "description": catalog.embedder},
            }
            folder.make(out, partial(_write, reader=reader, facts=facts, newest_only=newest_only))
            return told
    finally:
        catalog.close()


def import_gallery(source: str | os.PathLike[str], gallery: str | os.PathLike[str]) -> Portable:
    """Make a gallery at ``gallery`` of what ``export_gallery`` wrote to ``source``; return what it holds.

    It answers as the exported one did, to the bit, and has its log; every promise of a gallery is checked first.

    Args:
        source: the exported folder.
        gallery: a folder that does not exist, or an empty one; it is there whole or not at all.

    Raises:
        GalleryMissing: there is no exported gallery at ``source``.
        GalleryNewer: a newer version of the program wrote it.
        GalleryDamaged: it is not as it was written, or contradicts itself.
        GalleryExists: there is something at ``gallery``.
        FirstsightError: pyarrow is not installed.
    """
    parquet.library()
    facts = _manifest(Path(source))
    made: list[Portable] = []
    folder.make(gallery, lambda scratch: made.append(_restored(Path(source), facts, scratch)))
    return made[0]


# -- out ---------------------------------------------------------------------------------------------------


def _write(scratch: Path, *, reader: Reader, facts: Mapping[str, Any], newest_only: bool) -> None:
    written = {}
    for table in TABLES:
        path = scratch / f"{table.name}.parquet"
        with folder.written_whole(path) as file:
            count = parquet.write(file, table, _rows(reader, table, newest_only))
        written[table.name] = {"rows": count, "sha256": _sum(path)}
    with folder.written_whole(scratch / MANIFEST) as file:
        file.write(json.dumps({**facts, "tables": written}, indent=2, ensure_ascii=False).encode() + b"\n")


def _rows(reader: Reader, table: Table, newest_only: bool) -> Iterator[tuple[Any, ...]]:
    if table is revisions and newest_only:
        return iter(_only_revision(reader))
    chosen = _selected(reader, table, newest_only).order_by(next(iter(table.primary_key)))
    return map(tuple, reader.connection.execute(chosen.execution_options(yield_per=parquet.ROWS)))


def _only_revision(reader: Reader) -> list[tuple[Any, ...]]:
    return [
        (1, secrets.token_hex(16), "export", f"revision {last.id}: {last.summary}", last.made_at)
        for last in reader.log(limit=1)
    ]


def _selected(reader: Reader, table: Table, newest_only: bool) -> Select[Any]:
    """Return the query for all rows of a table, or for those of the newest revision as if it were the only one."""
    replaced: dict[str, ColumnElement[Any]] = {"came": literal(1), "went": null()} if newest_only else {}
    chosen = select(*(replaced.get(column.name, column).label(column.name) for column in table.columns))
    if newest_only and "went" in table.columns:
        chosen = chosen.where(table.c.went.is_(None))
    live = references.c.went.is_(None) if newest_only else literal(True)
    named = table.c.get({images: "id", embeddings: "image_id", thumbnails: "image_id"}.get(table, ""))
    if named is not None:  # what is only staged stays behind
        chosen = chosen.where(named.in_(select(references.c.image_id).where(live)))
    if table is classes:
        chosen = chosen.where(classes.c.id.in_(select(references.c.class_id).where(live)))
    made = table.c.get({embedders: "id", embeddings: "embedder_id", runtimes: "embedder_id"}.get(table, ""))
    if made is not None:
        chosen = chosen.where(made == reader.embedder_id if newest_only else made.in_(_embedders_of_history()))
    return chosen.where(literal(False)) if newest_only and table is upgrades else chosen


def _embedders_of_history() -> Any:
    """Return the query for the ids of the first embedder and those that came after it, without one to be."""
    return select(func.min(embedders.c.id)).union(select(upgrades.c.embedder_id))


def _sum(path: Path) -> str:
    with regular.opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# -- in ----------------------------------------------------------------------------------------------------


def _manifest(source: Path) -> dict[str, Any]:
    try:
        with regular.opened(source / MANIFEST) as file:
            facts = json.loads(file.read())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise GalleryMissing(f"{source}: holds no {MANIFEST}; name a folder that `firstsight export` wrote") from error
    except (OSError, ValueError, RecursionError) as error:
        raise _damaged(source, f"{MANIFEST} cannot be read ({error})") from error
    if not isinstance(facts, dict) or facts.get("format") != "firstsight gallery":
        raise _damaged(source, f"{MANIFEST} does not tell of a gallery")
    version, id, tables = (facts.get(key) for key in ("version", "gallery", "tables"))
    if isinstance(version, int) and version > FORMAT:
        raise GalleryNewer(
            f"{source}: exported by a newer firstsight (format {version}, this one reads {FORMAT}); upgrade it"
        )
    if version != FORMAT or not isinstance(id, str) or not _is_hex(id, 32):
        raise _damaged(source, f"{MANIFEST} gives no version or no id of the gallery")
    if not isinstance(tables, dict) or any(not isinstance(tables.get(table.name), dict) for table in TABLES):
        raise _damaged(source, f"{MANIFEST} does not list the tables")
    return facts


def _restored(source: Path, facts: Mapping[str, Any], scratch: Path) -> Portable:
    """Make the catalog of a gallery in ``scratch``, and look at it as ``verify`` does."""

    def fill(connection: Connection) -> None:
        for table in TABLES:
            try:
                _fill(connection, table, source / f"{table.name}.parquet", facts["tables"][table.name])
            except NoTable as error:
                raise _damaged(source, f"{table.name}.parquet {error}") from error
            except IntegrityError as error:
                raise _damaged(source, f"{table.name}.parquet contradicts itself or another ({error.orig})") from error

    Catalog.make(scratch / folder.CATALOG, gallery=facts["gallery"], fill=fill)
    catalog = Catalog(scratch / folder.CATALOG)
    try:
        for problem in verify.catalog_problems(catalog, scratch):
            raise _damaged(source, problem)
        with catalog.reading() as reader:
            alone = facts.get("newest_only") is True
            return Portable(reader.newest().revision, len(reader.classes()), reader.count(), alone)
    finally:
        catalog.close()


def _fill(connection: Connection, table: Table, path: Path, written: Mapping[str, Any]) -> None:
    try:
        if _sum(path) != written.get("sha256"):
            raise NoTable(f"is not as {MANIFEST} describes it")
    except OSError as error:
        raise NoTable(f"cannot be read ({error.strerror})") from error
    count = 0
    for rows in parquet.read(path, table):
        for row in rows:
            _check(table, row)
        if rows:
            connection.execute(insert(table), rows)
        count += len(rows)
    if count != written.get("rows"):
        raise NoTable(f"holds {count:,} rows, not those that {MANIFEST} counts")


def _check(table: Table, row: Mapping[str, Any]) -> None:
    """Raise NoTable for what no law of the catalog speaks of."""
    for name in _PLAIN & row.keys():  # what is printed does nothing to a terminal; a path may hold what file names may
        if not row[name] or any(unicodedata.category(character) == "Cc" for character in row[name]):
            raise NoTable(f"holds an empty {name} or one with a control character")
    if table is embedders and not isinstance(_parsed(row["description"]), dict):
        raise NoTable("holds an embedder that is not described by a JSON object")
    if table is attributes:
        try:
            checked(_parsed(row["value"]))
        except ArgumentError as error:
            raise NoTable(f"holds attributes that cannot be ({error})") from error


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _is_hex(text: str, length: int) -> bool:
    return len(text) == length and set(text) <= set("0123456789abcdef")


def _damaged(source: Path, problem: str) -> GalleryDamaged:
    return GalleryDamaged(f"{source}: {problem}; export the gallery again")
