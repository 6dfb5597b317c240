"""The geometry: unit vectors, prototypes, the two metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from indexer.errors import ArgumentError

Vectors = NDArray[np.float32]
Metric = Callable[[NDArray[np.float64]], tuple[NDArray[np.float64], NDArray[np.float64]]]


class SomeVectors(Protocol):
    """Vectors ``(n, dim)`` that need not lie in memory: an array, or what gives parts of one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """How many, of how many floats."""

    def __len__(self) -> int: ...

    def __getitem__(self, some: Any, /) -> Vectors:
        """Return those of these numbers, or of a slice."""


_TINY, _HUGE = 1e-200, 1e200  # squared lengths between them were computed without loss
VANISHING = 1e-6  # a mean shorter than this is rounding noise, and its direction means nothing


def unit(vectors: ArrayLike) -> Vectors:
    """Return a C-contiguous float32 copy of ``vectors``, ``(dim,)`` or ``(n, dim)``, each of length 1.

    Raises:
        ArgumentError: for a vector of length zero or with a value that is not finite.
    """
    array = _floats(vectors)
    if array.ndim not in (1, 2) or array.shape[-1] == 0:
        raise ArgumentError(f"vectors have the shape (dim,) or (n, dim), not {array.shape}")
    return _unit(array)


def _unit(array: NDArray[np.float64]) -> Vectors:
    squares = np.einsum("...i,...i->...", array, array)
    if not all(_TINY < square < _HUGE for square in squares.reshape(-1).tolist()):
        array = _scaled(array)
        squares = np.einsum("...i,...i->...", array, array)
    vectors = np.empty(array.shape, np.float32)
    return np.divide(array, np.sqrt(squares)[..., np.newaxis], out=vectors, casting="same_kind")


def _scaled(array: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the vectors with 1 as their largest value: squaring 1e200 or 1e-200 leaves the range of floats."""
    peak = np.abs(array).max(axis=-1, keepdims=True)
    if not np.isfinite(peak).all():
        raise ArgumentError("a vector has values that are not finite; the embedder that made it is broken")
    if not peak.all():
        raise ArgumentError("a vector of length zero has no direction; the embedder that made it is broken")
    return array / peak


def as_queries(vectors: ArrayLike, dim: int) -> Vectors:
    """Return queries, ``(dim,)`` or ``(n, dim)``, as ``(n, dim)`` unit vectors; an ArgumentError if they do not fit."""
    array = _floats(vectors)
    if array.ndim not in (1, 2) or array.shape[-1] != dim:
        raise ArgumentError(f"the gallery holds vectors of {dim} floats; a query of shape {array.shape} does not fit")
    return _unit(array.reshape(-1, dim))


def prototype(vectors: Vectors | Iterable[Vectors]) -> Vectors:
    """Return the unit mean, ``(dim,)``, of unit vectors: an array ``(n, dim)`` or chunks of one.

    The sum is made in float64. A single vector is its own prototype, to the bit. Vectors that cancel out have no
    mean direction; then the first one stands for all, since every reference must at least be able to find its class.
    """
    total: Any = 0.0
    first: Vectors | None = None
    count = 0
    for chunk in (vectors,) if isinstance(vectors, np.ndarray) else vectors:
        if first is None and len(chunk):
            first = chunk[0]
        total = total + chunk.sum(axis=0, dtype=np.float64)
        count += len(chunk)
    if first is None:
        raise ArgumentError("a class without references has no prototype")
    if count == 1 or np.linalg.norm(total) < VANISHING * count:
        return first.copy()
    return unit(total)


def cosines(queries: Vectors, vectors: Vectors) -> NDArray[np.float64]:
    """Return the cosines, ``(..., n)`` within [-1, 1], of queries with vectors ``(..., n, dim)``, in float64.

    Queries are such that they broadcast: ``(dim,)``, or ``(n, dim)``, or ``(..., 1, dim)``. Equal pairs get equal
    cosines, whatever stands beside them: a matrix product does not promise that.
    """
    wide, points = vectors.astype(np.float64), queries.astype(np.float64)
    squares = np.einsum("...i,...i->...", wide, wide) * np.einsum("...i,...i->...", points, points)
    values = np.einsum("...i,...i->...", wide, points) / np.sqrt(squares)
    return np.maximum(np.minimum(values, 1.0, out=values), -1.0, out=values)


def _cosine(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return values, 1.0 - values


def _euclidean(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    distances = np.sqrt(2.0 - 2.0 * values)  # ||q - p||, both of length 1
    return 0.0 - distances, distances


METRICS: dict[str, Metric] = {"cosine": _cosine, "euclidean": _euclidean}
"""Cosines ``(n,)`` -> (scores, distances). Both metrics order unit vectors alike, so one index serves them."""


def metric_named(name: str) -> Metric:
    """Return the metric of that name; an ArgumentError names the choices."""
    if not isinstance(name, str) or name not in METRICS:
        raise ArgumentError(f"unknown metric {name!r}; choose one of {', '.join(METRICS)}")
    return METRICS[name]


def check_count(what: str, value: object, *, least: int = 1) -> int:
    """Return ``value`` if it is a whole number of at least ``least``, else raise an ArgumentError."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ArgumentError(f"{what} is a whole number, {least} or more, not {value!r}")
    return int(value)


def _floats(vectors: ArrayLike) -> NDArray[np.float64]:
    try:
        return np.asarray(vectors, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"vectors are arrays of numbers ({error})") from error
