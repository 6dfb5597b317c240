"""An exact index over vectors with ids: FAISS, flat, inner product."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from indexer.vectors import Vectors

Ids = NDArray[np.int64]


class FaissIndex:
    """Unit vectors by id. Exact: the scores are the cosines with every vector in it."""

    def __init__(self, dim: int, *, flat: Any = None, ids: Ids | None = None) -> None:
        self.dim = dim
        self.flat = faiss.IndexFlatIP(dim) if flat is None else flat
        self._ids = [np.empty(0, np.int64) if ids is None else ids]  # parts, joined when they are asked for
        # Made when first asked for, and dropped at every change, for then FAISS moves its memory:
        self._order: Ids | None = None  # the rows by ascending id
        self._array: Vectors | None = None  # its memory, as (len, dim)

    def __len__(self) -> int:
        return self.flat.ntotal

    @property
    def ids(self) -> Ids:
        """The ids in the order of the rows, ``(len,)``."""
        if len(self._ids) > 1:
            self._ids = [np.concatenate(self._ids)]
        return self._ids[0]

    def reserve(self, count: int) -> None:
        """Make room for ``count`` vectors in all, so that growing to that many copies nothing."""
        if count > len(self):
            self._changed()
            used = self.flat.codes.size()
            self.flat.codes.resize(count * self.dim * 4)
            self.flat.codes.resize(used)

    def add(self, ids: Iterable[int], vectors: Vectors) -> None:
        """Add vectors ``(n, dim)`` under new ids."""
        self._changed()
        self.flat.add(np.ascontiguousarray(vectors, np.float32))
        self._ids.append(_as_ids(ids))

    def remove(self, ids: Iterable[int]) -> None:
        """Remove the vectors of these ids; ids that are not here are passed over."""
        rows = np.flatnonzero(np.isin(self.ids, _as_ids(ids)))
        if len(rows):
            self._changed()
            self.flat.remove_ids(faiss.IDSelectorBatch(rows))
            self._ids = [np.delete(self.ids, rows)]

    def search(self, queries: Vectors, k: int) -> tuple[Vectors, Ids]:
        """Return the scores and ids, ``(n, min(k, len))`` each, of the nearest vectors, best first."""
        scores, rows = self.search_rows(queries, k)
        return scores, self.ids[rows]

    def vectors(self, ids: Iterable[int]) -> Vectors:
        """Return copies, ``(n, dim)``, of the vectors of these ids, in this order."""
        return self.at(self._rows(_as_ids(ids)))

    def search_rows(self, queries: Vectors, k: int) -> tuple[Vectors, Ids]:
        """Return what ``search`` does with rows in place of ids; they are good until the next change."""
        k = min(k, len(self))
        if not k or not len(queries):
            return np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
        return self.flat.search(queries, k)

    def at(self, rows: Ids) -> Vectors:
        """Return copies, ``(n, dim)``, of the vectors in these rows."""
        if self._array is None:
            size = len(self) * self.dim
            memory = faiss.rev_swig_ptr(self.flat.get_xb(), size) if size else np.empty(0, np.float32)
            self._array = memory.reshape(-1, self.dim)
        return self._array[rows]

    def _changed(self) -> None:
        self._order = self._array = None

    def _rows(self, ids: Ids) -> Ids:
        if self._order is None:
            self._order = np.argsort(self.ids, kind="stable")
        places = np.searchsorted(self.ids, ids, sorter=self._order)
        rows = self._order[np.minimum(places, len(self) - 1)] if len(self) else places
        if len(ids) and (not len(self) or not np.array_equal(self.ids[rows], ids)):
            raise KeyError("an id that is not in the index")
        return rows


def _as_ids(ids: Iterable[int]) -> Ids:
    return np.asarray(ids if isinstance(ids, np.ndarray) else list(ids), dtype=np.int64)
