"""The index chooses itself: kinds are built on the gallery's own vectors and measured against exact search.

The promise is ``ann_recall``: of the k nearest, the share that a search finds. A kind keeps it if the lower
end of what was measured does, on queries that had no part in the choice; the cheapest such kind wins, by the time of
one query on one thread. Exact search stays where it is fast enough, or where nothing else keeps the promise.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from indexer.approximate import Choice, extend, factories, lists_of
from indexer.errors import ArgumentError
from indexer.faiss_index import Ids
from indexer.rehearsal import rehearsal
from indexer.trials import Course, Made, Promise, Trial, microseconds
from indexer.vectors import SomeVectors, Vectors

QUERIES = 1000  # of each kind; half of them choose a setting, half confirm it
SAMPLE = 100_000  # vectors on which all kinds are built; of more than twice as many the best ones are then built on all
EXACTLY_TIMED = 10  # queries
HOPELESS = 2  # times as long as another kind takes: more effort only costs more, and timings differ by less
IP = faiss.METRIC_INNER_PRODUCT

_log = logging.getLogger(__name__)

Progress = Callable[[str, int, int], None]
"""(what is done now, steps done, steps in all)"""


@dataclass(frozen=True, slots=True)
class Winner:
    """The index that won.

    Attributes:
        choice: its kind and setting.
        index: of FAISS, over all vectors.
        rows: which vector each of its rows is.
        floor: the lowest score that the nearest neighbour of a measured query had. A query whose nearest scores less
            is unlike all that was measured, and nothing is promised for it.
    """

    choice: Choice
    index: Any
    rows: Ids
    floor: float


@dataclass(frozen=True, slots=True)
class Tuning:
    """What was tried and what won.

    Attributes:
        promise: what had to be kept.
        exact: what exact search takes.
        trials: of each kind by rising effort.
        winner: None where search stays exact.
        why: what decided, in a sentence.
    """

    promise: Promise
    exact: Trial
    trials: list[Trial]
    winner: Winner | None
    why: str


def tune(
    vectors: SomeVectors,
    labels: NDArray[np.int64],
    promise: Promise | None = None,
    *,
    photos: Vectors | None = None,
    kinds: Sequence[str] | None = None,
    sample: int = SAMPLE,
    seed: int = 0,
    progress: Progress | None = None,
) -> Tuning:
    """Find the cheapest index of vectors ``(n, dim)``, of length 1, that keeps the promise.

    Memory: beside the vectors two indexes of all of them, and those of ``sample`` vectors.

    Args:
        vectors: references, or prototypes; may be mapped from a file.
        labels: the class of each, ``(n,)``.
        promise: what must be kept; by default what ``Promise()`` says.
        photos: queries ``(m, dim)`` that it must be kept for as well, beside those made of the vectors.
        kinds: to choose from; by default those of ``factories``.
        sample: vectors on which all kinds are built, if there are more than twice as many.
        seed: of all that is drawn at random.
        progress: told of each step.

    Raises:
        ArgumentError: labels of another number than vectors.
    """
    if labels.shape != (len(vectors),):
        raise ArgumentError(f"{len(vectors)} vectors have as many labels, not the shape {labels.shape}")
    promise, progress = promise or Promise(), progress or (lambda *_: None)
    exact = exact_trial(vectors)
    milliseconds = exact.microseconds / 1000
    if milliseconds <= promise.latency_ms or len(vectors) < 2:
        return Tuning(promise, exact, [], None, f"exact search takes {milliseconds:.2f} ms a query: fast enough")
    more = () if photos is None else (photos,)
    trials: list[Trial] = []
    tried = kinds or factories(len(vectors), vectors.shape[1])
    if kinds is None and len(vectors) > 2 * sample:
        rows = np.sort(np.random.default_rng(seed).choice(len(vectors), sample, replace=False))
        small = _Race(vectors[rows], labels[rows], promise, seed, progress, photos=more)
        names = dict(zip(factories(sample, vectors.shape[1]), tried, strict=True))
        tried = [names[factory] for factory in small.finalists(names)]
        trials += small.trials
    race = _Race(vectors, labels, promise, seed, progress, photos=more, cost=exact.microseconds)
    winner = race.winner(tried)
    why = "nothing that is faster than exact search keeps the promise"
    if winner is not None:
        why = f"{winner.choice.factory} is the fastest that keeps the promise"
    return Tuning(promise, exact, trials + race.trials, winner, why)


def exact_trial(vectors: SomeVectors) -> Trial:
    """Return what exact search through the vectors ``(n, dim)`` takes: measured on some, the rest by proportion."""
    some = np.ascontiguousarray(vectors[:SAMPLE])
    cost = 0.0
    if len(some):
        cost = microseconds(lambda query: faiss.knn(query, some, 1, metric=IP), some[:EXACTLY_TIMED])
        cost *= len(vectors) / len(some)
    return Trial(Choice("Flat", 0), len(vectors), 1.0, 1.0, cost, 0.0, 0.0, keeps=True)


class _Race:
    """Kinds of index over the same vectors, measured with the same queries; ``trials`` grows with it."""

    def __init__(
        self,
        vectors: SomeVectors,
        labels: NDArray[np.int64],
        promise: Promise,
        seed: int,
        progress: Progress,
        *,
        photos: tuple[Vectors, ...],
        cost: float | None = None,
    ) -> None:
        self.trials: list[Trial] = []
        self._cost = exact_trial(vectors).microseconds if cost is None else cost
        self._vectors, self._seed, self._progress = vectors, seed, progress
        progress(f"the exact neighbours of {QUERIES:,} queries among {len(vectors):,}", 0, 1)
        self._split = rehearsal(vectors, labels, QUERIES, seed)
        self._course = Course(vectors, self._split.kept, (*self._split.queries, *photos), promise)

    def finalists(self, kinds: Iterable[str]) -> list[str]:
        """Return the best graph and the best inverted file: which of the two is better depends on the size."""
        best: dict[bool, Trial] = {}
        for _, last in self._runs(list(kinds)):
            graph = lists_of(last.choice.factory) is None
            if graph not in best or last.microseconds < best[graph].microseconds:
                best[graph] = last
        return [trial.choice.factory for trial in best.values()]

    def winner(self, kinds: Sequence[str]) -> Winner | None:
        """Return the best kind of all, with the vectors that had been left out added to its index."""
        best: tuple[Made, Trial] | None = None
        for made, last in self._runs(kinds):
            if best is None or last.microseconds < best[1].microseconds:
                best = made, last
        if best is None:
            return None
        made, last = best
        extend(made.index, self._vectors, self._split.held)
        rows = np.concatenate([made.rows, self._split.held])
        return Winner(last.choice, made.index, rows, self._course.floor)

    def _tell(self, factory: str, step: int, steps: int, done: int, total: int) -> None:
        self._progress(f"{factory}: {done:,} of {total:,}", step, steps)

    def _runs(self, kinds: Sequence[str]) -> Iterator[tuple[Made, Trial]]:
        """Yield the index and the last trial of each kind that keeps the promise faster than exact search.

        A graph that takes far longer than one which keeps it will not win, nor will lists.
        """
        limits = dict.fromkeys((True, False), self._cost)
        for step, factory in enumerate(kinds):
            tell, graph = partial(self._tell, factory, step, len(kinds)), lists_of(factory) is None
            try:
                made, trials = self._course.climb(factory, limits[graph], seed=self._seed, tell=tell)
            except RuntimeError as error:  # FAISS refuses: too few vectors for its codes, or too little memory
                _log.info("%s was left out: %s", factory, error)
                continue
            self.trials += trials
            last = trials[-1]
            if last.keeps and last.microseconds < self._cost:
                limits[graph] = min(limits[graph], HOPELESS * last.microseconds)
                yield made, last
