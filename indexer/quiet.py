"""Decoding without Pillow's remarks on odd metadata."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, cast


class _Decoding(threading.local):
    """Matches Pillow's modules while this thread decodes: a filter that no other thread, and no other code, feels."""

    active = False

    def match(self, module: str) -> bool:
        return self.active and module.startswith("PIL.")


_DECODING: Final = _Decoding()
# What `warnings` keeps for a filter: action, message, category, module (anything with a match method), line.
_FILTER: Final = ("ignore", None, Warning, _DECODING, 0)


@contextmanager
def quietly() -> Iterator[None]:
    """Silence Pillow's warnings in this thread. `warnings.catch_warnings` would swap the filters of all threads."""
    filters = cast("list[Any]", warnings.filters)
    if not filters or filters[0] is not _FILTER:
        filters.insert(0, _FILTER)
    _DECODING.active = True
    try:
        yield
    finally:
        _DECODING.active = False
