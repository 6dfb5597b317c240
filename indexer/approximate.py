"""Approximate indexes: which kinds there are, how one is built, and how hard one searches.

An approximate index names candidates; exact arithmetic scores them. So it may miss a neighbour, but what it finds
stands in the right order with the right score.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import faiss
import numpy as np

from indexer.faiss_index import Ids
from indexer.vectors import SomeVectors, Vectors

CHUNK = 1 << 14  # vectors copied at once
# k-means on a sample: the centroids of fifty vectors each, moved ten times, divide a gallery as well as those of all
# its vectors do, and training would else cost more than all the rest of a build.
POINTS, ROUNDS = 50, 10
TRAINED = 1 << 16  # vectors that codes are fitted to
# The breadth of the search for neighbours while a graph is built. FAISS's 40 builds twice as fast; a graph built with
# 100 needs half the time a query for the same ann_recall, and half the links.
BUILD_BREADTH = 100
GRAPH_LISTS = 8192  # with more lists, a graph finds the nearest centroids faster than looking at all
# How broadly it looks for the list that a vector goes into. With FAISS's 16 one of twenty goes into a wrong list, where
# its codes cannot say where it is: of ten million an eighth of the neighbours was lost, however hard one searched.
FILING_BREADTH = 64
BLOCK = 1 << 17  # floats copied at once: they stay in the processor's cache until they are scored
REDUCED = 8, 4  # of so many dimensions one is kept; embeddings vary along few
LEAST_REDUCED = 16  # dimensions that are worth a projection
# Candidates for each neighbour wanted where few dimensions tell neighbours apart nearly as well as all: a million made
# vectors lose nothing by it, and to read more of them took a seventh of a query.
SLIGHT: Final = 1.2
EFFORTS: Final = 1, 2, 3, *(step << shift for shift in range(12) for step in (4, 5, 6, 7))

Tell = Callable[[int, int], None]
"""(vectors that are in an index, vectors in all); what it raises ends the building."""
Exact = Callable[[Ids], Vectors]
"""Numbers of rows ``(n,)`` -> their vectors ``(n, dim)``."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A kind of index and how hard it searches.

    Attributes:
        factory: the kind, as ``faiss.index_factory`` reads it.
        effort: lists that are looked through, or the breadth of the search in a graph.
        depth: candidates by coarse codes, or by few dimensions, for each one that finer ones then choose; 1 where
            there is one kind of code, of all dimensions.
    """

    factory: str
    effort: int
    depth: float = 1


def factories(count: int, dim: int) -> list[str]:
    """Return the kinds worth trying for ``count`` vectors of ``dim`` floats."""
    lists = 1 << max(2, round(math.log2(4 * math.sqrt(max(count, 1)))))
    inverted = f"IVF{lists}_HNSW32" if lists > GRAPH_LISTS else f"IVF{lists}"
    kinds = [  # those that are the fastest mostly come first: who is far slower is then soon known
        f"PCA{few},{rest},SQ8"
        for few in (dim // share for share in REDUCED)
        if few >= LEAST_REDUCED
        for rest in ("HNSW16", inverted)
    ]
    kinds += ["HNSW16,SQfp16", "HNSW32,SQ8"]
    kinds += [f"{inverted},{codes}" for codes in ("Flat", "SQ8", "RaBitQfs,Refine(SQ8)")]
    if dim % 4 == 0:
        kinds.append(f"{inverted},PQ{dim // 4}x4fs,Refine(SQ8)")
    return kinds


def lists_of(factory: str) -> int | None:
    """Return the number of lists of an inverted file, None for a graph."""
    head = factory.split(",")[1 if _reduced(factory) else 0].split("_", maxsplit=1)[0]
    return int(head.removeprefix("IVF")) if head.startswith("IVF") else None


def ladder(factory: str, count: int) -> list[Choice]:
    """Return the settings of a kind for ``count`` vectors, from the quickest to the most thorough."""
    lists = lists_of(factory)
    most, least = (count, 8) if lists is None else (lists, 1)
    efforts = [effort for effort in EFFORTS if least <= effort < most] or [least]
    if lists is not None:
        efforts.append(lists)
    return [Choice(factory, effort, depth) for effort in efforts for depth in _depths(factory, effort)]


def _depths(factory: str, effort: int) -> tuple[float, ...]:
    """Return how many candidates are worth scoring again: a graph has found as many as it searched broadly anyway."""
    if "Refine" in factory:
        return 4, 16
    if not _reduced(factory):
        return (1,)
    return (SLIGHT, 2, 8) if lists_of(factory) is not None else (SLIGHT, min(max(2, effort // 16), 8))


def _reduced(factory: str) -> bool:
    return factory.startswith("PCA")


def built(factory: str, vectors: SomeVectors, rows: Ids, *, seed: int = 0, tell: Tell | None = None) -> Any:
    """Return a FAISS index of that kind over some rows of ``vectors``; its own rows follow the order of ``rows``.

    Raises:
        RuntimeError: FAISS cannot make that kind of these vectors.
    """
    # A projection takes the mean away. That moves inner products and leaves distances, which order unit vectors alike.
    metric = faiss.METRIC_L2 if _reduced(factory) else faiss.METRIC_INNER_PRODUCT
    index: Any = faiss.index_factory(vectors.shape[1], factory, metric)
    lists = lists_of(factory)
    if lists is None:
        graph: Any = faiss.downcast_index(index.index) if _reduced(factory) else index
        graph.hnsw.efConstruction = BUILD_BREADTH
    else:
        _hasten(index, seed)
    some = np.random.default_rng(seed).permutation(rows)[: max(POINTS * (lists or 0), TRAINED)]
    index.train(np.ascontiguousarray(vectors[some]))
    extend(index, vectors, rows, tell=tell)
    return index


def extend(index: Any, vectors: SomeVectors, rows: Ids, *, tell: Tell | None = None) -> None:
    """Add rows of ``vectors`` to a FAISS index, some thousand in memory at a time."""
    for start in range(0, len(rows), CHUNK):
        if tell is not None:
            tell(start, len(rows))
        index.add(np.ascontiguousarray(vectors[rows[start : start + CHUNK]]))


def candidates(index: Any, choice: Choice, queries: Vectors, k: int, selector: Any = None) -> Ids:
    """Return rows of the index, ``(n, k or more)``, that may be the nearest of each query; -1 where it has none.

    With a selector of FAISS, only rows that it lets pass.
    """
    more: float = 2 if "SQ8" in choice.factory else 1  # of rough codes, the last of k may stand beyond the border
    if _reduced(choice.factory):
        more = choice.depth
    wanted, parameters = min(math.ceil(more * k), index.ntotal), _parameters(choice, selector)
    if len(queries) == 1:
        return _candidates_alone(index, queries, wanted, parameters)
    return index.search(queries, wanted, params=parameters)[1]


def _candidates_alone(index: Any, query: Vectors, wanted: int, parameters: Any) -> Ids:
    """Return the rows ``(1, wanted)`` that one query finds.

    By FAISS's own call: what its Python does around it takes a twentieth of such a search.

    Raises:
        ValueError: the query is not as long as the vectors of the index, which FAISS would not notice.
    """
    if query.shape[1] != index.d:
        raise ValueError(f"a query of {query.shape[1]} floats, the index holds vectors of {index.d}")
    module: Any = faiss  # its type stubs lack the function
    query = np.ascontiguousarray(query, np.float32)
    scores, rows = np.empty((1, wanted), np.float32), np.empty((1, wanted), np.int64)
    with OneThread():  # on a busy processor FAISS else waits longer for its other threads than it searches
        index.search_c(1, module.swig_ptr(query), wanted, module.swig_ptr(scores), module.swig_ptr(rows), parameters)
    return rows


def rescored(queries: Vectors, rows: Ids, exact: Exact, k: int) -> tuple[Vectors, Ids]:
    """Return the exact scores and the rows, ``(n, k)`` each, of the best candidates ``(n, k or more)``, best first.

    Where there are fewer than k candidates the row is -1 and the score minus infinity.
    """
    if len(rows) == 1:  # what many at once need costs a single query as much as its scores do
        return _rescored_alone(queries[0], rows[0], exact, k)
    scores = np.empty(rows.shape, np.float32)
    step = max(1, BLOCK // max(1, rows.shape[1] * queries.shape[1]))
    for start in range(0, len(rows), step):
        some = rows[start : start + step]
        vectors = exact(np.maximum(some, 0).ravel()).reshape(*some.shape, queries.shape[1])
        np.matmul(
            vectors, queries[start : start + step, :, np.newaxis], out=scores[start : start + step, :, np.newaxis]
        )
    scores[rows < 0] = -np.inf
    order = (-scores).argsort(axis=1, kind="stable")[:, :k]
    return np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)


def _rescored_alone(query: Vectors, rows: Ids, exact: Exact, k: int) -> tuple[Vectors, Ids]:
    missing = min(rows.tolist(), default=0) < 0  # of some ten numbers Python is as quick as NumPy is to begin
    scores = exact(np.maximum(rows, 0) if missing else rows) @ query
    if missing:
        scores[rows < 0] = -np.inf
    order = (-scores).argsort(kind="stable")[:k]
    return scores[order][np.newaxis], rows[order][np.newaxis]


def size(index: Any) -> int:
    """Return the bytes of an index as it is written, which is about what it takes in memory."""
    written = 0

    def count(data: Any) -> int:
        nonlocal written
        written += len(data)
        return len(data)

    module: Any = faiss  # its type stubs lack the class
    faiss.write_index(index, module.PyCallbackIOWriter(count))
    return written


class OneThread:
    """Let FAISS use one thread, if the calling thread asks it. A generator would take three times as long to enter."""

    __slots__ = ("_threads",)

    def __enter__(self) -> None:
        self._threads = faiss.omp_get_max_threads()
        faiss.omp_set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        faiss.omp_set_num_threads(self._threads)


def _hasten(index: Any, seed: int) -> None:
    """Train with k-means on few points, without FAISS's warning of having few; look broadly for a vector's list."""
    inverted: Any = faiss.downcast_index(faiss.extract_index_ivf(index))
    graph = getattr(faiss.downcast_index(inverted.quantizer), "hnsw", None)
    if graph is not None:
        graph.efConstruction, graph.efSearch = BUILD_BREADTH, FILING_BREADTH
    codes = getattr(inverted, "pq", None)
    for clustering in (inverted.cp, *(() if codes is None else (codes.cp,))):
        clustering.min_points_per_centroid, clustering.seed = 1, seed
    inverted.cp.max_points_per_centroid, inverted.cp.niter = POINTS, ROUNDS


def _parameters(choice: Choice, selector: Any) -> Any:
    return _unmasked(choice) if selector is None else _searched(choice, sel=selector)


@lru_cache(maxsize=64)
def _unmasked(choice: Choice) -> Any:
    """The parameters of nearly every query: to make them anew costs one that comes alone a tenth of its time."""
    return _searched(choice)


def _searched(choice: Choice, **wanted: Any) -> Any:
    module: Any = faiss  # its type stubs lack the keyword arguments
    if lists_of(choice.factory) is None:
        return module.SearchParametersHNSW(efSearch=choice.effort, **wanted)
    inverted = module.SearchParametersIVF(nprobe=choice.effort, **wanted)
    if "Refine" not in choice.factory:
        return inverted
    return module.IndexRefineSearchParameters(k_factor=float(choice.depth), base_index_params=inverted)
