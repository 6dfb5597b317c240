"""Vectors with ids, in rows that are appended and never changed: the versions of an index share them."""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

from indexer.vectors import Vectors

Ids = NDArray[np.int64]


class Buffer:
    """Memory for vectors ``(room, dim)`` and their ids ``(room,)``, of which the first ``used`` rows are written.

    A version of an index looks at some of the first rows. It may be read while another thread appends, for that writes
    behind what any version looks at.
    """

    def __init__(self, dim: int, room: int = 0) -> None:
        self.vectors: Vectors = np.empty((room, dim), np.float32)  # room costs no memory before it is written
        self.ids: Ids = np.empty(room, np.int64)
        self.used = 0
        self._appending = threading.Lock()

    def extended(self, count: int, ids: Ids, vectors: Vectors) -> tuple[Buffer, int]:
        """Return a buffer with the first ``count`` rows of this one and somewhere behind these; and the first of these.

        It is this one unless that is full, even if another version has appended to it; else a copy with some room.
        """
        with self._appending:
            target, start = self, self.used
            if start + len(ids) > len(self.ids):
                target, start = self._copied(count, count + len(ids)), count
            end = start + len(ids)
            target.vectors[start:end] = vectors
            target.ids[start:end] = ids
            target.used = end
            return target, start

    def only(self, rows: Ids) -> Buffer:
        """Return a copy of these rows, with some room."""
        copy = Buffer(self.vectors.shape[1], roomy(len(rows)))
        np.take(self.vectors, rows, axis=0, out=copy.vectors[: len(rows)], mode="clip")  # checked, it would copy twice
        copy.ids[: len(rows)] = self.ids[rows]
        copy.used = len(rows)
        return copy

    def _copied(self, count: int, need: int) -> Buffer:
        copy = Buffer(self.vectors.shape[1], roomy(need))
        copy.vectors[:count] = self.vectors[:count]
        copy.ids[:count] = self.ids[:count]
        return copy


def roomy(count: int) -> int:
    """Return for how many rows to make room when there are ``count``: growing copies all but a few times."""
    return count + count // 4 + 64
