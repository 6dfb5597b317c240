"""Images behind a URL that fsspec opens (``s3://``, ``gs://``, ``memory://``, ...), a class per folder."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from importlib import import_module
from typing import Any

from indexer.errors import ImageError, SourceError
from indexer.images import MAX_BYTES
from indexer.places import LARGEST, Stat
from indexer.printable import printable
from indexer.sources import Listing, check_depth
from indexer.sources_tree import listed

_MODIFIED = ("mtime", "LastModified", "last_modified", "modified", "updated")  # what kinds of storage call it


class Remote:
    """The files below a URL; they are read when they are indexed, and copied nowhere."""

    def __init__(self, root: str, *, class_depth: int = 1) -> None:
        check_depth(class_depth)
        self.root = root.rstrip("/")
        self.class_depth = class_depth
        try:
            fsspec = import_module("fsspec")
        except ImportError as error:
            raise SourceError(
                f"{printable(root)}: reading URLs needs fsspec: pip install 'firstsight[remote]', or copy the folder"
            ) from error
        self._system, self._top = self._asked(lambda: fsspec.core.url_to_fs(self.root))
        self._stats: dict[str, Stat | None] = {}

    def listing(self) -> Listing:
        """Return the files with their classes; sizes and dates come with them."""
        found = self._asked(lambda: self._system.find(self._top, detail=True))
        start = len(self._top.rstrip("/")) + 1
        self._stats = {path[start:]: _stat(facts) for path, facts in found.items()}
        return listed(self.root, self._stats, class_depth=self.class_depth)

    def stat(self, path: str) -> Stat | None:
        """Return what the listing told of a file: where it tells no date, the file has to be read."""
        return self._stats.get(path)

    def read(self, path: str) -> bytes:
        """Return a file's bytes."""
        try:
            with self._system.open(f"{self._top.rstrip('/')}/{path}", "rb") as file:
                data: bytes = file.read(MAX_BYTES + 1)
        except Exception as error:  # each kind of storage has its own
            raise ImageError(printable(path), f"cannot be read: {_why(error)}") from error
        if len(data) > MAX_BYTES:
            raise ImageError(printable(path), f"is larger than {MAX_BYTES // 2**20} MiB")
        if not data:
            raise ImageError(printable(path), "is empty")
        return data

    def _asked(self, question: Callable[[], Any]) -> Any:
        try:
            return question()
        except Exception as error:  # each kind of storage has its own
            raise SourceError(f"{printable(self.root)}: cannot be read ({_why(error)}); check the URL") from error


def _stat(facts: dict[str, Any]) -> Stat | None:
    size = facts.get("size")
    modified = next((facts[key] for key in _MODIFIED if facts.get(key) is not None), None)
    if isinstance(modified, datetime):
        modified = modified.timestamp()
    if not isinstance(size, int) or not isinstance(modified, int | float):
        return None
    return Stat(size, int(modified * 1e9) & LARGEST, int(facts.get("ino") or 0) & LARGEST)


def _why(error: Exception) -> str:
    lines = (getattr(error, "strerror", None) or str(error) or type(error).__name__).splitlines()
    return printable(lines[0]).lower()
