"""Exact search among some rows of a memory of vectors: what is not among them costs nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from indexer.vectors import Vectors

Rows = NDArray[np.int64]

FEW = 8  # queries for which a copy of the rows costs more than it saves
BLOCK = 2**20  # floats copied at once: they stay in the processor's cache while all queries look at them


def search_among(vectors: Vectors, rows: Rows, queries: Vectors, k: int) -> tuple[Vectors, Rows]:
    """Return the scores and rows, ``(n, min(k, len(rows)))`` each, of the nearest among ``rows``, best first.

    Args:
        vectors: the memory, C-contiguous ``(room, dim)``; other rows are not looked at.
        rows: which of them may be found, ascending.
        queries: ``(n, dim)``.
        k: how many to return.
    """
    queries, k = np.ascontiguousarray(queries, np.float32), min(k, len(rows))
    if not k or not len(queries):
        return np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
    return _few(vectors, rows, queries, k) if len(queries) < FEW else _many(vectors, rows, queries, k)


def _few(vectors: Vectors, rows: Rows, queries: Vectors, k: int) -> tuple[Vectors, Rows]:
    scores, found = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
    rows = np.ascontiguousarray(rows, np.int64)
    sizes = (vectors.shape[1], len(queries), len(vectors), k)
    memory = [faiss.swig_ptr(array) for array in (queries, vectors, scores, found)]
    chosen = faiss.IDSelectorArray(len(rows), faiss.swig_ptr(rows))  # FAISS visits these and no others
    nearest: Any = faiss.knn_inner_product
    nearest(*memory[:2], *sizes, *memory[2:], chosen)
    return scores, found


def _many(vectors: Vectors, rows: Rows, queries: Vectors, k: int) -> tuple[Vectors, Rows]:
    scores, found = np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
    for part in _blocks(rows, vectors.shape[1]):
        near, places = faiss.knn(queries, vectors[part], min(k, len(part)), metric=faiss.METRIC_INNER_PRODUCT)
        scores, found = np.concatenate([scores, near], 1), np.concatenate([found, part[places]], 1)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        scores, found = np.take_along_axis(scores, best, 1), np.take_along_axis(found, best, 1)
    return scores, found


def _blocks(rows: Rows, dim: int) -> Iterator[Rows]:
    size = max(1, BLOCK // dim)
    for start in range(0, len(rows), size):
        yield rows[start : start + size]
