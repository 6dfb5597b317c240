"""The views of a gallery that is open: kept in memory, kept fresh, saved when it is worth it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from indexer import folder
from indexer.catalog import Catalog
from indexer.errors import GalleryError
from indexer.lock import WriterLock
from indexer.snapshot import Snapshot

# A view on disk that is behind is caught up from the catalog when it is loaded. Writing it anew costs as much as
# copying it, so it is left behind until that has become the smaller cost.
SAVE_ROWS, SAVE_SHARE = 1000, 0.05  # both exceeded: saved at once
CLOSE_SHARE = 0.01  # exceeded: saved at close


class Views:
    """The snapshot that queries see. One thread at a time looks at it."""

    def __init__(self, catalog: Catalog, path: Path) -> None:
        self._catalog = catalog
        self._path = path
        self._saving = WriterLock(path / folder.VIEWS_LOCK)  # its own: a reader that saves keeps no writer waiting
        self._lock = threading.RLock()
        self._snapshot: Snapshot | None = None
        self._seen = -1  # the catalog's version when the snapshot was last compared with it

    @contextmanager
    def fresh(self) -> Iterator[Snapshot]:
        """Hold the snapshot of the newest revision; it does not change meanwhile."""
        with self._lock:
            version = self._catalog.version()
            if self._snapshot is None or version != self._seen:
                snapshot = self._renewed()
                self._seen = version  # read before the renewal: a commit in between shows as another version
            else:
                snapshot = self._snapshot
            yield snapshot

    @contextmanager
    def as_they_are(self) -> Iterator[Snapshot | None]:
        """Hold the snapshot without renewing it; None if there is none yet."""
        with self._lock:
            yield self._snapshot

    def save(self) -> None:
        """Write the newest views to disk, unless they are there."""
        with self.fresh():
            self._save(rows=0, share=0.0)

    def close(self) -> None:
        """Write the views if that is worth it, and let go of them."""
        with self._lock:
            if self._snapshot is not None and self._catalog.version() == self._seen:  # else newer ones may be there
                self._save(rows=0, share=CLOSE_SHARE)
            self._snapshot = None

    def _renewed(self) -> Snapshot:
        # Whatever interrupts a renewal leaves no half-renewed snapshot: the next query loads a new one.
        snapshot, self._snapshot = self._snapshot, None
        with self._catalog.reading() as reader:
            if snapshot is None or not snapshot.catch_up(reader):
                snapshot = Snapshot.load(self._catalog, reader, self._path)
        self._snapshot = snapshot
        self._save(rows=SAVE_ROWS, share=SAVE_SHARE)
        return snapshot

    def _save(self, *, rows: int, share: float) -> None:
        snapshot = self._snapshot
        if snapshot is None or snapshot.lag <= rows or snapshot.lag <= share * len(snapshot.references):
            return
        try:
            with self._saving.held(seconds=0):
                snapshot.save(self._catalog, self._path)
        except GalleryError:
            return  # somebody else is saving, or nobody may write here, and memory must do
