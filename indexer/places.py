"""Where reference images come from, behind one small interface: it lists them, and opens one."""

from __future__ import annotations

import os
import stat
from typing import NamedTuple, Protocol, runtime_checkable

from indexer import images, sources
from indexer.sources import Listing

LARGEST = 2**63 - 1  # that SQLite holds as an integer


class Stat(NamedTuple):
    """What tells at a glance that a file is the one it was."""

    size: int
    modified_ns: int
    inode: int


@runtime_checkable
class Source(Protocol):
    """A place with images of known class."""

    @property
    def root(self) -> str:
        """What the catalog calls the place; ``os.path.join(root, path)`` is what to show for one of its images."""
        ...

    def listing(self) -> Listing:
        """Return what the place holds, sorted by path; SourceError if it cannot be indexed as it is."""
        ...

    def stat(self, path: str) -> Stat | None:
        """Return what an image is like without opening it; None if that cannot be told, and it has to be read."""
        ...

    def read(self, path: str) -> bytes:
        """Return an image's bytes, in any thread; ImageError if it cannot be read."""
        ...


class Folder:
    """A folder of files, a class per sub-folder; ``class_depth`` levels of folders name a class."""

    def __init__(self, root: str | os.PathLike[str], *, class_depth: int = 1) -> None:
        self.root = os.path.abspath(root) if os.fspath(root) else ""  # noqa: PTH100 - as sources.find has it
        self.class_depth = class_depth

    def listing(self) -> Listing:
        """Return what ``sources.find`` finds."""
        return sources.find(self.root, class_depth=self.class_depth)

    def stat(self, path: str) -> Stat | None:
        """Return size, time and inode of a file; links are followed."""
        return file_stat(f"{self.root}/{path}")

    def read(self, path: str) -> bytes:
        """Return a file's bytes."""
        return images.read(f"{self.root}/{path}")


def is_there(root: str, path: str) -> bool:
    """Tell whether an image is still where it was, as far as looking at a disk tells; elsewhere it is taken to be."""
    if os.path.lexists(os.path.join(root, path)):  # noqa: PTH118 (must not tidy)
        return True
    return "://" in root or (not os.path.isabs(path) and os.path.isfile(root))  # noqa: PTH113, PTH117


def file_stat(path: str) -> Stat | None:
    """Return size, time and inode of a regular file; None for all else, reading it will say why."""
    try:
        found = os.stat(path)  # noqa: PTH116 (100,000 times)
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(found.st_mode):
        return None
    return Stat(found.st_size, found.st_mtime_ns & LARGEST, found.st_ino & LARGEST)
