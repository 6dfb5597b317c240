"""Vectors with ids, in rows that are appended and never changed: the versions of an index share them."""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from indexer.filed import Filed
from indexer.vectors import Vectors

Ids = NDArray[np.int64]
Check = Callable[[int], None]
"""A block's number; raises what it likes unless the block is as it was written."""
Fill = Callable[[int, memoryview], None]
"""The same, and the memory of the block's rows, into which it is read."""


class Unchecked:
    """The rows that come from a file, as far as nobody has looked at them yet: blocks of ``each`` rows."""

    def __init__(self, count: int, each: int, check: Check) -> None:
        self._count, self._each, self._check = count, each, check
        self._waiting = np.ones(-(-count // each), bool)
        self._checking = threading.Lock()

    def check(self, rows: Ids | None = None) -> bool:
        """Check the blocks of these rows, or all; return whether any still wait."""
        blocks = np.flatnonzero(self._waiting) if rows is None else rows[rows < self._count] // self._each
        if len(blocks) and self._waiting[blocks].any():
            with self._checking:
                for block in np.unique(blocks[self._waiting[blocks]]).tolist():
                    self._check(block)
                    self._waiting[block] = False  # now, not before: what has failed is tried again
        return bool(self._waiting.any())


class Buffer:
    """Memory for vectors ``(room, dim)`` and their ids ``(room,)``, of which the first ``used`` rows are written.

    A version of an index looks at some of the first rows. It may be read while another thread appends, for that writes
    behind what any version looks at. The first rows may lie in a file, or be read from one when they are asked for.
    """

    def __init__(self, dim: int, room: int = 0, filed: Filed | None = None) -> None:
        """Make ``room`` for rows, behind those that are filed; that costs no memory before it is written."""
        self.dim, self._filed = dim, filed
        self._vectors: Vectors = np.empty((room, dim), np.float32) if filed is None else filed.memory(room)
        self.ids: Ids = np.empty(len(self._vectors), np.int64)
        self.used = 0
        self._appending = threading.Lock()
        self._unchecked: Unchecked | None = None

    @classmethod
    def lazy(cls, dim: int, ids: Ids, *, each: int, fill: Fill) -> Buffer:
        """Return a buffer with some room whose vectors are read when asked for, in blocks of ``each`` rows."""
        buffer = cls(dim, roomy(len(ids)))
        vectors = buffer._vectors[: len(ids)]

        def check(block: int) -> None:
            fill(block, vectors[block * each : (block + 1) * each].data.cast("B"))

        return buffer._holding(ids, each, check)

    @classmethod
    def of_file(cls, dim: int, ids: Ids, filed: Filed, *, each: int = 1, check: Check | None = None) -> Buffer:
        """Return a buffer, with some room, of vectors in a file: checked when asked for, in blocks of ``each`` rows.

        Without ``check`` they are believed. OSError if the file cannot be mapped.
        """
        return cls(dim, room_behind(len(ids)), filed)._holding(ids, each, check)

    def _holding(self, ids: Ids, each: int, check: Check | None) -> Buffer:
        self.ids[: len(ids)] = ids
        self.used = len(ids)
        if check is not None and len(ids):
            self._unchecked = Unchecked(len(ids), each, check)
        return self

    @property
    def filed(self) -> int:
        """How many of the first rows lie in a file."""
        return 0 if self._filed is None else self._filed.count

    @property
    def vectors(self) -> Vectors:
        """The memory, ``(room, dim)``, all rows of which have been checked."""
        return self.holding(None)

    def holding(self, rows: Ids | None) -> Vectors:
        """Return the memory, ``(room, dim)``, in which these rows have been checked; all of them if None."""
        if self._filed is not None:
            self._filed.check()
        if self._unchecked is not None and not self._unchecked.check(rows):
            self._unchecked = None
        return self._vectors

    def extended(self, count: int, ids: Ids, vectors: Vectors) -> tuple[Buffer, int]:
        """Return a buffer with the first ``count`` rows of this one and somewhere behind these; and the first of these.

        It is this one unless that is full, even if another version has appended to it; else a copy with some room.
        """
        with self._appending:
            target, start = self, self.used
            if start + len(ids) > len(self.ids):
                target, start = self._copied(np.arange(self.filed, count), len(ids)), count
            end = start + len(ids)
            target._vectors[start:end] = vectors
            target.ids[start:end] = ids
            target.used = end
            return target, start

    def only(self, rows: Ids) -> Buffer:
        """Return a copy with those in the file and, of the others, these rows behind them; with some room."""
        return self._copied(rows, 0)

    def _copied(self, rows: Ids, more: int) -> Buffer:
        """What lies in the file is not copied: it is there once, however many look at it."""
        copy, start = Buffer(self.dim, roomy(len(rows) + more), self._filed), self.filed
        copy.used = start + len(rows)
        # Checked, "take" would copy twice.
        np.take(self.holding(rows), rows, axis=0, out=copy._vectors[start : copy.used], mode="clip")
        copy.ids[:start] = self.ids[:start]
        copy.ids[start : copy.used] = self.ids[rows]
        copy._unchecked = self._unchecked if self._filed is not None else None
        return copy


def roomy(count: int) -> int:
    """Return for how many rows to make room when there are ``count``: growing copies all but a few times."""
    return count + count // 4 + 64


def room_behind(count: int) -> int:
    """Return for how many rows to make room behind ``count`` in a file: to grow, that is not copied."""
    return count // 64 + 64
