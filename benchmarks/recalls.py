"""How much of what is to be found a search finds: of the exact neighbours, and of the right classes."""

from __future__ import annotations

import indexer.kernels  # noqa: F401 - before FAISS: as in a gallery, so here

# isort: split
import faiss
import numpy as np
from made import Set
from methods import Rows

DEPTHS = (1, 10, 100)  # neighbours that are asked for


def exact_neighbours(data: Set) -> Rows:
    """Return the rows of the nearest of each query, as deep as anything is measured."""
    return faiss.knn(
        data.queries, data.vectors, min(max(DEPTHS), len(data.vectors)), metric=faiss.METRIC_INNER_PRODUCT
    )[1]


def ann_recall(found: Rows, exact: Rows, k: int) -> float:
    """Return the share of the k nearest that were found, each counted once."""
    k = min(k, exact.shape[1])
    return float(
        np.mean([len(set(a) & set(b)) / k for a, b in zip(found[:, :k].tolist(), exact[:, :k].tolist(), strict=True)])
    )


def class_recall(found: Rows, data: Set, k: int) -> float:
    """Return the share of the queries of known class that have it among the classes of their k nearest."""
    known = data.asked >= 0
    hit = (data.labels[found[known, :k]] == data.asked[known, np.newaxis]) & (found[known, :k] >= 0)
    return float(hit.any(axis=1).mean())
