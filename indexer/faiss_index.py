"""An exact index over vectors with ids: the search of FAISS's IndexFlatIP, on memory that versions share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import faiss
import numpy as np
from numpy.typing import NDArray

from indexer.among import FEW, search_among
from indexer.buffer import Buffer, Ids
from indexer.filed import Filed, large
from indexer.vectors import SomeVectors, Vectors

__all__ = ["FaissIndex", "Ids"]

_FAISS: Any = faiss  # its type stubs know neither the selector's argument nor a call with one
# From so many queries on FAISS is to multiply matrices; fewer it takes one by one, which is faster for them: a lone one
# three times. Its own limit, 128,000, counts the floats of all queries, and let batches take up to nine times too long.
BATCHED = 4
WASTE_ROWS, WASTE_SHARE = 1024, 0.125  # dead rows in memory beyond both are worth a copy of the others
FILED_SHARE = 0.05  # of an index; when more than that come at once, and they are large, all of it goes into a file
PART = 1 << 20  # bytes of vectors copied at once

Parts = Iterable[tuple[Iterable[int], Vectors]]
"""Ids and their vectors ``(n, dim)``, piece by piece."""


class FaissIndex:
    """Unit vectors by id. Exact: the scores are the cosines with every vector in it.

    An index never changes: ``adding`` and ``without`` return another version, which shares the memory of this one and
    masks what it lacks. Any number of threads may use it. Of one that comes from a file, vectors stay there; they are
    checked when they are first asked for, and NoView is raised if they cannot be believed.
    """

    def __init__(
        self, dim: int, buffer: Buffer | None = None, *, count: int = 0, dead: NDArray[np.bool_] | None = None
    ) -> None:
        self.dim = dim
        self._buffer = Buffer(dim) if buffer is None else buffer
        self._count = count  # rows of the buffer that this version looks at
        self._dead = dead  # those among them that it lacks; None if it has all
        self._gone = 0 if dead is None else int(np.count_nonzero(dead))
        self._selector: Any = None
        if self._gone:
            self._bits = np.packbits(~self._mask, bitorder="little")  # the selector looks at this memory
            self._selector = _FAISS.IDSelectorBitmap(self._bits)
        self._order: tuple[Ids, Ids] | None = None  # ids, ascending, and their rows; made when first asked for

    @classmethod
    def of(cls, buffer: Buffer) -> Self:
        """Return the index of all that a buffer holds."""
        return cls(buffer.dim, buffer, count=buffer.used)

    def __len__(self) -> int:
        return self._count - self._gone

    @property
    def ids(self) -> Ids:
        """The ids in the order of their rows, ``(len,)``."""
        ids = self._buffer.ids[: self._count]
        return ids[~self._mask] if self._gone else ids

    @property
    def wasteful(self) -> bool:
        """Whether so much of the memory is masked that a copy of the rest is worth making; a file takes none."""
        gone = self._gone and int(np.count_nonzero(self._mask[self._buffer.filed :]))
        return gone > WASTE_ROWS and gone > WASTE_SHARE * (self._count - self._buffer.filed)

    def adding(self, ids: Iterable[int], vectors: Vectors) -> Self:
        """Return this index with vectors ``(n, dim)`` under new ids."""
        fresh = _as_ids(ids)
        if not len(fresh):
            return self
        buffer, start = self._buffer.extended(self._count, fresh, vectors)
        count, dead = start + len(fresh), None
        if self._gone or start > self._count:  # rows in between are another version's
            dead = np.zeros(count, bool)
            dead[: self._count] = self._mask
            dead[self._count : start] = True
        return type(self)(self.dim, buffer, count=count, dead=dead)

    def without(self, ids: Iterable[int]) -> Self:
        """Return this index without the vectors of these ids; ids that are not here are passed over."""
        unwanted = _as_ids(ids)
        going = np.isin(self._buffer.ids[: self._count], unwanted) if len(unwanted) else np.zeros(0, bool)
        if not going.any():
            return self
        return type(self)(self.dim, self._buffer, count=self._count, dead=going | self._mask)

    def tightened(self) -> Self:
        """Return this index in memory of its own, in which nothing is masked; what lies in a file stays there."""
        filed, living = self._buffer.filed, self._living()
        buffer = self._buffer.only(living[living >= filed])
        dead = np.zeros(buffer.used, bool)
        dead[:filed] = self._mask[:filed]
        return type(self)(self.dim, buffer, count=buffer.used, dead=dead)

    def filled(self, count: int, more: Callable[[], Parts], scratch: Path | None = None) -> Self:
        """Return this index with ``count`` more vectors, under new ids.

        If they are too many to be held in memory, all go into a file without a name in the folder ``scratch``; into
        memory nevertheless, if nobody may write there or the disk is full.
        """
        if scratch is not None and large(count, self.dim) and count > FILED_SHARE * len(self):
            with suppress(OSError):
                return self._written(more(), scratch)
        index = self
        for ids, vectors in more():
            index = index.adding(ids, vectors)
        return index

    def _written(self, more: Parts, scratch: Path) -> Self:
        ids = [self.ids]

        def parts() -> Iterator[Vectors]:
            yield from self.parts(max(1, PART // (4 * self.dim)))
            for fresh, vectors in more:
                ids.append(_as_ids(fresh))
                yield vectors

        filed = Filed.written(parts(), self.dim, scratch)
        return self.of(Buffer.of_file(self.dim, np.concatenate(ids), filed))

    def search(self, queries: Vectors, k: int) -> tuple[Vectors, Ids]:
        """Return the scores and ids, ``(n, min(k, len))`` each, of the nearest vectors, best first."""
        scores, rows = self.search_rows(queries, k)
        return scores, self.ids_at(rows)

    def search_rows(self, queries: Vectors, k: int) -> tuple[Vectors, Ids]:
        """Return what ``search`` does with rows in place of ids, for ``at`` and ``ids_at``."""
        queries, k = np.ascontiguousarray(queries, np.float32), min(k, len(self))
        if self._gone and len(queries) >= FEW:  # FAISS never multiplies matrices where rows are masked
            return self.search_among(self._living(), queries, k)
        scores, rows = np.empty((len(queries), k), np.float32), np.empty((len(queries), k), np.int64)
        if scores.size:
            sizes = (self.dim, len(queries), self._count, k)
            memory = [faiss.swig_ptr(array) for array in (queries, self._buffer.vectors, scores, rows)]
            _FAISS.cvar.distance_compute_blas_threshold = BATCHED * self.dim  # of the process: other dims, other limits
            _FAISS.knn_inner_product(*memory[:2], *sizes, *memory[2:], self._selector)
        return scores, rows

    def search_among(self, rows: Ids, queries: Vectors, k: int) -> tuple[Vectors, Ids]:
        """Return what ``search_rows`` does, of these rows of this version only; ascending, they are found fastest."""
        return search_among(self._buffer.holding(rows), rows, queries, k)

    def pairs(self, queries: Vectors, which: Ids, rows: Ids) -> Vectors:
        """Return the scores, ``(n,)``, of query ``which[i]`` with the vector in row ``rows[i]``; copies none."""
        queries, scores = np.ascontiguousarray(queries, np.float32), np.empty(len(rows), np.float32)
        vectors = self._buffer.holding(rows)
        memory = [faiss.swig_ptr(array) for array in (queries, which, vectors, rows, scores)]
        _FAISS.pairwise_indexed_inner_product(self.dim, len(rows), *memory)
        return scores

    def at(self, rows: Ids) -> Vectors:
        """Return copies, ``(n, dim)``, of the vectors in these rows."""
        return self._buffer.holding(rows).take(rows, axis=0)  # a third faster than indexing with them

    def ids_at(self, rows: Ids) -> Ids:
        """Return the ids of these rows."""
        return self._buffer.ids[rows]

    def rows(self, ids: Iterable[int]) -> Ids:
        """Return the rows of these ids, in this order; KeyError for one not here."""
        return self._rows(_as_ids(ids))

    def vectors(self, ids: Iterable[int]) -> Vectors:
        """Return copies, ``(n, dim)``, of the vectors of these ids, in this order; KeyError for one not here."""
        return self.at(self.rows(ids))

    def all_vectors(self) -> Vectors:
        """Return all vectors ``(len, dim)``, by the order of ``ids``: where nothing is masked the memory itself."""
        return self.at(self._living()) if self._gone else self._buffer.vectors[: self._count]

    def laid_out(self) -> SomeVectors:
        """Return all vectors, by the order of ``ids``, of which parts are copied when they are asked for."""
        return _Living(self, self._living()) if self._gone else self.all_vectors()

    def parts(self, size: int) -> Iterable[Vectors]:
        """Yield all vectors, by the order of ``ids``, at most ``size`` at a time."""
        rows = self._living()
        for start in range(0, len(rows), size):
            yield self.at(rows[start : start + size])

    @property
    def _mask(self) -> NDArray[np.bool_]:
        return np.zeros(self._count, bool) if self._dead is None else self._dead

    def _living(self) -> Ids:
        return np.flatnonzero(~self._mask)

    def _rows(self, ids: Ids) -> Ids:
        if self._order is None:
            living = self._living()
            order = np.argsort(self._buffer.ids[living], kind="stable")
            self._order = self._buffer.ids[living[order]], living[order]
        known, rows = self._order
        places = np.minimum(np.searchsorted(known, ids), len(known) - 1)
        if len(ids) and (not len(known) or not np.array_equal(known[places], ids)):
            raise KeyError("an id that is not in the index")
        return rows[places]


class _Living:
    """Some rows of an index, as if they were an array."""

    def __init__(self, index: FaissIndex, rows: Ids) -> None:
        self._index, self._rows = index, rows
        self.shape = len(rows), index.dim

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, some: Any) -> Vectors:
        return self._index.at(self._rows[some])


def _as_ids(ids: Iterable[int]) -> Ids:
    return np.asarray(ids if isinstance(ids, np.ndarray) else list(ids), dtype=np.int64)
