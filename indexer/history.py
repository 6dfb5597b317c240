"""Changes to the catalog: each makes one revision, inside the transaction it is given."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

from sqlalchemy import Boolean, Table, bindparam, exists, func, insert, literal, select, update
from sqlalchemy.engine import Connection

from indexer import attributes, runtimes
from indexer.errors import ClassExists, GalleryError
from indexer.names import fold, refuse_twins, twins
from indexer.past import kept
from indexer.reader import Reader, Revision, chunks, packed
from indexer.runtimes import Runtime
from indexer.schema import attributes as attribute_rows
from indexer.schema import classes, embeddings, images, names, references, revisions, upgrades
from indexer.vectors import Vectors


@dataclass(frozen=True, slots=True)
class Change:
    """What a change did.

    Attributes:
        action: "learn", "forget", "rename", "set", "undo" or "index".
        summary: the change in words, as the log has it.
        revision: the newest revision now; no new one if nothing changed.
        added: references that came.
        removed: references that went.
    """

    action: str
    summary: str
    revision: int
    added: int = 0
    removed: int = 0


class Coming(NamedTuple):
    """A reference to be: its class, its content (whose embedding the catalog holds), and where it is."""

    name: str
    hash: str
    root: str | None
    path: str | None


_EMBEDDED = insert(embeddings).from_select(
    ["image_id", "embedder_id", "vector", "mapped", "runtime_id"],
    select(
        images.c.id,
        bindparam("embedder_id"),
        bindparam("vector"),
        bindparam("mapped", type_=Boolean),
        bindparam("runtime_id"),
    ).where(images.c.hash == bindparam("of")),
)


def stage(
    reader: Reader,
    hashes: Sequence[str],
    vectors: Vectors,
    *,
    mapped: Collection[str] = (),
    runtime: Runtime | None = None,
) -> None:
    """Write down embeddings ``(n, dim)`` by content; what is known already stays as it is.

    Those of the contents in ``mapped`` are marked: no image was embedded, a vector by an older embedder was mapped.

    Raises:
        RuntimeMismatch: ``runtime``, which made the vectors, differs too much from others that made the gallery's.
    """
    images_known = reader.images_of(hashes)
    fresh = {
        hash: {"of": hash, "vector": packed(vector), "embedder_id": reader.embedder_id, "mapped": hash in mapped}
        for hash, vector in zip(hashes, vectors, strict=True)
        if not images_known.get(hash)
    }
    new = [{"hash": hash} for hash in fresh if hash not in images_known]
    if new:
        reader.connection.execute(insert(images), new)
    if fresh:
        made_by = None if runtime is None else runtimes.written_down(reader, runtime)
        reader.connection.execute(_EMBEDDED, [{**row, "runtime_id": made_by} for row in fresh.values()])


def revise(
    reader: Reader,
    action: str,
    summary: str,
    *,
    leave: Collection[int] = (),
    come: Sequence[Coming] = (),
    renamed: Mapping[str, str] | None = None,
    more: Callable[[int], None] | None = None,
) -> Change:
    """Let references go (by id) and come, in one revision; in none if there is nothing to do.

    Classes begin with their first reference and end with their last. Those that are ``renamed``, from old to new, stay
    themselves; the new names are those of no class, and references come to them. ``more`` is given the revision, and
    writes what else belongs to it.

    Raises:
        ClassExists: a new class's name differs from another one's only by case.
    """
    if not leave and not come and more is None:
        return nothing(reader, action, summary)
    connection = reader.connection
    revision = begin(reader, action, summary)
    for chunk in chunks(leave):
        going = update(references).where(references.c.id.in_(chunk), references.c.went.is_(None))
        connection.execute(going.values(went=revision))
    _rename_all(reader, revision, renamed or {})
    wanted = list(dict.fromkeys(one.name for one in come))
    owners = reader.class_ids(wanted)
    _end_classes(connection, revision, keep=set(owners.values()))
    owners |= _begin_classes(connection, revision, [name for name in wanted if name not in owners])
    for coming in chunks(come):
        _insert_references(reader, revision, coming, owners)
    if leave:
        attributes.follow_references(connection, revision)
    if more is not None:
        more(revision)
    return Change(action, summary, revision, added=len(come), removed=len(leave))


def nothing(reader: Reader, action: str, summary: str) -> Change:
    """Return the change that changes nothing, and makes no revision."""
    return Change(action, summary, reader.newest().revision)


def counted(number: int, what: str) -> str:
    """Return "1 reference", "2 references"."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def rename(reader: Reader, class_id: int, new: str, summary: str) -> Change:
    """Give a class another name."""
    connection = reader.connection
    _check_free(connection, [new], but=class_id)
    revision = begin(reader, "rename", summary)
    _end_names(connection, revision, [class_id])
    connection.execute(insert(names).values(class_id=class_id, name=new, folded=fold(new), came=revision))
    return Change("rename", summary, revision)


def set_attributes(reader: Reader, changes: Mapping[attributes.Place, attributes.Attributes], summary: str) -> Change:
    """Change attributes of classes and references in one revision; None removes one."""
    ended, values = attributes.rewritten(reader, changes)
    if not values:
        return nothing(reader, "set", summary)
    revision = begin(reader, "set", summary)
    attributes.write(reader.connection, revision, ended, values)
    return Change("set", summary, revision)


def _rename_all(reader: Reader, revision: int, renamed: Mapping[str, str]) -> None:
    ids = reader.class_ids(renamed)
    _end_names(reader.connection, revision, ids.values())
    _check_free(reader.connection, [renamed[old] for old in ids])
    rows = [{"class_id": id, "name": (new := renamed[old]), "folded": fold(new)} for old, id in ids.items()]
    if rows:
        reader.connection.execute(insert(names).values(came=revision), rows)


def undo(reader: Reader) -> Change:
    """Reverse the newest revision by a new one. Undone again, the change is back."""
    last = next(iter(reader.log(limit=1)), None)
    if last is None:
        raise GalleryError("there is nothing to undo: the gallery has no revisions")
    oldest, _ = kept(reader.connection)
    if last.id == oldest:
        raise GalleryError(f"there is nothing to undo: what was before revision {oldest} was forgotten by compact")
    summary = _undone(last)
    revision = begin(reader, "undo", summary)
    added, removed = _reverse(reader.connection, references, last.id, revision)
    _reverse(reader.connection, names, last.id, revision)
    _reverse(reader.connection, attribute_rows, last.id, revision)
    _reverse(reader.connection, upgrades, last.id, revision)
    return Change("undo", summary, revision, added=added, removed=removed)


def _undone(last: Revision) -> str:
    """Name the change itself, however often it was undone and redone."""
    if last.action != "undo":
        return f"undo revision {last.id}: {last.summary}"
    word, change = last.summary.split(" ", 1)
    return f"{'redo' if word == 'undo' else 'undo'} {change}"


def begin(reader: Reader, action: str, summary: str) -> int:
    """Make the next revision, for rows to come or go in; return its number."""
    revision = reader.newest().revision + 1
    made_at = datetime.now(UTC).isoformat(timespec="seconds")
    row = {"id": revision, "mark": secrets.token_hex(16), "action": action, "summary": summary, "made_at": made_at}
    reader.connection.execute(insert(revisions).values(**row))
    return revision


def _reverse(connection: Connection, table: Table, undone: int, revision: int) -> tuple[int, int]:
    """What came in ``undone`` goes; what went in it comes again, as rows of its own. Return how many came and went."""
    going = connection.execute(
        update(table).where(table.c.came == undone, table.c.went.is_(None)).values(went=revision)
    )
    kept = [column.name for column in table.columns if column.name not in ("id", "came", "went")]
    again = select(*(table.c[name] for name in kept), literal(revision)).where(table.c.went == undone)
    coming = connection.execute(insert(table).from_select([*kept, "came"], again.order_by(table.c.id)))
    return coming.rowcount, going.rowcount


def _end_classes(connection: Connection, revision: int, *, keep: Collection[int]) -> None:
    other = references.alias()
    living = exists().where(other.c.class_id == references.c.class_id, other.c.went.is_(None))
    left = select(references.c.class_id).where(references.c.went == revision, ~living).distinct()
    ended = [id for id in connection.scalars(left) if id not in keep]
    _end_names(connection, revision, ended)
    attributes.end_of_classes(connection, revision, ended)


def _end_names(connection: Connection, revision: int, class_ids: Iterable[int]) -> None:
    for chunk in chunks(class_ids):
        ending = update(names).where(names.c.class_id.in_(chunk), names.c.went.is_(None))
        connection.execute(ending.values(went=revision))


def _begin_classes(connection: Connection, revision: int, fresh: Sequence[str]) -> dict[str, int]:
    if not fresh:
        return {}
    _check_free(connection, fresh)
    first = (connection.scalar(select(func.max(classes.c.id))) or 0) + 1
    ids = {name: first + place for place, name in enumerate(fresh)}
    connection.execute(insert(classes), [{"id": id} for id in ids.values()])
    rows = [{"class_id": id, "name": name, "folded": fold(name), "came": revision} for name, id in ids.items()]
    connection.execute(insert(names), rows)
    return ids


def _check_free(connection: Connection, fresh: Sequence[str], *, but: int | None = None) -> None:
    """Raise ClassExists if a name differs from another new one, or from that of a live class, only by case."""
    folded = refuse_twins(fresh)
    for chunk in chunks(folded):
        live = select(names.c.name, names.c.folded, names.c.class_id)
        for row in connection.execute(live.where(names.c.went.is_(None), names.c.folded.in_(chunk))):
            if row.class_id != but:
                raise ClassExists(twins(folded[row.folded], row.name))


def _insert_references(reader: Reader, revision: int, come: Sequence[Coming], owners: dict[str, int]) -> None:
    image_ids = reader.image_ids({one.hash for one in come})
    rows = [
        {
            "class_id": owners[one.name],
            "image_id": image_ids[one.hash],
            "root": one.root,
            "path": one.path,
            "came": revision,
        }
        for one in come
    ]
    reader.connection.execute(insert(references), rows)
