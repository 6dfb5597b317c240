"""Nearest neighbours in a snapshot: FAISS finds the candidates, exact arithmetic orders them.

FAISS's float32 scores depend, in their last digits, on how many queries come together. So the best candidates are
scored again in float64: an answer does not change with the company of its query, and ties go to the lower id.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from indexer.attributes import Attributes
from indexer.conditions import Conditions
from indexer.deciding import deciding, exact_cosines
from indexer.errors import ArgumentError
from indexer.faiss_index import FaissIndex, Ids
from indexer.filters import Part, matching
from indexer.snapshot import Snapshot
from indexer.vectors import Metric, Vectors

K_CLASSES: Final = 5  # what a query asks for unless it says otherwise
K_REFERENCES: Final = 10
METRIC: Final = "cosine"
TIE = 1e-6  # float32 scores closer than this may stand in the wrong order
MORE = 1000  # candidates fetched when there is a tie at the border

Nearest = Callable[[Snapshot, Vectors, int], tuple[Vectors, Ids]]
"""A snapshot, queries ``(n, dim)``, k -> scores and rows, ``(n, min(k, len))``, of what is searched, best first."""
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


def exact_prototypes(snapshot: Snapshot, queries: Vectors, k: int) -> tuple[Vectors, Ids]:
    """Return the scores and rows of the nearest prototypes: all of them are looked at."""
    return snapshot.prototypes.search_rows(queries, k)


def exact_references(snapshot: Snapshot, queries: Vectors, k: int) -> tuple[Vectors, Ids]:
    """Return the scores and rows of the nearest references: all of them are looked at."""
    return snapshot.references.search_rows(queries, k)


def classes(
    snapshot: Snapshot,
    queries: Vectors,
    *,
    k: int,
    metric: Metric,
    shortlist: int,
    score: Score | None = None,
    where: Conditions | None = None,
    nearest: Nearest = exact_prototypes,
) -> list[ClassHits]:
    """Return the nearest prototypes of each query ``(n, dim)``, as ``nearest`` finds them.

    With a score, the best of the shortlist by it. With conditions, of the classes that have a reference like that: all
    of them are looked at, and only such a reference decides.
    """
    seen = snapshot if where is None else matching(snapshot, where)
    near = max(k, shortlist)
    exactly = k if score is None else near
    wanted = max(exactly + 1, near)
    scores, rows = nearest(snapshot, queries, wanted) if where is None else seen.prototypes.search_rows(queries, wanted)
    best, exact = _best(seen.prototypes, queries, scores, rows, exactly)
    values, distances = metric(exact)
    if score is None:
        shown = np.minimum(scores[:, :near], 1.0)
        shown[:, : best.shape[1]] = exact
    else:
        prototypes = (snapshot.prototypes.vectors(ids) for ids in best)
        learned = np.array([_scored(score, *one) for one in zip(queries, prototypes, strict=True)]).reshape(best.shape)
        order = np.lexsort((best, -learned))
        shown = np.take_along_axis(learned, order, 1).astype(np.float32)
        best, values, distances = (np.take_along_axis(each, order[:, :k], 1) for each in (best, learned, distances))
    members = [[seen.members[class_id] for class_id in ids] for ids in best.tolist()]
    decided = deciding(snapshot, queries, members)
    hits = zip(decided, best.tolist(), values.tolist(), distances.tolist(), strict=True)
    return [ClassHits(_class_hits(snapshot, *of_one), each.copy()) for of_one, each in zip(hits, shown, strict=True)]


def _scored(score: Score, query: Vectors, prototypes: Vectors) -> NDArray[np.float64]:
    if not len(prototypes):
        return np.empty(0)
    learned = np.asarray(score(query, prototypes), np.float64)
    if learned.shape != (len(prototypes),) or not np.isfinite(learned).all():
        raise ArgumentError("a score gives one finite number a prototype; the recipe that learned this one is broken")
    return learned


def references(
    snapshot: Snapshot,
    queries: Vectors,
    *,
    k: int,
    metric: Metric,
    where: Conditions | None = None,
    nearest: Nearest = exact_references,
) -> list[list[ReferenceHit]]:
    """Return the nearest references of each query ``(n, dim)``, as ``nearest`` finds them.

    With conditions, of those that are like that: all of them are looked at.
    """
    index = snapshot.references if where is None else matching(snapshot, where).references
    scores, rows = nearest(snapshot, queries, k + 1) if where is None else index.search_rows(queries, k + 1)
    best, exact = _best(index, queries, scores, rows, k)
    found = zip(best.tolist(), *(numbers.tolist() for numbers in metric(exact)), strict=True)
    return [[_reference_hit(snapshot, *one) for one in zip(*of_one, strict=True)] for of_one in found]


def _reference_hit(snapshot: Snapshot, id: int, score: float, distance: float) -> ReferenceHit:
    class_id, shown = snapshot.known[id]
    told = snapshot.told
    return ReferenceHit(snapshot.names[class_id], shown, score, distance, told.merged(class_id, id), id in told.mapped)


def _best(
    index: FaissIndex | Part, queries: Vectors, scores: Vectors, rows: Ids, k: int
) -> tuple[Ids, NDArray[np.float64]]:
    """Return the ids, ``(n, k)``, of the nearest of each query's candidates, best first, and their exact cosines.

    Ties go to the lower id.
    """
    best, exact = _ordered(index, queries, rows[:, :k])
    if rows.shape[1] > k:
        for place in np.flatnonzero(scores[:, k] > scores[:, k - 1] - TIE).tolist():
            one = slice(place, place + 1)
            best[one], exact[one] = _best_of_tied(index, queries[one], scores[one], rows[one], k)
    return best, exact


def _best_of_tied(
    index: FaissIndex | Part, query: Vectors, scores: Vectors, rows: Ids, k: int
) -> tuple[Ids, NDArray[np.float64]]:
    """Return the same for one query ``(1, dim)``, where the k nearest may not be the first of the candidates."""
    border = scores[0, k - 1] - TIE
    if scores[0, -1] > border and rows.shape[1] < len(index):
        # The tie may go on beyond what was fetched, and one that was not may have the lower id.
        scores, rows = index.search_rows(query, rows.shape[1] + MORE)
        border = scores[0, k - 1] - TIE
    near = k + int(np.count_nonzero(scores[0, k:] > border))
    best, exact = _ordered(index, query, rows[:, :near])
    return best[:, :k], exact[:, :k]


def _ordered(index: FaissIndex | Part, queries: Vectors, rows: Ids) -> tuple[Ids, NDArray[np.float64]]:
    """Return the ids in rows ``(n, m)`` and their exact cosines with the queries, each query's best first."""
    ids, exact = index.ids_at(rows), exact_cosines(index.at, queries, rows)
    if (exact[:, 1:] < exact[:, :-1]).all():  # as mostly: FAISS has ordered them
        return ids, exact
    order = np.lexsort((ids, -exact))
    return np.take_along_axis(ids, order, 1), np.take_along_axis(exact, order, 1)


def _class_hits(
    snapshot: Snapshot, decided: list[int], class_ids: list[int], scores: list[float], distances: list[float]
) -> list[ClassHit]:
    names, known, told = snapshot.names, snapshot.known, snapshot.told
    return [
        ClassHit(
            names[class_id], score, distance, known[id].shown, told.attributes_of_class(class_id), id in told.mapped
        )
        for id, class_id, score, distance in zip(decided, class_ids, scores, distances, strict=True)
    ]
