"""What finds neighbours, each behind the same calls: exact search, our kinds of index, and peers (peers.py)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import indexer.kernels  # noqa: F401 - before FAISS: as in a gallery, so here

# isort: split
import faiss
import numpy as np
from made import Vectors
from numpy.typing import NDArray

from indexer.approximate import Choice, candidates, factories, ladder, rescored, size
from indexer.trials import make

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

    def save(self, folder: Path) -> None:
        """Write it into an empty folder."""

    def load(self, folder: Path, vectors: Vectors) -> None:
        """Take what ``save`` wrote, instead of building it over the same vectors."""


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

    def save(self, folder: Path) -> None:
        """There is nothing to write."""

    def load(self, folder: Path, vectors: Vectors) -> None:
        self._vectors = vectors


class Ours:
    """One of the kinds that ``tune`` tries, searched as a gallery does: what it names is scored exactly."""

    rescores = True

    def __init__(self, factory: str) -> None:
        self.name = self._factory = factory

    def build(self, vectors: Vectors, threads: int) -> None:
        faiss.omp_set_num_threads(threads)
        self._vectors = vectors
        self._index, rows = make(self._factory, vectors, np.arange(len(vectors)))
        self._rows = np.append(rows, -1)  # as in a gallery: -1, which FAISS says where it has none, stays -1

    def settings(self) -> Sequence[Choice]:
        return [choice for choice in ladder(self._factory, len(self._vectors)) if choice.effort <= DEEP]

    def search(self, queries: Vectors, k: int, setting: Choice, threads: int) -> Rows:
        faiss.omp_set_num_threads(threads)
        rows = self._rows[candidates(self._index, setting, queries, k)]
        return rescored(queries, rows, partial(self._vectors.take, axis=0), k)[1]

    def bytes(self) -> int:
        return size(self._index)

    def save(self, folder: Path) -> None:
        faiss.write_index(self._index, str(folder / "index"))
        np.save(folder / "rows.npy", self._rows[:-1])

    def load(self, folder: Path, vectors: Vectors) -> None:
        self._vectors, self._index = vectors, faiss.read_index(str(folder / "index"))
        self._rows = np.append(np.load(folder / "rows.npy"), -1)


def ours(count: int, dim: int) -> list[Method]:
    """Return exact search and the kinds that ``tune`` tries for ``count`` vectors of ``dim`` floats."""
    return [Exact(), *map(Ours, factories(count, dim))]


def bytes_under(folder: Path) -> int:
    """Return what all files under a folder take."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
