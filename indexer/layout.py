"""Where the vectors of a graph lie in memory: near those that a search looks at with them.

A search in a graph goes from neighbour to neighbour, and in the order in which vectors came these lie anywhere in
memory: nearly each costs a look-up in the tables of pages, and a line that no cache holds. Neighbours that share pages
cost fewer; what is found stays the same (Coleman et al. 2022, "Graph Reordering for Cache-Efficient Near Neighbor
Search", arXiv:2104.03221; this is its simplest kind, by cluster).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import faiss
import numpy as np
from numpy.typing import NDArray

from indexer.faiss_index import Ids

LEAST: Final = 1 << 15  # vectors; the graph of fewer gains hardly more than chance makes
CLUSTER: Final = 256  # vectors of a cluster: some pages of codes and of links
CLUSTERS: Final = 4096  # at most; more take longer to find than they save
SAMPLE, ROUNDS = 30, 4  # vectors a cluster that k-means sees, and how often it moves the centres
PART: Final = 1 << 16  # vectors decoded at once


def gathered(index: Any, rows: Ids, *, seed: int = 0, tell: Callable[[int, int], None] | None = None) -> Ids:
    """Lay the vectors of a graph cluster by cluster; return the ``rows`` ``(n,)`` that they are, in their new order.

    Of other kinds of index, and of small ones, all stays as it is.

    Args:
        index: a FAISS index; changed in place.
        rows: what each of its vectors is.
        seed: of k-means.
        tell: as for ``approximate.built``: told that all are in it; what it raises ends this, and all stays as it is.
    """
    graph = faiss.downcast_index(index.index if isinstance(index, faiss.IndexPreTransform) else index)
    if not isinstance(graph, faiss.IndexHNSW) or graph.ntotal < LEAST:
        return rows
    order = _clusters(graph, seed, tell or (lambda *_: None)).argsort(kind="stable")
    graph.permute_entries(order)
    return rows[order]


def _clusters(graph: Any, seed: int, tell: Callable[[int, int], None]) -> NDArray[np.int64]:
    """Return the number of each vector's cluster ``(n,)``; clusters that are near one another have near numbers."""
    count = graph.ntotal
    wanted = min(CLUSTERS, count // CLUSTER)
    some = np.sort(np.random.default_rng(seed).choice(count, min(count, SAMPLE * wanted), replace=False))
    centres = _centres(_decoded(graph, some), wanted, seed)
    groups = _centres(centres, round(wanted**0.5), seed)
    centres = centres[_nearest(groups, centres).argsort(kind="stable")]
    found: NDArray[np.int64] = np.empty(count, np.int64)
    for start in range(0, count, PART):
        tell(count, count)
        part = np.arange(start, min(start + PART, count))
        found[part] = _nearest(centres, _decoded(graph, part))
    return found


def _decoded(graph: Any, numbers: Ids) -> NDArray[np.float32]:
    return faiss.downcast_index(graph.storage).reconstruct_batch(numbers)


def _centres(vectors: NDArray[np.float32], count: int, seed: int) -> NDArray[np.float32]:
    means: Any = faiss.Kmeans(vectors.shape[1], count, niter=ROUNDS, seed=seed, min_points_per_centroid=1)
    means.train(vectors)
    return means.centroids


def _nearest(centres: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.int64]:
    return faiss.knn(vectors, centres, 1)[1][:, 0]
