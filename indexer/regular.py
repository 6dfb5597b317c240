"""Regular files, and nothing else: a fifo would let whoever reads it wait for ever, a device may act."""

from __future__ import annotations

import os
import stat
from io import BufferedReader


class NotRegular(OSError):
    """There is something else in the place of a file; the message says what."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.strerror = what


def opened(path: str | os.PathLike[str]) -> BufferedReader:
    """Open a regular file for reading.

    Raises:
        NotRegular: it is a folder, a fifo, a socket or a device, which is not opened.
        OSError: it cannot be opened.
    """
    check(os.stat(path))  # noqa: PTH116 - Path cannot hold a NUL, and says so less clearly
    # What stands there may be another thing by now: so without waiting, and looked at again.
    file = open(path, "rb", opener=_at_once)  # noqa: SIM115 - closed by whoever asked for it
    try:
        check(os.fstat(file.fileno()))
    except NotRegular:
        file.close()
        raise
    return file


def check(found: os.stat_result) -> None:
    """Raise NotRegular unless it is a regular file that was found."""
    if stat.S_ISDIR(found.st_mode):
        raise NotRegular("is a folder")
    if not stat.S_ISREG(found.st_mode):
        raise NotRegular("is not a regular file")


def _at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
