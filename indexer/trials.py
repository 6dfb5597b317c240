"""How one kind of index is measured: what it finds of the exact neighbours, and what a query costs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import faiss
import numpy as np

from indexer.approximate import CHUNK, Choice, OneThread, Tell, built, candidates, ladder, rescored, size
from indexer.errors import ArgumentError
from indexer.faiss_index import Ids
from indexer.layout import gathered
from indexer.promise import lower_bound, shares_found
from indexer.vectors import SomeVectors, Vectors, check_count

ANN_RECALL: Final = 0.99
K: Final = 10
LATENCY_MS: Final = 5.0  # embedding a photo takes several times as long: who waits for that does not notice it
TIMED, ROUNDS = 200, 3  # queries that are timed one by one, and how often
CHOOSING, CONFIRMING = slice(0, None, 2), slice(1, None, 2)  # which queries choose a setting, which confirm it


@dataclass(frozen=True, slots=True)
class Promise:
    """What a search must keep, and what it may take.

    Attributes:
        ann_recall: of the k nearest references, the share to find at least.
        k: so many neighbours.
        latency_ms: exact search that takes no longer than this a query is fast enough, and stays.
        bytes_a_vector: what an index may take beside the exact vectors; None if that does not matter.
    """

    ann_recall: float = ANN_RECALL
    k: int = K
    latency_ms: float = LATENCY_MS
    bytes_a_vector: float | None = None

    def __post_init__(self) -> None:
        """Raise an ArgumentError unless it can be meant."""
        check_count("k", self.k)
        if not 0 < self.ann_recall <= 1:
            raise ArgumentError(f"ann_recall is a share, above 0 and at most 1, not {self.ann_recall!r}")
        if not self.latency_ms >= 0:
            raise ArgumentError(f"latency_ms is 0 or more, not {self.latency_ms!r}")
        if self.bytes_a_vector is not None and not self.bytes_a_vector > 0:
            raise ArgumentError(f"bytes_a_vector is more than 0, not {self.bytes_a_vector!r}")


@dataclass(frozen=True, slots=True)
class Trial:
    """One kind of index at one setting, as measured.

    Attributes:
        choice: the kind and its setting.
        vectors: so many were in the index.
        ann_recall: the share of the k nearest that it found, for the harder kind of queries.
        low: the lower end of the 95 % interval of that share.
        microseconds: the median time of a query that comes alone, on one thread of the processor.
        bytes_a_vector: what a vector takes in the index.
        build_seconds: what it took to build.
        keeps: whether it keeps the promise.
    """

    choice: Choice
    vectors: int
    ann_recall: float
    low: float
    microseconds: float
    bytes_a_vector: float
    build_seconds: float
    keeps: bool


class Made(NamedTuple):
    """An index of FAISS, and which vector each of its rows is."""

    index: Any
    rows: Ids


class Course:
    """What the kinds are measured with: the vectors that make an index, queries and their exact neighbours."""

    def __init__(self, vectors: SomeVectors, rows: Ids, queries: tuple[Vectors, ...], promise: Promise) -> None:
        self._vectors, self._rows, self._promise = vectors, rows, promise
        self._k = min(promise.k, len(rows))
        self._queries = queries
        self._exact = [exact_scores(vectors, rows, kind, self._k) for kind in queries]

    @property
    def floor(self) -> float:
        """The lowest score that the nearest neighbour of a query has."""
        return float(min(scores[:, 0].min() for scores in self._exact))

    def climb(self, factory: str, limit: float, *, seed: int, tell: Tell | None = None) -> tuple[Made, list[Trial]]:
        """Build a kind and raise its effort until it keeps the promise, or costs more than ``limit`` microseconds.

        Return the index and the trials. Either the last one keeps the promise, and is measured by queries that had no
        part in choosing its setting, or none does.
        """
        started = time.perf_counter()
        made = make(factory, self._vectors, self._rows, seed=seed, tell=tell)
        seconds, bytes_a_vector = time.perf_counter() - started, size(made.index) / len(self._rows)
        budget = self._promise.bytes_a_vector
        fits = budget is None or bytes_a_vector <= budget
        trials: list[Trial] = []
        for choice in ladder(factory, len(self._rows)):
            measured = self._measured(made, choice, CHOOSING)
            if self._keeps(measured[1]):
                measured = self._measured(made, choice, CONFIRMING)
            keeps = fits and self._keeps(measured[1])
            trials.append(Trial(choice, len(self._rows), *measured, bytes_a_vector, seconds, keeps))
            if keeps or not fits or measured[2] > limit:
                break
        return made, trials

    def _measured(self, made: Made, choice: Choice, part: slice) -> tuple[float, float, float]:
        """Return ann_recall of the harder kind of queries, the lower end of its interval, a query's microseconds."""
        recalls, lows = [], []
        for queries, exact in zip(self._queries, self._exact, strict=True):
            shares = shares_found(self._found(made, choice, queries[part]), exact[part])
            recalls.append(float(shares.mean()))
            lows.append(lower_bound(shares, self._k))
        cost = microseconds(lambda query: self._found(made, choice, query), self._queries[0][part])
        return min(recalls), min(lows), cost

    def _keeps(self, low: float) -> bool:
        return low >= self._promise.ann_recall

    def _found(self, made: Made, choice: Choice, queries: Vectors) -> Vectors:
        rows = candidates(made.index, choice, queries, self._k)
        return rescored(queries, rows, lambda some: self._vectors[made.rows[some]], self._k)[0]


def make(factory: str, vectors: SomeVectors, rows: Ids, *, seed: int = 0, tell: Tell | None = None) -> Made:
    """Return an index of that kind over some rows of ``vectors``, laid out for searching; what ``built`` raises."""
    index = built(factory, vectors, rows, seed=seed, tell=tell)
    return Made(index, gathered(index, rows, seed=seed, tell=tell))


def exact_scores(vectors: SomeVectors, rows: Ids, queries: Vectors, k: int) -> Vectors:
    """Return the scores ``(n, k)`` of the nearest of some rows, best first; some ten thousand copied at a time."""
    best = np.empty((len(queries), 0), np.float32)
    for start in range(0, len(rows), CHUNK):
        some = vectors[rows[start : start + CHUNK]]
        scores, _ = faiss.knn(queries, some, min(k, len(some)), metric=faiss.METRIC_INNER_PRODUCT)
        best = -np.sort(-np.concatenate([best, scores], axis=1), axis=1)[:, :k]
    return best


def microseconds(search: Callable[[Vectors], object], queries: Vectors) -> float:
    """Return the median time of a query that comes alone, on one thread; other work on the machine does not count."""
    spent = []
    with OneThread():
        for _ in range(ROUNDS):
            for row in range(min(TIMED, len(queries))):
                started = time.thread_time()
                search(queries[row : row + 1])
                spent.append(time.thread_time() - started)
    return 1e6 * float(np.median(spent))
