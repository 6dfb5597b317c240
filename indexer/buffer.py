"""Vectors with ids, in rows that are appended and never changed: the versions of an index share them."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from indexer.vectors import Vectors

Ids = NDArray[np.int64]
Fill = Callable[[int, memoryview], None]
"""A block's number and the memory of its rows, into which it is read; may raise what it likes."""


class Unread:
    """The first rows of a memory of vectors, as far as they are still where they come from: blocks of ``each`` rows."""

    def __init__(self, vectors: Vectors, each: int, fill: Fill) -> None:
        self._vectors, self._each, self._fill = vectors, each, fill
        self._waiting = np.ones(-(-len(vectors) // each), bool)
        self._reading = threading.Lock()

    def read(self, rows: Ids | None = None) -> bool:
        """Read the blocks of these rows, or all; return whether any still wait."""
        blocks = np.flatnonzero(self._waiting) if rows is None else rows[rows < len(self._vectors)] // self._each
        if len(blocks) and self._waiting[blocks].any():
            with self._reading:
                for block in np.unique(blocks[self._waiting[blocks]]).tolist():
                    part = self._vectors[block * self._each : (block + 1) * self._each]
                    self._fill(block, part.data.cast("B"))
                    self._waiting[block] = False  # now, not before: what has failed is tried again
        return bool(self._waiting.any())


class Buffer:
    """Memory for vectors ``(room, dim)`` and their ids ``(room,)``, of which the first ``used`` rows are written.

    A version of an index looks at some of the first rows. It may be read while another thread appends, for that writes
    behind what any version looks at. The first rows may be read only when they are asked for.
    """

    def __init__(self, dim: int, room: int = 0) -> None:
        self._vectors: Vectors = np.empty((room, dim), np.float32)  # room costs no memory before it is written
        self.ids: Ids = np.empty(room, np.int64)
        self.used = 0
        self._appending = threading.Lock()
        self._unread: Unread | None = None

    @classmethod
    def lazy(cls, dim: int, ids: Ids, *, each: int, fill: Fill) -> Buffer:
        """Return a buffer with some room whose vectors are read when asked for, in blocks of ``each`` rows."""
        buffer = cls(dim, roomy(len(ids)))
        buffer.ids[: len(ids)] = ids
        buffer.used = len(ids)
        if len(ids):
            buffer._unread = Unread(buffer._vectors[: len(ids)], each, fill)
        return buffer

    @property
    def vectors(self) -> Vectors:
        """The memory, ``(room, dim)``, all rows of which have been read."""
        return self.holding(None)

    def holding(self, rows: Ids | None) -> Vectors:
        """Return the memory, ``(room, dim)``, in which these rows have been read; all of them if None."""
        if self._unread is not None and not self._unread.read(rows):
            self._unread = None
        return self._vectors

    def extended(self, count: int, ids: Ids, vectors: Vectors) -> tuple[Buffer, int]:
        """Return a buffer with the first ``count`` rows of this one and somewhere behind these; and the first of these.

        It is this one unless that is full, even if another version has appended to it; else a copy with some room.
        """
        with self._appending:
            target, start = self, self.used
            if start + len(ids) > len(self.ids):
                target, start = self._copied(count, count + len(ids)), count
            end = start + len(ids)
            target._vectors[start:end] = vectors
            target.ids[start:end] = ids
            target.used = end
            return target, start

    def only(self, rows: Ids) -> Buffer:
        """Return a copy of these rows, with some room."""
        copy = Buffer(self._vectors.shape[1], roomy(len(rows)))
        # Checked, "take" would copy twice.
        np.take(self.holding(rows), rows, axis=0, out=copy._vectors[: len(rows)], mode="clip")
        copy.ids[: len(rows)] = self.ids[rows]
        copy.used = len(rows)
        return copy

    def _copied(self, count: int, need: int) -> Buffer:
        copy = Buffer(self._vectors.shape[1], roomy(need))
        copy._vectors[:count] = self.vectors[:count]
        copy.ids[:count] = self.ids[:count]
        return copy


def roomy(count: int) -> int:
    """Return for how many rows to make room when there are ``count``: growing copies all but a few times."""
    return count + count // 4 + 64
