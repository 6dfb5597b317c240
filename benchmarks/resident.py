"""How much memory this process has, and of which kind: what Linux says in /proc."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path


def status(what: str) -> int:
    """Return bytes that /proc/self/status speaks of."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith(what + ":")))


class Peak:
    """The most anonymous memory that this process has had, in bytes."""

    def __init__(self) -> None:
        self.bytes = status("RssAnon")
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while True:
            self.bytes = max(self.bytes, status("RssAnon"))
            time.sleep(0.01)


def drop_pages(path: Path) -> None:
    """Let the system forget what it has read of a file."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def pages_of(path: Path) -> dict[str, int]:
    """Return bytes of memory, Rss and Pss, that this process has of a file."""
    found, inside = {"Rss": 0, "Pss": 0}, False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        name, *rest = line.split()
        if not name.endswith(":"):
            inside = line.rstrip().endswith(str(path))
        elif inside and name[:-1] in found:
            found[name[:-1]] += 1024 * int(rest[0])
    return found
