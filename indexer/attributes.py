"""What is known of a class or a reference beside its name: attributes, JSON values by key, with a history.

A reference has its own attributes, by class and content, and those of its class where it has none of that key.
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import ColumnElement, exists, func, insert, or_, select, update
from sqlalchemy.engine import Connection

from indexer.errors import ArgumentError
from indexer.reader import Reader, chunks
from indexer.schema import attributes, images, references

Attributes = dict[str, Any]
"""By key: text, a finite number, true or false, or a list of these."""

Place = tuple[int, int | None]
"""What attributes belong to: the id of a class, and that of the image of one of its references, or None."""

LARGEST = 2**63 - 1  # a whole number that any program reads as it was written


def checked(changes: Mapping[str, Any]) -> Attributes:
    """Return attributes as they are kept, None standing for one to remove; an ArgumentError says what is wrong."""
    if not isinstance(changes, Mapping):
        raise ArgumentError(f"attributes are given by key, as {{'site': 'paris'}}, not as {changes!r}")
    return {check_key(key): None if value is None else _check_value(key, value) for key, value in changes.items()}


def check_key(key: object) -> str:
    """Return the key of an attribute in Unicode's composed form (NFC); an ArgumentError says what is wrong with it."""
    if not isinstance(key, str) or not key or key != key.strip():
        raise ArgumentError(f"the key of an attribute is a text without blanks around it, not {key!r}")
    if any(character in "<>=!" or unicodedata.category(character) in ("Cc", "Cs") for character in key):
        raise ArgumentError(f"the key {key!a} holds one of < > = ! or a control character; choose another")
    return unicodedata.normalize("NFC", key)


def check_scalar(key: object, value: object) -> str | int | float | bool:
    """Return a single value as it is kept: text in NFC, numbers as Python's own."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float) and abs(value) <= (LARGEST if isinstance(value, int) else math.inf):
        if math.isfinite(value):
            return value
    elif isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value):
        return unicodedata.normalize("NFC", value)
    raise ArgumentError(
        f"{key}: an attribute is text, a finite number (whole ones of 64 bits), true or false, not {value!a:.80}"
    )


def _check_value(key: str, value: object) -> Any:
    if isinstance(value, list | tuple):
        return [check_scalar(key, one) for one in value]
    return check_scalar(key, value)


def parsed(text: str) -> Any:
    """Return a value that was typed: JSON (5, true, "5", ["a", "b"], null), or else the text as it is."""
    try:
        return json.loads(text, parse_constant=_no_number)
    except ValueError:
        return text


def _no_number(text: str) -> Any:
    raise ValueError(text)  # NaN and Infinity are Python's, not JSON's


def changed(old: Mapping[str, Any], changes: Mapping[str, Any]) -> Attributes:
    """Return the attributes after changes that ``checked`` gave."""
    return {key: value for key, value in {**old, **changes}.items() if value is not None}


def copied(found: Mapping[str, Any]) -> Attributes:
    """Return attributes that may be given away: what becomes of them changes nothing here."""
    return {key: list(value) if isinstance(value, list) else value for key, value in found.items()}


# -- rows of the catalog --------------------------------------------------------------------------------

_place = func.coalesce(attributes.c.image_id, 0)  # as the index has it
_other = references.alias("other")
_OWN = (attributes.c.class_id == references.c.class_id) & (_place == references.c.image_id)


def of_class(reader: Reader, class_id: int) -> Attributes:
    """Return the live attributes of a class."""
    return dict(of_classes(reader, [class_id])).get(class_id, {})


def of_classes(reader: Reader, class_ids: Iterable[int] | None = None) -> Iterator[tuple[int, Attributes]]:
    """Yield class ids, of these or all, and the live attributes of each that has some."""
    live = select(attributes.c.class_id, attributes.c.value).where(
        attributes.c.went.is_(None), attributes.c.image_id.is_(None)
    )
    return _found(reader, live, attributes.c.class_id, class_ids)


def of_references(reader: Reader, ids: Iterable[int] | None = None) -> Iterator[tuple[int, Attributes]]:
    """Yield ids of live references, of these or all, and each one's own live attributes if it has some."""
    live = (
        select(references.c.id, attributes.c.value)
        .join(attributes, _OWN)
        .where(references.c.went.is_(None), attributes.c.went.is_(None))
    )
    return _found(reader, live, references.c.id, ids)


def touched_since(reader: Reader, revision: int) -> tuple[set[int], set[int]]:
    """Return the ids of the classes, and of the live references, whose attributes came or went after ``revision``."""
    touched = or_(attributes.c.came > revision, attributes.c.went > revision)
    of_class = select(attributes.c.class_id).where(touched, attributes.c.image_id.is_(None))
    own = select(references.c.id).join_from(attributes, references, _OWN).where(touched, references.c.went.is_(None))
    return set(reader.connection.scalars(of_class)), set(reader.connection.scalars(own))


def stored(reader: Reader, class_ids: Iterable[int]) -> dict[Place, tuple[int, Attributes]]:
    """Return the live attributes of these classes and of their references, each with the id of its row."""
    columns = (attributes.c.class_id, attributes.c.image_id, attributes.c.id, attributes.c.value)
    live = select(*columns).where(attributes.c.went.is_(None))
    found = {}
    for chunk in chunks(class_ids):
        for class_id, image_id, id, value in reader.connection.execute(live.where(attributes.c.class_id.in_(chunk))):
            found[class_id, image_id] = id, json.loads(value)
    return found


def write(connection: Connection, revision: int, ended: Iterable[int], values: Mapping[Place, Attributes]) -> None:
    """End rows, by id, and let classes and references have exactly these attributes from ``revision`` on."""
    for chunk in chunks(ended):
        connection.execute(update(attributes).where(attributes.c.id.in_(chunk)).values(went=revision))
    for places in chunks(place for place, value in values.items() if value):
        rows = [
            {"class_id": class_id, "image_id": image_id, "value": json.dumps(values[class_id, image_id])}
            for class_id, image_id in places
        ]
        connection.execute(insert(attributes).values(came=revision), rows)


class Rewritten(NamedTuple):
    """Rows to end, by id, and what is to be in their place; empty if there is nothing to do."""

    ended: list[int]
    values: dict[Place, Attributes]


def rewritten(reader: Reader, changes: Mapping[Place, Mapping[str, Any]]) -> Rewritten:
    """Return what these changes change; None removes an attribute."""
    rows = stored(reader, {class_id for class_id, _ in changes})
    values = {}
    for place, more in changes.items():
        _, old = rows.get(place, (0, {}))
        new = changed(old, more)
        if repr(new) != repr(old):  # == would not tell true from 1
            values[place] = new
    return Rewritten([rows[place][0] for place in values if place in rows], values)


def places(reader: Reader, described: Mapping[tuple[str, str], Mapping[str, Any]]) -> dict[Place, Mapping[str, Any]]:
    """Return changes that come by class name and content by class and image id; what is not there is passed over."""
    class_ids, image_ids = reader.class_ids({name for name, _ in described}), dict[str, int]()
    for chunk in chunks({hash for _, hash in described}):
        found = select(images.c.hash, images.c.id).where(images.c.hash.in_(chunk))
        image_ids.update((hash, id) for hash, id in reader.connection.execute(found))
    return {
        (class_ids[name], image_ids[hash]): changes
        for (name, hash), changes in described.items()
        if name in class_ids and hash in image_ids
    }


def end_of_classes(connection: Connection, revision: int, class_ids: Iterable[int]) -> None:
    """End what the classes have: they end with ``revision``."""
    for chunk in chunks(class_ids):
        ending = update(attributes).where(
            attributes.c.class_id.in_(chunk), attributes.c.image_id.is_(None), attributes.c.went.is_(None)
        )
        connection.execute(ending.values(went=revision))


def follow_references(connection: Connection, revision: int) -> None:
    """End the own attributes of references that left in ``revision``; those of a content that came elsewhere go along.

    A reference that left and came again within its class, from another file, keeps them.
    """
    left = (
        select(attributes.c.id, attributes.c.image_id, attributes.c.value)
        .join(references, _OWN)
        .where(references.c.went == revision, attributes.c.went.is_(None), ~_twin(_other.c.went.is_(None)))
        .order_by(attributes.c.id)
    )
    rows = connection.execute(left).all()
    for chunk in chunks(rows):
        ending = update(attributes).where(attributes.c.id.in_([row.id for row in chunk]))
        connection.execute(ending.values(went=revision))
    values: dict[int, str] = {}
    for row in rows:
        values.setdefault(row.image_id, row.value)
    for contents in chunks(values):
        _carry(connection, revision, {image_id: values[image_id] for image_id in contents})


def _carry(connection: Connection, revision: int, values: Mapping[int, str]) -> None:
    """Give values, by image id, to the references of these contents that are new in their class."""
    came = select(references.c.class_id, references.c.image_id).where(
        references.c.came == revision, references.c.image_id.in_(values), ~_twin(_other.c.went == revision)
    )
    rows = [
        {"class_id": class_id, "image_id": image_id, "value": values[image_id], "came": revision}
        for class_id, image_id in connection.execute(came)
    ]
    if rows:
        connection.execute(insert(attributes), rows)


def _twin(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """Whether there is another row for a reference's class and content of which this holds."""
    same = (_other.c.class_id == references.c.class_id) & (_other.c.image_id == references.c.image_id)
    return exists().where(same, condition)


def _found(reader: Reader, live: Any, id: Any, wanted: Iterable[int] | None) -> Iterator[tuple[int, Attributes]]:
    for query in (live,) if wanted is None else (live.where(id.in_(chunk)) for chunk in chunks(wanted)):
        for found, value in reader.connection.execute(query):
            yield found, json.loads(value)
