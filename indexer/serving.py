"""The approximate indexes of an open gallery: chosen, kept beside the views, checked, built anew."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from indexer import folder, nearby_file
from indexer.catalog import Catalog
from indexer.errors import GalleryError
from indexer.faiss_index import Ids
from indexer.lock import WriterLock
from indexer.nearby import Base, Nearby
from indexer.promise import lower_bound, shares_found
from indexer.sealed import NoView
from indexer.searched import Searched
from indexer.snapshot import Snapshot
from indexer.trials import LATENCY_MS, Promise
from indexer.tuning import Progress, Tuning, exact_trial
from indexer.vectors import Vectors

PATIENCE = 10  # queries that are answered exactly before the index is read: for fewer that would take longer
CHECKED_EACH = 100  # one of so many queries is also answered exactly
CHECKING_SHARE = 0.05  # of the time, at most, goes into that
REMEMBERED, JUDGED_EACH = 2000, 50  # checks that count, the newest; after how many they are judged
SURELY_FAST = 1 << 24  # bytes of vectors that any processor looks through before anybody notices

_log = logging.getLogger(__name__)


class _Closed(Exception):
    """The gallery is closed, and what was being built for it is needed no more."""


@dataclass(frozen=True, slots=True)
class Serving:
    """How references, or prototypes, are searched.

    Attributes:
        kind: of index, as FAISS names it; "Flat" is exact search.
        promise: what it keeps; None for exact search, which finds all.
        checked: queries that were answered exactly as well since the gallery was opened.
        ann_recall: the share of the exact neighbours that those were given; None before the first.
    """

    kind: str
    promise: Promise | None
    checked: int
    ann_recall: float | None


class NearestSearch:
    """Searches the references, or prototypes, of snapshots, by the approximate index if there is one.

    Any number of threads may ask at once. If checks show that it breaks its promise, it is let go of, and search is
    exact until it is tuned again.
    """

    def __init__(self, path: Path, catalog: Catalog, searched: Searched) -> None:
        self._path, self._catalog, self._searched = path / searched.file, catalog, searched
        self._saving = WriterLock(path / folder.VIEWS_LOCK)
        self._lock = threading.Lock()  # of the thread that changes any of these
        self._asked = 0
        self._base: Base | None = None
        self._read = False
        self._nearby: Nearby | None = None  # the base as it shows the newest snapshot that was searched
        self._shares: deque[float] = deque(maxlen=REMEMBERED)  # found of the queries that were checked
        self._since, self._checking = time.monotonic(), 0.0
        self._builder: threading.Thread | None = None
        self._closed = False

    def search_rows(self, snapshot: Snapshot, queries: Vectors, k: int) -> tuple[Vectors, Ids]:
        """Return scores and rows, ``(n, min(k, len))`` each, of the nearest, best first."""
        before = self._asked
        self._asked += len(queries)
        nearby = self._showing(snapshot) if self._asked > PATIENCE else None
        if nearby is None or not nearby.serves(k):
            return self._searched.index(snapshot).search_rows(queries, k)
        found = nearby.search_rows(queries, k)
        if before // CHECKED_EACH != self._asked // CHECKED_EACH:
            self._check(nearby, queries[:1], found[0][:1])
        return found

    def facts(self) -> Serving:
        """Return how they are searched."""
        with self._lock:
            base, shares = self._base, list(self._shares)
            known = nearby_file.peek(self._path, gallery=self._catalog.id) if not self._read else None
        if base is not None:
            known = base.choice, base.promise
        kind, promise = ("Flat", None) if known is None else (known[0].factory, known[1])
        return Serving(kind, promise, len(shares), float(np.mean(shares)) if shares else None)

    def slow(self, snapshot: Snapshot) -> float | None:
        """Return the milliseconds of a query that comes alone, if search is exact and takes longer than promised.

        To measure that takes a second or two.
        """
        index = self._searched.index(snapshot)
        if 4 * len(index) * index.dim < SURELY_FAST or self.facts().promise is not None:
            return None
        milliseconds = exact_trial(index.laid_out()).microseconds / 1000
        return milliseconds if milliseconds > LATENCY_MS else None

    def tune(self, snapshot: Snapshot, promise: Promise, *, progress: Progress | None = None) -> Tuning:
        """Find the cheapest index of a snapshot's that keeps the promise."""
        return self._searched.tune(snapshot, promise, None, progress)

    def apply(self, tuning: Tuning, snapshot: Snapshot) -> None:
        """Search by what won a tuning of that snapshot's from now on; exactly, if nothing did.

        Raises:
            GalleryError: the disk is full or may not be written; then all stays as it is.
        """
        base, winner = None, tuning.winner
        if winner is not None:
            ids = self._searched.index(snapshot).ids[winner.rows]
            base = Base(winner.choice, winner.index, ids, snapshot.stamp, tuning.promise, winner.floor)
        try:
            with self._saving.held():
                if base is None:
                    self._path.unlink(missing_ok=True)
                else:
                    nearby_file.save(base, self._path, self._catalog.id)
        except OSError as error:
            raise GalleryError(f"{self._path}: cannot be written ({error.strerror}); search stays as it was") from error
        with self._lock:
            self._base, self._read, self._nearby = base, True, None
            self._shares.clear()

    def close(self) -> None:
        """Stop what is being built, and wait for that."""
        self._closed = True
        builder = self._builder
        if builder is not None:
            builder.join()

    def _loaded(self) -> Base | None:
        with self._lock:
            if not self._read:
                self._base = nearby_file.load(self._path, gallery=self._catalog.id, dim=self._catalog.dim)
                self._read = True
            return self._base

    def _showing(self, snapshot: Snapshot) -> Nearby | None:
        base, nearby = self._base if self._read else self._loaded(), self._nearby
        if base is None:
            return None
        exact = self._searched.index(snapshot)
        if nearby is None or nearby.base is not base or nearby.exact is not exact:
            moved = self._searched.moved(self._catalog, base.stamp)
            nearby = self._nearby = None if moved is None else Nearby(base, exact, moved)
            if nearby is None or nearby.worn:  # what is of a revision that is no more shows nothing
                self._renew(snapshot, base)
        return nearby

    def _check(self, nearby: Nearby, query: Vectors, found: Vectors) -> None:
        """Answer a query exactly as well, if there is time for that, and remember how much was found."""
        started = time.monotonic()
        if self._checking > CHECKING_SHARE * (started - self._since):
            return
        k = min(nearby.base.promise.k, found.shape[1])
        exact, _ = nearby.exact.search_rows(query, k)
        self._checking += time.monotonic() - started
        self._shares.append(float(shares_found(found[:, :k], exact)[0]))
        if len(self._shares) % JUDGED_EACH:
            return
        missed = 1 - np.array(self._shares)
        if 1 - lower_bound(missed, k) < nearby.base.promise.ann_recall:
            what, choice = self._searched.what, nearby.base.choice
            _log.warning("the %s are searched exactly: %s finds too few of them; tune", what, choice)
            with self._lock:
                self._base = self._nearby = None

    def _renew(self, snapshot: Snapshot, base: Base) -> None:
        """Build an index of the same kind anew, in a thread of its own, unless one is being built."""
        with self._lock:
            if self._closed or (self._builder is not None and self._builder.is_alive()):
                return
            self._builder = threading.Thread(target=self._rebuild, args=(snapshot, base), name="firstsight index")
            self._builder.start()

    def _rebuild(self, snapshot: Snapshot, base: Base) -> None:
        def go_on(*_: object) -> None:
            if self._closed:
                raise _Closed

        with suppress(_Closed, NoView):  # a view that cannot be believed is made anew by the query that meets it
            tuning = self._searched.tune(snapshot, base.promise, [base.choice.factory], go_on)
            go_on()
            try:
                self.apply(tuning, snapshot)
            except GalleryError as error:
                _log.info("%s", error)
