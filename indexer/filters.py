"""Which references of a snapshot, and so which of its classes, are like some conditions ask.

A reference is, if its class's attributes with its own over them are. A class is, if any of its references is, and only
such a one decides. A prototype stays what it is, the mean of all references of its class.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from indexer.conditions import Conditions
from indexer.faiss_index import FaissIndex, Ids
from indexer.pages import Pages
from indexer.snapshot import Snapshot
from indexer.vectors import Vectors


class Part:
    """Some rows of an index, searched as if there were no others: exactly, and at the cost of these alone."""

    def __init__(self, index: FaissIndex, ids: Ids) -> None:
        self._index = index
        self._rows = np.sort(index.rows(ids))

    def __len__(self) -> int:
        return len(self._rows)

    def search_rows(self, queries: Vectors, k: int) -> tuple[Vectors, Ids]:
        """Return the scores and rows, ``(n, min(k, len))`` each, of the nearest vectors, best first."""
        return self._index.search_among(self._rows, queries, k)

    def at(self, rows: Ids) -> Vectors:
        """Return copies, ``(n, dim)``, of the vectors in these rows."""
        return self._index.at(rows)

    def ids_at(self, rows: Ids) -> Ids:
        """Return the ids of these rows."""
        return self._index.ids_at(rows)

    def vectors(self, ids: Ids) -> Vectors:
        """Return copies, ``(n, dim)``, of the vectors of these ids, in this order."""
        return self._index.vectors(ids)


class Members:
    """The references that may be found, by their class: one that has such."""

    def __init__(self, members: Pages[list[int]], ids: Ids) -> None:
        self._members = members
        self._ids = ids  # ascending

    def __getitem__(self, class_id: int) -> list[int]:
        """Return their ids, ascending."""
        members = self._members[class_id]
        if len(members) == 1:
            return members
        places = np.minimum(np.searchsorted(self._ids, members), len(self._ids) - 1)
        return [id for id, held in zip(members, self._ids[places].tolist(), strict=True) if id == held]


@dataclass(frozen=True, slots=True)
class Selection:
    """What conditions leave of a snapshot: a query looks at it as it does at the whole."""

    references: Part
    prototypes: Part
    members: Members


def matching(snapshot: Snapshot, conditions: Conditions) -> Selection:
    """Return what the conditions leave of a snapshot, which remembers what it was asked last."""
    return snapshot.found.get(conditions.key, lambda: _selected(snapshot, conditions))


def _selected(snapshot: Snapshot, conditions: Conditions) -> Selection:
    class_ids: list[int] = []
    found: list[int] = []
    for class_id, members in _classes(snapshot, conditions):
        class_ids.append(class_id)
        found += members
    ids = np.sort(np.array(found, np.int64))
    prototypes = Part(snapshot.prototypes, np.array(class_ids, np.int64))
    return Selection(Part(snapshot.references, ids), prototypes, Members(snapshot.members, ids))


def _classes(snapshot: Snapshot, conditions: Conditions) -> Iterator[tuple[int, list[int]]]:
    """Yield the classes that have references like that, with these; attributes that several share are asked once."""
    told, bare = snapshot.told, conditions({})
    asked: dict[int, dict[int, bool]] = {}  # class id -> whether those are that have attributes of their own
    for id, own in told.own.items():
        class_id = snapshot.known[id].class_id
        asked.setdefault(class_id, {})[id] = conditions({**told.of_class.get(class_id, {}), **own})
    for class_id, members in snapshot.members.items():
        attributes = told.of_class.get(class_id)
        others = bare if attributes is None else conditions(attributes)
        if class_id in asked:
            chosen = [id for id in members if asked[class_id].get(id, others)]
        else:
            chosen = members if others else []
        if chosen:
            yield class_id, chosen
