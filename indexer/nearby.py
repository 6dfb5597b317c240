"""The nearest vectors by an approximate index that others are beside, as they have come and gone since it was built.

What has come is searched exactly, what has gone is masked. The exact index scores all that is found, and answers itself
where the approximate one promises nothing: for more neighbours than were measured, for a query unlike all that were,
and where too few were found.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np

from indexer.approximate import Choice, candidates, rescored
from indexer.faiss_index import FaissIndex, Ids
from indexer.reader import Stamp
from indexer.trials import Promise
from indexer.vectors import Vectors

_FAISS: Any = faiss  # its type stubs lack what Python adds
WORN_SHARE = 0.1  # of what an index was built on; when as much has come or gone, it is time for another


@dataclass(frozen=True, slots=True)
class Base:
    """An approximate index, which never changes.

    Attributes:
        choice: its kind and setting.
        index: of FAISS.
        ids: of its rows.
        stamp: the revision whose vectors it has.
        promise: what it keeps.
        floor: the lowest score that the nearest neighbour of a measured query had.
    """

    choice: Choice
    index: Any
    ids: Ids
    stamp: Stamp
    promise: Promise
    floor: float


class Nearby:
    """A base as it shows the vectors of one exact index; neither ever changes.

    ``moved`` are ids whose vectors are others than the base's, as a class's prototype is once a reference has come.
    """

    def __init__(self, base: Base, exact: FaissIndex, moved: Collection[int] = ()) -> None:
        self.base, self.exact = base, exact
        ids = exact.ids
        living = np.isin(base.ids, ids)
        if moved:
            living &= ~np.isin(base.ids, list(moved))
        self._ids = np.append(base.ids, -1)  # -1, which FAISS says where it has none, stays -1
        self._came = ids[~np.isin(ids, base.ids[living])]
        self._vectors = exact.vectors(self._came)
        self._changed = len(self._came) + int(np.count_nonzero(~living))
        self._selector: Any = None
        if not living.all():
            self._bits = np.packbits(living, bitorder="little")  # the selector looks at this memory
            self._selector = _FAISS.IDSelectorBitmap(self._bits)

    @property
    def worn(self) -> bool:
        """Whether so much has come and gone that another base is worth its building."""
        return self._changed > WORN_SHARE * len(self.base.ids)

    def serves(self, k: int) -> bool:
        """Return whether the promise is about so many neighbours: one more than asked for shows a tie at the border."""
        return k <= self.base.promise.k + 1

    def search_rows(self, queries: Vectors, k: int) -> tuple[Vectors, Ids]:
        """Return what the exact index's ``search_rows`` does, but for neighbours that the approximate one misses."""
        k = min(k, len(self.exact))
        if not k or not len(queries) or not self.serves(k):
            return self.exact.search_rows(queries, k)
        ids = np.concatenate([self._from_base(queries, k), self._from_came(queries, k)], axis=1)
        rows: Ids = np.full(ids.shape, -1)
        rows[ids >= 0] = self.exact.rows(ids[ids >= 0])
        scores, rows = rescored(queries, rows, self.exact.at, k)
        if rows.shape[1] < k:  # hardly anything is left of the base
            return self.exact.search_rows(queries, k)
        unsure = (scores[:, 0] < self.base.floor) | (rows[:, -1] < 0)
        if unsure.any():
            scores[unsure], rows[unsure] = self.exact.search_rows(queries[unsure], k)
        return scores, rows

    def _from_base(self, queries: Vectors, k: int) -> Ids:
        return self._ids[candidates(self.base.index, self.base.choice, queries, k, self._selector)]

    def _from_came(self, queries: Vectors, k: int) -> Ids:
        if not len(self._came):
            return np.empty((len(queries), 0), np.int64)
        _, rows = _FAISS.knn(queries, self._vectors, min(k, len(self._came)), metric=faiss.METRIC_INNER_PRODUCT)
        return self._came[rows]
