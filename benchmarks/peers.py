"""What finds neighbours, each behind the same three calls: our kinds of index, and libraries that users pick instead.

The libraries come with ``pip install 'firstsight[bench]'``; one that is not there is left out, and the report says so.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any, Protocol

import faiss
import numpy as np
from made import Vectors
from numpy.typing import NDArray

from indexer.approximate import Choice, built, candidates, factories, ladder, rescored, size

Rows = NDArray[np.int64]
DEEP = 1024  # lists or breadth, beyond which no setting is tried


class Method(Protocol):
    """A way to find neighbours. It is built once, and searches at several settings, from quick to thorough."""

    name: str
    rescores: bool  # with the exact vectors, which it needs beside what it takes itself

    def build(self, vectors: Vectors, threads: int) -> None:
        """Take in ``(n, dim)`` unit vectors."""

    def settings(self) -> Sequence[Any]:
        """Return what ``search`` may be told, from quick to thorough."""

    def search(self, queries: Vectors, k: int, setting: Any, threads: int) -> Rows:
        """Return the rows ``(n, k)`` of the nearest, best first; -1 where there is none."""

    def bytes(self) -> int:
        """Return what the index takes, by its own account; without the exact vectors of others."""


class Exact:
    """FAISS's flat search, which finds all."""

    name, rescores = "exact", False

    def build(self, vectors: Vectors, threads: int) -> None:
        self._vectors = vectors

    def settings(self) -> Sequence[Any]:
        return [None]

    def search(self, queries: Vectors, k: int, setting: Any, threads: int) -> Rows:
        faiss.omp_set_num_threads(threads)
        return faiss.knn(queries, self._vectors, k, metric=faiss.METRIC_INNER_PRODUCT)[1]

    def bytes(self) -> int:
        return self._vectors.nbytes


class Ours:
    """One of the kinds that ``tune`` tries, searched as a gallery does: what it names is scored exactly."""

    rescores = True

    def __init__(self, factory: str) -> None:
        self.name = self._factory = factory

    def build(self, vectors: Vectors, threads: int) -> None:
        faiss.omp_set_num_threads(threads)
        self._vectors = vectors
        self._index = built(self._factory, vectors, np.arange(len(vectors)))

    def settings(self) -> Sequence[Choice]:
        return [choice for choice in ladder(self._factory, len(self._vectors)) if choice.effort <= DEEP]

    def search(self, queries: Vectors, k: int, setting: Choice, threads: int) -> Rows:
        faiss.omp_set_num_threads(threads)
        rows = candidates(self._index, setting, queries, k)
        return rescored(queries, rows, self._vectors.__getitem__, k)[1]

    def bytes(self) -> int:
        return size(self._index)


class Hnswlib:
    """hnswlib with 16 links, built with a breadth of 200: its own defaults."""

    name, rescores = "hnswlib", False

    def __init__(self) -> None:
        self._library = importlib.import_module("hnswlib")

    def build(self, vectors: Vectors, threads: int) -> None:
        self._index = self._library.Index("ip", vectors.shape[1])
        self._index.init_index(len(vectors), ef_construction=200, M=16)
        self._index.set_num_threads(threads)
        self._index.add_items(vectors)

    def settings(self) -> Sequence[int]:
        return _BREADTHS

    def search(self, queries: Vectors, k: int, setting: int, threads: int) -> Rows:
        self._index.set_num_threads(threads)
        self._index.set_ef(max(setting, k))
        return self._index.knn_query(queries, k)[0].astype(np.int64)

    def bytes(self) -> int:
        return self._index.index_file_size()


class Usearch:
    """usearch with 16 links and half floats, built with a breadth of 128."""

    name, rescores = "usearch f16", False

    def __init__(self) -> None:
        self._library = importlib.import_module("usearch.index")

    def build(self, vectors: Vectors, threads: int) -> None:
        settings = {"dtype": "f16", "connectivity": 16, "expansion_add": 128}
        self._index = self._library.Index(ndim=vectors.shape[1], metric="ip", **settings)
        self._index.add(np.arange(len(vectors)), vectors, threads=threads)

    def settings(self) -> Sequence[int]:
        return _BREADTHS

    def search(self, queries: Vectors, k: int, setting: int, threads: int) -> Rows:
        self._index.expansion_search = max(setting, k)
        found = self._index.search(queries, k, threads=threads)
        return np.asarray(found.keys).reshape(len(queries), -1).astype(np.int64)

    def bytes(self) -> int:
        return self._index.memory_usage


_BREADTHS = [10, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024]
PEERS = (Hnswlib, Usearch)


def methods(count: int, dim: int, wanted: Sequence[str] | None, say: Any) -> list[Method]:
    """Return exact search, our kinds, and the libraries that are installed; only those of the wanted names, if any."""
    found: list[Method] = [Exact(), *map(Ours, factories(count, dim))]
    for peer in PEERS:
        try:
            found.append(peer())
        except ImportError:
            say(f"{peer.name} is left out: it is not installed (pip install 'firstsight[bench]')")
    return [
        one for one in found if wanted is None or one.name == "exact" or any(one.name.startswith(w) for w in wanted)
    ]
