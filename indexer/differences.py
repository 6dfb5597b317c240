"""What differs between two revisions: classes and references that came, went, moved, or are called otherwise."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Table, and_, or_, select

from indexer.past import check_known
from indexer.reader import Reader, Row, chunks
from indexer.schema import attributes, images, names, references


@dataclass(slots=True)
class ClassDiff:
    """How a class differs between two revisions.

    Attributes:
        before: its name in the first one; None if it was not there.
        after: its name in the second one; None if it is not there.
        came: references that only the second one has, as they are shown.
        went: those that only the first one has.
        moved: those of the same content in another place: where they are shown before and after.
        attributes: those of the class that differ: before and after, None standing for none.
        described: references whose own attributes differ.
    """

    before: str | None
    after: str | None
    came: list[str] = field(default_factory=list)
    went: list[str] = field(default_factory=list)
    moved: list[tuple[str, str]] = field(default_factory=list)
    attributes: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    described: list[str] = field(default_factory=list)

    @property
    def differs(self) -> bool:
        """Whether there is anything to tell."""
        lists = (self.came, self.went, self.moved, self.attributes, self.described)
        return self.before != self.after or any(lists)


@dataclass(frozen=True, slots=True)
class Diff:
    """What differs between the revisions ``before`` and ``after``: the classes that do, sorted by name."""

    before: int
    after: int
    classes: list[ClassDiff]


def diff(reader: Reader, before: int, after: int | None = None) -> Diff:
    """Return what differs between two revisions, in either order; the newest one if ``after`` is None.

    Raises:
        RevisionMissing: there is no such revision, or no longer.
    """
    after = reader.newest().revision if after is None else after
    pair = check_known(reader.connection, before), check_known(reader.connection, after)
    columns = (references.c.id, references.c.class_id, images.c.hash, references.c.root, references.c.path)
    rows = _moved(reader, select(*columns).join(images, images.c.id == references.c.image_id), references, pair)
    told = _moved(
        reader, select(attributes.c.class_id, images.c.hash, attributes.c.value).outerjoin(images), attributes, pair
    )
    renamed = _moved(reader, select(names.c.class_id), names, pair)
    touched = {row.class_id for one in (rows, told, renamed) for side in one for row in side}
    found = {id: ClassDiff(*of) for id, of in _named(reader, touched, pair).items()}
    for class_id, sides in _by_class(rows):
        _compare(found[class_id], *({row.hash: Row(*row).shown for row in side} for side in sides))
    for class_id, sides in _by_class(told):
        _tell(found[class_id], *({row.hash: row.value for row in side} for side in sides))
    differing = [one for one in found.values() if one.differs]
    return Diff(*pair, sorted(differing, key=lambda one: one.after or one.before or ""))


def _moved(reader: Reader, query: Any, table: Table, pair: tuple[int, int]) -> tuple[list[Any], list[Any]]:
    """Return the rows that one revision has and not the other: those of the first, and those of the second."""
    # Both conditions have an index, and what came and went between two revisions is in both or neither.
    low, high = sorted(pair)
    between = or_(and_(table.c.came > low, table.c.came <= high), and_(table.c.went > low, table.c.went <= high))
    first, second = (
        reader.connection.execute(query.where(between, _at(table, revision)).order_by(table.c.id)).all()
        for revision in pair
    )
    return list(first), list(second)


def _at(table: Table, revision: int) -> Any:
    return and_(table.c.came <= revision, or_(table.c.went.is_(None), table.c.went > revision))


def _named(reader: Reader, class_ids: Iterable[int], pair: tuple[int, int]) -> dict[int, tuple[str | None, str | None]]:
    """Return the names of these classes in both revisions."""
    found: list[dict[int, str]] = [{}, {}]
    class_ids = sorted(class_ids)
    for chunk in chunks(class_ids):
        for named, revision in zip(found, pair, strict=True):
            query = select(names.c.class_id, names.c.name).where(names.c.class_id.in_(chunk), _at(names, revision))
            named.update((row.class_id, row.name) for row in reader.connection.execute(query))
    return {id: (found[0].get(id), found[1].get(id)) for id in class_ids}


def _by_class(sides: tuple[list[Any], list[Any]]) -> Iterable[tuple[int, tuple[list[Any], list[Any]]]]:
    grouped: dict[int, tuple[list[Any], list[Any]]] = {}
    for place, side in enumerate(sides):
        for row in side:
            grouped.setdefault(row.class_id, ([], []))[place].append(row)
    return grouped.items()


def _compare(one: ClassDiff, before: dict[str, str], after: dict[str, str]) -> None:
    """Tell contents that came or went from those that are only somewhere else."""
    one.came = [shown for hash, shown in after.items() if hash not in before]
    one.went = [shown for hash, shown in before.items() if hash not in after]
    both = [(shown, after[hash]) for hash, shown in before.items() if hash in after]
    one.moved = [pair for pair in both if pair[0] != pair[1]]


def _tell(one: ClassDiff, before: dict[str | None, str], after: dict[str | None, str]) -> None:
    """Tell which attributes differ: the class's own are those of no content."""
    old, new = json.loads(before.pop(None, "{}")), json.loads(after.pop(None, "{}"))
    values = {key: (old.get(key), new.get(key)) for key in sorted(old.keys() | new.keys())}
    one.attributes = {key: pair for key, pair in values.items() if repr(pair[0]) != repr(pair[1])}
    hashes = sorted({hash for hash in before.keys() | after.keys() if hash})
    one.described = [f"sha256:{hash[:12]}" for hash in hashes if before.get(hash) != after.get(hash)]
