"""How much memory bulk work may take: pictures wait until there is room for them, batches are made to fit."""

from __future__ import annotations

import ctypes
import gc
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from indexer.errors import ArgumentError

MEMORY: Final = "1.5GB"
LEAST: Final = 64 * 10**6  # bytes for pictures, and as many for the network, even where the process holds more already

_TOLD: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([KMG]I?|)B?\s*")
_UNITS: Final = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 2**10, "MI": 2**20, "GI": 2**30}


def in_bytes(memory: int | str) -> int:
    """Return a number of bytes, given as one or as text: 1500000000, "1.5GB", "800MiB".

    Raises:
        ArgumentError: it is none, or less than one.
    """
    if isinstance(memory, int) and not isinstance(memory, bool):
        count = memory
    else:
        told = _TOLD.fullmatch(memory.upper()) if isinstance(memory, str) else None
        if told is None:
            raise ArgumentError(f"memory is {memory!r}; give a number of bytes, or one as in 1.5GB or 800MB")
        count = int(float(told[1]) * _UNITS[told[2]])
    if count < 1:
        raise ArgumentError(f"memory is {memory!r}; it must be at least 1 byte")
    return count


def resident() -> int:
    """Return the bytes of memory that this process holds; on systems that do not tell, the most it has held."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        import resource  # noqa: PLC0415 (not on every system that has no /proc)

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def hand_back() -> None:
    """Give the system what this process no longer uses: circles of objects are kept else, and what is freed as well."""
    gc.collect()
    with suppress(OSError, AttributeError, TypeError):  # other libraries than GNU's have no such call
        ctypes.CDLL(None).malloc_trim(0)


class Room:
    """Memory for pictures on their way from file to pixels; whoever wants more than is left waits.

    What is larger than all of it has its turn when it is alone: a large image is slow, and not refused.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._taken = 0
        self._changed = threading.Condition()

    @contextmanager
    def place(self) -> Iterator[Place]:
        """Yield a place for one picture; what it takes is given back at the end."""
        place = Place(self)
        try:
            yield place
        finally:
            self._give_back(place.taken)

    def take(self, size: int) -> None:
        """Wait until there are so many bytes, or nobody else has any."""
        with self._changed:
            self._changed.wait_for(lambda: not self._taken or self._taken + size <= self.size)
            self._taken += size

    def _give_back(self, size: int) -> None:
        with self._changed:
            self._taken -= size
            self._changed.notify_all()


class Place:
    """The room that one picture takes."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self.taken = 0

    def take(self, size: int) -> None:
        """Take so many bytes, once; wait until they are there."""
        self._room.take(size)
        self.taken += size


def shared_out(memory: int | str, model: Any, batch_size: int) -> tuple[Room, int]:
    """Return the room for pictures, and how many images to embed at once: ``batch_size``, or as many as fit.

    Pictures and network get half each of what the process does not hold already. A model may say in ``working`` how
    many bytes an image takes while it is embedded; of one that does not, any batch fits.
    """
    hand_back()
    half = max(LEAST, (in_bytes(memory) - resident()) // 2)
    each = getattr(model, "working", 0)
    return Room(half), max(1, min(batch_size, half // each)) if each else batch_size
