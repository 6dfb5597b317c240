"""Vectors that lie in a file, as one array with memory behind them for those that come.

FAISS looks at one array. So the pages of the file are put where its first rows are to be, and memory directly behind
them. What lies in the file costs no memory of the process: the system reads a page when somebody looks at it, lets go
of it when memory is short, and has it once for all processes that look at the same file.

Nobody may write to such a file, or cut it: others would be found in it than were checked, and who looks at what is gone
is ended by the system (SIGBUS). So views are replaced by renaming, which leaves the file that was there to those who
have it open, and what is written for one process alone has no name. Somebody else may all the same: so the file's size
and time are compared whenever something is asked for. What is cut within a query's time is not noticed.

Memory is faster (its pages are larger) and safe from that; so only what is large lies in files.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import tempfile
import weakref
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from indexer.sealed import NoView
from indexer.vectors import Vectors

LARGE = 1 << 27  # bytes; vectors that take more lie in files
ALIGNED = 64  # bytes: where the vectors begin in a file, a multiple of it; FAISS and BLAS are fastest then
_FIXED = 0x10  # MAP_FIXED of Linux and macOS, for which Python has no name
_UNCOUNTED = getattr(mmap, "MAP_NORESERVE", 0)  # room is not memory before it is written
_WRITABLE = mmap.PROT_READ | mmap.PROT_WRITE
_FAILED = ctypes.c_void_p(-1).value

_mmap = ctypes.CDLL(None, use_errno=True).mmap
_mmap.restype = ctypes.c_void_p
_mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)


def large(count: int, dim: int) -> bool:
    """Return whether so many vectors are to lie in a file."""
    return 4 * dim * count > LARGE


class Filed:
    """Where vectors ``(count, dim)`` lie: in a file, from a byte on, little-endian float32 one after the other."""

    def __init__(self, file: int, start: int, count: int, dim: int) -> None:
        """Take part in the open file of a descriptor; ``start`` is a multiple of 4. OSError if that cannot be."""
        self._file, self._start, self.count, self._dim = os.dup(file), start, count, dim
        weakref.finalize(self, os.close, self._file)
        self._state = self._now()

    @classmethod
    def written(cls, parts: Iterable[Vectors], dim: int, folder: Path) -> Filed:
        """Write vectors to a file without a name in ``folder``; OSError if the disk is full or may not be written."""
        count = 0
        with tempfile.TemporaryFile(dir=folder) as file:
            for vectors in parts:
                file.write(np.ascontiguousarray(vectors, "<f4").data)
                count += len(vectors)
            file.flush()
            return cls(file.fileno(), 0, count, dim)

    def check(self) -> None:
        """Raise NoView if somebody has written to the file, or cut it, since this was made."""
        if self._now() != self._state:
            raise NoView("was written to by another program")

    def _now(self) -> tuple[int, int]:
        found = os.fstat(self._file)
        return found.st_size, found.st_mtime_ns

    def memory(self, room: int) -> Vectors:
        """Return an array ``(count + room, dim)`` that begins with the vectors, which must not be written to.

        Raises:
            OSError: the file cannot be mapped, or there is no room.
        """
        return np.asarray(_Mapped(self._file, self._start, (self.count, room), self._dim))


class _Mapped:
    """Pages of a file and memory behind them, as long as an array looks at them."""

    def __init__(self, file: int, start: int, counts: tuple[int, int], dim: int) -> None:
        end = start + 4 * dim * counts[0]
        whole = end // mmap.PAGESIZE * mmap.PAGESIZE  # up to here pages hold nothing but what is in the file
        size = max(end + 4 * dim * counts[1], whole + mmap.PAGESIZE)
        # The addresses, which nobody else gets then; given back all together, with what lies at them.
        self._held = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ)
        first = np.frombuffer(self._held, np.uint8).ctypes.data
        behind = whole + mmap.PAGESIZE
        _place(first, whole, mmap.PROT_READ, file, 0)
        _place(first + whole, mmap.PAGESIZE, _WRITABLE, file, whole)  # a copy, once something is written behind the end
        _place(first + behind, size - behind, _WRITABLE, -1, 0)
        self.__array_interface__ = {
            "version": 3,
            "typestr": "<f4",
            "shape": (sum(counts), dim),
            "data": (first + start, False),
        }


def _place(address: int, size: int, access: int, file: int, start: int) -> None:
    """Put a file's bytes from ``start`` on at addresses that are held; memory, if there is no file."""
    kind = mmap.MAP_PRIVATE | _FIXED | (_UNCOUNTED | mmap.MAP_ANONYMOUS if file < 0 else 0)
    if size and _mmap(address, size, access, kind, file, start) == _FAILED:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
