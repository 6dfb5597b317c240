"""Nearest neighbours in a snapshot: FAISS finds the candidates, exact arithmetic orders them.

FAISS's float32 scores depend, in their last digits, on how many queries come together. So the best candidates are
scored again in float64: an answer does not change with the company of its query, and ties go to the lower id.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from indexer.attributes import Attributes, copied
from indexer.conditions import Conditions
from indexer.errors import ArgumentError
from indexer.faiss_index import FaissIndex, Ids
from indexer.filters import Part, matching
from indexer.snapshot import GATHERED, Snapshot
from indexer.vectors import Metric, Vectors, cosines

K_CLASSES: Final = 5  # what a query asks for unless it says otherwise
K_REFERENCES: Final = 10
METRIC: Final = "cosine"
# Prototypes that a probability counts and a learned score orders: beyond the hundred nearest hardly one is the right
# class, and that many cost less to score than the query cost to embed.
SHORTLIST: Final = 100
TIE = 1e-6  # float32 scores closer than this may stand in the wrong order
MORE = 1000  # candidates fetched when there is a tie at the border

Nearest = Callable[[Snapshot, Vectors, int], tuple[Vectors, Ids]]
"""A snapshot, queries ``(n, dim)``, k -> scores and rows, ``(n, min(k, len))``, of references, best first."""
Score = Callable[[Vectors, Vectors], NDArray[np.floating[Any]]]
"""A learned score: a query ``(dim,)`` and prototypes ``(n, dim)``, all of length 1 -> ``(n,)``, higher is better."""


@dataclass(frozen=True, slots=True)
class ReferenceHit:
    """A reference near a query. Score: higher is better; distance: lower is better.

    ``attributes`` are its own, over those of its class. ``mapped``: its image was gone at an upgrade, and its vector
    was mapped from the one by the embedder before.
    """

    name: str
    reference: str
    score: float
    distance: float
    attributes: Attributes = field(default_factory=dict, hash=False)
    mapped: bool = False


@dataclass(frozen=True, slots=True)
class ClassHit:
    """A class near a query, by its prototype; ``reference`` is the class's reference nearest to the query.

    ``score`` is the metric's, or the learned one if the query came with one; ``distance`` is always the metric's.
    ``attributes`` are the class's; ``mapped`` is that reference, as in ``ReferenceHit``.
    """

    name: str
    score: float
    distance: float
    reference: str
    attributes: Attributes = field(default_factory=dict, hash=False)
    mapped: bool = False


@dataclass(frozen=True, slots=True)
class ClassHits:
    """The answer to one query.

    Attributes:
        hits: the nearest classes, best first, at most k.
        scores: cosines of the nearest ``max(k, shortlist)`` prototypes, best first, float32 ``(n,)``; whatever the
            metric. If the query came with a learned score, what that gives them.
    """

    hits: list[ClassHit]
    scores: NDArray[np.float32]


def classes(
    snapshot: Snapshot,
    queries: Vectors,
    *,
    k: int,
    metric: Metric,
    shortlist: int,
    score: Score | None = None,
    where: Conditions | None = None,
) -> list[ClassHits]:
    """Return the nearest prototypes of each query ``(n, dim)``; with a score, the best of the shortlist by it.

    With conditions, of the classes that have a reference like that; only such a one decides.
    """
    found = []
    seen = snapshot if where is None else matching(snapshot, where)
    near = max(k, shortlist)
    exactly = k if score is None else near
    scores, rows = seen.prototypes.search_rows(queries, max(exactly + 1, near))
    for query, found_scores, found_rows in zip(queries, scores, rows, strict=True):
        best, exact = _best(seen.prototypes, query, found_scores, found_rows, exactly)
        values, distances = metric(exact)
        if score is None:
            nearest = np.minimum(found_scores[:near], 1.0)
            nearest[: len(best)] = exact
        else:
            learned = _scored(score, query, snapshot.prototypes.vectors(best))
            order = np.lexsort((best, -learned))
            nearest = learned[order].astype(np.float32)
            order = order[:k]
            best, values, distances = best[order], learned[order], distances[order]
        decided = _deciding(snapshot, query, [seen.members[class_id] for class_id in best.tolist()])
        found.append(ClassHits(_class_hits(snapshot, decided, best, values, distances), nearest))
    return found


def _scored(score: Score, query: Vectors, prototypes: Vectors) -> NDArray[np.float64]:
    if not len(prototypes):
        return np.empty(0)
    learned = np.asarray(score(query, prototypes), np.float64)
    if learned.shape != (len(prototypes),) or not np.isfinite(learned).all():
        raise ArgumentError("a score gives one finite number a prototype; the recipe that learned this one is broken")
    return learned


def exactly(snapshot: Snapshot, queries: Vectors, k: int) -> tuple[Vectors, Ids]:
    """Return the scores and rows of the nearest references: all of them are looked at."""
    return snapshot.references.search_rows(queries, k)


def references(
    snapshot: Snapshot,
    queries: Vectors,
    *,
    k: int,
    metric: Metric,
    where: Conditions | None = None,
    nearest: Nearest = exactly,
) -> list[list[ReferenceHit]]:
    """Return the nearest references of each query ``(n, dim)``, as ``nearest`` finds them.

    With conditions, of those that are like that: all of them are looked at.
    """
    found = []
    index = snapshot.references if where is None else matching(snapshot, where).references
    scores, rows = nearest(snapshot, queries, k + 1) if where is None else index.search_rows(queries, k + 1)
    for query, found_scores, found_rows in zip(queries, scores, rows, strict=True):
        best, exact = _best(index, query, found_scores, found_rows, k)
        numbers = zip(best.tolist(), *(part.tolist() for part in metric(exact)), strict=True)
        found.append([_reference_hit(snapshot, *one) for one in numbers])
    return found


def _reference_hit(snapshot: Snapshot, id: int, score: float, distance: float) -> ReferenceHit:
    class_id, shown = snapshot.known[id]
    told = snapshot.told
    return ReferenceHit(snapshot.names[class_id], shown, score, distance, told.merged(class_id, id), id in told.mapped)


def _best(
    index: FaissIndex | Part, query: Vectors, scores: Vectors, rows: Ids, k: int
) -> tuple[Ids, NDArray[np.float64]]:
    """Return the ids of the k nearest of the candidates, best first, ties by id, and their exact cosines."""
    if len(rows) > k and scores[-1] > scores[k - 1] - TIE and len(rows) < len(index):
        # The tie may go on beyond what was fetched, and one that was not may have the lower id.
        more_scores, more_rows = index.search_rows(query[np.newaxis], len(rows) + MORE)
        scores, rows = more_scores[0], more_rows[0]
    if len(rows) > k:
        border, near = scores[k - 1] - TIE, k
        while near < len(rows) and scores[near] > border:  # rarely once: cheaper than a comparison of all
            near += 1
        rows = rows[:near]
    ids, exact = index.ids_at(rows), cosines(query, index.at(rows))
    order = np.lexsort((ids, -exact))[:k]
    return ids[order], exact[order]


def _class_hits(
    snapshot: Snapshot,
    decided: list[int],
    class_ids: Ids,
    scores: NDArray[np.float64],
    distances: NDArray[np.float64],
) -> list[ClassHit]:
    of_class, mapped = snapshot.told.of_class, snapshot.told.mapped
    rows = zip(class_ids.tolist(), decided, scores.tolist(), distances.tolist(), strict=True)
    return [
        ClassHit(
            snapshot.names[class_id],
            score,
            distance,
            snapshot.known[reference].shown,
            copied(of_class.get(class_id, {})),
            reference in mapped,
        )
        for class_id, reference, score, distance in rows
    ]


def _deciding(snapshot: Snapshot, query: Vectors, members: list[list[int]]) -> list[int]:
    """Return, for each class's references, the id of the one nearest to the query; the lowest of equals."""
    rivals = [ids for ids in members if len(ids) > 1]
    if sum(map(len, rivals)) > GATHERED:
        return [_nearest(snapshot, query, ids) for ids in members]
    if not rivals:
        return [ids[0] for ids in members]
    # All classes at once: a call for each would cost more than its arithmetic.
    found = cosines(query, snapshot.references.vectors(chain.from_iterable(rivals)))
    places = iter(np.split(found, np.cumsum([len(ids) for ids in rivals])[:-1]))
    return [ids[int(next(places).argmax())] if len(ids) > 1 else ids[0] for ids in members]


def _nearest(snapshot: Snapshot, query: Vectors, members: list[int]) -> int:
    """The same for one class, some thousand references in memory at a time."""
    best, nearest = -2.0, members[0]
    for start in range(0, len(members), GATHERED):
        ids = members[start : start + GATHERED]
        found = cosines(query, snapshot.references.vectors(ids))
        place = int(found.argmax())
        if found[place] > best:
            best, nearest = float(found[place]), ids[place]
    return nearest
