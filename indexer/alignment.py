"""From one embedder's vectors to another's: a linear map, learnt from contents that both have embedded.

Ridge regression (Hoerl & Kennard 1970); its strength and what the map loses are found by cross-validation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from indexer.vectors import Vectors, prototype, unit

LEAST = 50  # contents to learn from: with fewer, hardly ten are held out at a time, and the loss is a guess
MOST = 10_000  # more teach next to nothing and cost memory: about 0.5 GB at 2,048 floats
FOLDS = 5
STRENGTHS = tuple(10.0**power for power in range(-5, 3))  # of the ridge, in mean squares of a feature
QUERIES = 2_000  # held-out vectors that ask for their class

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Loss:
    """What a map loses, measured on contents that it did not learn from.

    Attributes:
        cosine: mean cosine between mapped vectors and the true ones; 1 is no loss.
        recall_at_1: share of the true vectors whose nearest prototype, made of mapped vectors, is their class's own.
        pairs: contents that the map was learnt from.
    """

    cosine: float
    recall_at_1: float
    pairs: int


class Map(NamedTuple):
    """Takes vectors ``(n, dim)`` of the old space to the new one, as unit vectors."""

    old_mean: Floats
    new_mean: Floats
    weights: Floats

    def __call__(self, vectors: Vectors) -> Vectors:
        """Return the vectors in the new space, ``(n, new dim)``."""
        return unit((vectors - self.old_mean) @ self.weights + self.new_mean)


def learn(old: Vectors, new: Vectors, labels: NDArray[np.int64]) -> tuple[Map, Loss]:
    """Return the map from ``old`` ``(n, dim)`` to ``new`` ``(n, new dim)``, rows of the same contents, and its loss.

    Args:
        old: unit vectors by the one embedder.
        new: unit vectors by the other.
        labels: the class of each. Whole classes are held out where there are enough of them, as images are lost.
    """
    folds = _folds(labels)
    guesses = {strength: np.empty(new.shape, np.float32) for strength in STRENGTHS}
    for held in folds:
        kept = np.setdiff1d(np.arange(len(old)), held)
        for strength, map in _maps(old[kept], new[kept], STRENGTHS):
            guesses[strength][held] = map(old[held])
    # One number is chosen of eight by the same held-out contents: that flatters the loss by next to nothing.
    cosines = {strength: float(np.einsum("ij,ij->i", guess, new).mean()) for strength, guess in guesses.items()}
    best = max(STRENGTHS, key=lambda strength: cosines[strength])
    map = dict(_maps(old, new, [best]))[best]
    return map, Loss(cosines[best], _recall_at_1(guesses[best], new, labels), len(old))


def _folds(labels: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return the rows held out in turn."""
    random = np.random.default_rng(0)
    classes, rows = np.unique(labels, return_inverse=True)
    if len(classes) >= 2 * FOLDS:
        turns = random.permutation(len(classes))[rows] % FOLDS
        return [np.flatnonzero(turns == fold) for fold in range(FOLDS)]
    order = random.permutation(len(labels))
    return [np.sort(order[fold::FOLDS]) for fold in range(FOLDS)]


def _maps(old: Vectors, new: Vectors, strengths: Sequence[float]) -> Iterator[tuple[float, Map]]:
    """Yield a map for each strength; the smaller of the two Gram matrices is decomposed, once."""
    old_mean, new_mean = old.mean(axis=0, dtype=np.float64), new.mean(axis=0, dtype=np.float64)
    x, y = old - old_mean, new - new_mean
    wide = len(x) <= x.shape[1]
    values, vectors = np.linalg.eigh(x @ x.T if wide else x.T @ x)
    real = values > 1e-10 * max(float(values[-1]), 1e-300)
    values, vectors = values[real], vectors[:, real]
    directions = x.T @ vectors / np.sqrt(values) if wide else vectors
    seen = directions.T @ (x.T @ y)
    unit_of_strength = values.sum() / x.shape[1]
    for strength in strengths:
        shrunk = seen / (values + strength * unit_of_strength)[:, np.newaxis]
        yield strength, Map(old_mean, new_mean, directions @ shrunk)


def _recall_at_1(guess: Vectors, true: Vectors, labels: NDArray[np.int64]) -> float:
    classes, rows = np.unique(labels, return_inverse=True)
    order = np.argsort(rows, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(rows))[:-1])
    prototypes = np.stack([prototype(guess[one]) for one in members])
    asked = np.random.default_rng(1).permutation(len(true))[:QUERIES]
    right = 0
    for some in np.array_split(asked, max(len(asked) // 200, 1)):  # 200 × the classes of at most 10,000 contents
        right += int((classes[(true[some] @ prototypes.T).argmax(axis=1)] == labels[some]).sum())
    return right / len(asked)
