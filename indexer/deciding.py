"""Which reference of each class found is the nearest to the query: rough scores of all, exact ones of those left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from indexer.approximate import OneThread
from indexer.faiss_index import FaissIndex, Ids
from indexer.snapshot import GATHERED, Snapshot
from indexer.vectors import Vectors, cosines

BLOCK = 2**17  # floats copied at once: they and their float64 copies stay in the processor's cache

At = Callable[[Ids], Vectors]
"""Rows of an index -> copies of their vectors."""


class Rivals(NamedTuple):
    """References of one class, of which one is nearest to a query: the number of the query, their ids, ascending."""

    query: int
    ids: list[int]


def deciding(snapshot: Snapshot, queries: Vectors, members: list[list[list[int]]]) -> list[list[int]]:
    """Return, for each query ``(n, dim)`` and each of its classes, the id of the reference nearest to the query.

    Of equals the lowest.

    Args:
        snapshot: has them.
        queries: unit vectors.
        members: the ids of the references, ascending, that each query's classes have.
    """
    rivals = [Rivals(number, ids) for number, classes in enumerate(members) for ids in classes if len(ids) > 1]
    if not rivals:
        return [[ids[0] for ids in classes] for classes in members]
    nearest = chain.from_iterable(_nearest(snapshot.references, queries, some) for some in _some(rivals))
    return [[next(nearest) if len(ids) > 1 else ids[0] for ids in classes] for classes in members]


def exact_cosines(at: At, points: Vectors, rows: Ids) -> NDArray[np.float64]:
    """Return the cosines, ``(n,)`` or ``(n, m)``, of points ``(n, dim)`` with the vectors in rows of the same shape."""
    found = np.empty(rows.shape)
    size = max(1, BLOCK // (points.shape[1] * max(1, rows[:1].size)))
    for start in range(0, len(rows), size):
        some, part = rows[start : start + size], points[start : start + size]
        vectors = at(some.ravel()).reshape(*some.shape, points.shape[1])
        found[start : start + size] = cosines(part if rows.ndim == 1 else part[:, np.newaxis], vectors)
    return found


def _some(rivals: list[Rivals]) -> Iterator[list[Rivals]]:
    """Yield them in groups of some thousand references, or of one class that has more."""
    group: list[Rivals] = []
    size = 0
    for one in rivals:
        if group and size + len(one.ids) > GATHERED:
            yield group
            group, size = [], 0
        group.append(one)
        size += len(one.ids)
    if group:
        yield group


def _nearest(index: FaissIndex, queries: Vectors, rivals: list[Rivals]) -> list[int]:
    """Return the id of the nearest of each, the lowest of equals."""
    lengths = np.array([len(one.ids) for one in rivals])
    ids = np.fromiter(chain.from_iterable(one.ids for one in rivals), np.int64, lengths.sum())
    which, rows = np.repeat([one.query for one in rivals], lengths), index.rows(ids)
    with OneThread() if len(queries) == 1 else nullcontext():  # it would wait longer for others than it works
        rough = index.pairs(queries, which, rows)
    starts = np.cumsum(lengths) - lengths
    least = np.maximum.reduceat(rough, starts) - 2 * _rounding(index.dim)
    close = np.flatnonzero(rough >= np.repeat(least, lengths))
    firsts = np.searchsorted(close, starts)
    counts = np.diff(firsts, append=len(close))
    nearest, unsure = close[firsts], counts > 1
    if unsure.any():
        among, sizes = close[np.repeat(unsure, counts)], counts[unsure]
        exact = exact_cosines(index.at, queries[which[among]], rows[among])
        nearest[unsure] = among[_first_best(exact, np.cumsum(sizes) - sizes)]
    return ids[nearest].tolist()


def _first_best(values: NDArray[np.float64], starts: Ids) -> Ids:
    """Return, of each group of values, the place of the first of the highest."""
    highest = np.maximum.reduceat(values, starts)
    best = np.flatnonzero(values == np.repeat(highest, np.diff(starts, append=len(values))))
    return best[np.searchsorted(best, starts)]


def _rounding(dim: int) -> float:
    """Return how far a sum of ``dim`` products of unit vectors, in float32 and any order, is from the cosine at most.

    With u for half of float32's epsilon, the sum loses ``dim * u / (1 - dim * u)``, lengths rounded to float32 about
    2 u, and what is done with it u: less than this, which is simpler.
    """
    return (dim + 4) * float(np.finfo(np.float32).eps)
