"""The views of a gallery that is open: kept in memory, kept fresh, saved when it is worth it."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeVar

from indexer import folder
from indexer.catalog import Catalog
from indexer.errors import EmbedderMismatch, FirstsightError, GalleryError
from indexer.lock import WriterLock
from indexer.past import check_known
from indexer.reader import Reader, Stamp
from indexer.sealed import NoView
from indexer.snapshot import Snapshot

# A view on disk that is behind is caught up from the catalog when it is loaded. Writing it anew costs as much as
# copying it, so it is left behind until that has become the smaller cost.
SAVE_ROWS, SAVE_SHARE = 1000, 0.05  # both exceeded: saved at once
CLOSE_SHARE = 0.01  # exceeded: saved at close
PAST = 2  # snapshots of old revisions kept in memory; they share with the newest what is the same
SMALL = 200  # references that came or went: caught up by the query that notices, in some milliseconds

Answer = TypeVar("Answer")

_log = logging.getLogger(__name__)


class Shown(NamedTuple):
    """A snapshot, and how things stood when it was compared with the catalog."""

    snapshot: Snapshot
    version: int  # the catalog's
    promised: int  # changes of this gallery that it shows


class Views:
    """The snapshot that queries see: any number of threads at once, each to the end the one it began with.

    What this gallery itself has changed, every query sees that begins after the change; what others change, it sees
    as soon as that is ready. One thread catches up, while the others go on with what there is: a small change the
    query that notices it, a large one a thread of its own.
    """

    def __init__(self, catalog: Catalog, path: Path) -> None:
        self._catalog = catalog
        self._path = path
        self._saving = WriterLock(path / folder.VIEWS_LOCK)  # its own: a reader that saves keeps no writer waiting
        self._lock = threading.RLock()  # of the thread that catches up
        self._shown: Shown | None = None
        self._promised = 0
        self._counting = threading.Lock()
        self._saved = 0  # rows that had moved in the snapshot that is on disk
        self._aside: threading.Thread | None = None
        self._remembered: OrderedDict[Stamp, Snapshot] = OrderedDict()  # of the past; the one asked for last at the end
        self._remembering = threading.Lock()
        self._made = 0  # times that files could not be believed, or were not to be
        self._failed = False  # the thread of its own did: let a query try, and tell

    def ask(self, question: Callable[[Snapshot], Answer], as_of: int | None = None) -> Answer:
        """Return what ``question`` says of the newest revision that is ready, or of that one.

        If it comes upon a file that cannot be believed, it is asked again, of views made from the catalog.
        """
        made = self._made
        try:
            return question(self._newest() if as_of is None else self._past(as_of))
        except NoView as error:
            _log.info("%s: a view %s; it is made anew", self._path, error)
            self._make_anew(made)
        return question(self._newest() if as_of is None else self._past(as_of))

    def _newest(self) -> Snapshot:
        promised, shown, version = self._promised, self._shown, self._catalog.version()
        if shown is None or shown.version != version:
            shown = self._caught_up(shown, wait=shown is None or shown.promised < promised)
        return shown.snapshot

    def _past(self, revision: int) -> Snapshot:
        """Return that revision; RevisionMissing if it is not there. Those asked for last are kept."""
        with self._catalog.reading() as reader:
            check_known(reader.connection, revision)
            stamp = reader.stamp(revision)
        near = self._newest()
        if stamp == near.stamp:
            return near
        with self._remembering:
            if stamp not in self._remembered:
                self._remembered[stamp] = self._recalled(near, stamp)
            self._remembered.move_to_end(stamp)
            while len(self._remembered) > PAST:
                self._remembered.popitem(last=False)
            return self._remembered[stamp]

    def _recalled(self, near: Snapshot, stamp: Stamp) -> Snapshot:
        with self._catalog.reading() as reader:
            if not reader.knows(near.stamp):  # the catalog was restored from a copy just now
                near = Snapshot.load(self._catalog, reader, self._path)
            touched = reader.touched_since(stamp.revision)
        with self._catalog.reading(stamp.revision) as past:
            if past.embedder_id != self._catalog.embedder_id:
                raise EmbedderMismatch(
                    f"{self._path}: revision {stamp.revision} has the vectors of another embedder, which a query by"
                    " this one cannot be compared with; ask as of one since the upgrade"
                )
            return near.at(past, touched)

    @contextmanager
    def as_they_are(self) -> Iterator[Snapshot | None]:
        """Hold the snapshot without renewing it; None if there is none yet."""
        shown = self._shown
        yield None if shown is None else shown.snapshot

    def promise(self) -> None:
        """See to it that queries that begin from now on see what this gallery has just changed."""
        shown = self._shown
        try:
            if shown is not None:
                with self._catalog.reading() as reader:
                    if reader.newest() == shown.snapshot.stamp:
                        return  # embeddings were staged; there is nothing to see
                    large = _large(reader, shown)
                if large:
                    self.catch_up()  # now, while queries may still go on with the old one
        except FirstsightError as error:
            _log.info("%s: the next query catches up: %s", self._path, error)  # the change itself is made
        with self._counting:
            self._promised += 1

    def catch_up(self) -> None:
        """Bring the snapshot, if there is one, to the newest revision; queries go on with the old one meanwhile."""
        with self._lock:
            if self._shown is not None:
                self._renew(self._shown)

    def save(self) -> None:
        """Write the newest views to disk, unless they are there."""
        with self._lock:
            self._renew(self._shown)
            self._save(rows=0, share=0.0)

    def rebuild(self) -> None:
        """Make the views from the catalog alone, in memory and on disk."""
        with self._lock:
            for what in folder.VIEWS:
                folder.set_aside(self._path / what)
            self._make_anew(self._made)

    def close(self) -> None:
        """Write the views if that is worth it, and let go of them."""
        with self._lock:
            shown = self._shown
            if shown is not None and self._catalog.version() == shown.version:  # else newer ones may be there
                self._save(rows=0, share=CLOSE_SHARE)
            self._shown = None
        with self._remembering:
            self._remembered.clear()
        if self._aside is not None:
            self._aside.join()

    def _caught_up(self, shown: Shown | None, *, wait: bool) -> Shown:
        """Return the newest snapshot, or the one that is shown if that one takes long or somebody is at it."""
        if shown is not None and not wait and self._aside is not None and self._aside.is_alive():
            return shown
        if not self._lock.acquire(blocking=wait):
            assert shown is not None  # else there is nothing to do but wait
            return shown
        try:
            if shown is not None and not wait and not self._failed:
                with self._catalog.reading() as reader:
                    large = _large(reader, shown)
                if large:
                    self._start(self.catch_up)
                    return shown
            self._failed = False
            return self._renew(self._shown)
        finally:
            self._lock.release()

    def _renew(self, shown: Shown | None) -> Shown:
        """Show the newest revision; a change that comes in between shows as another version of the catalog."""
        promised, version = self._promised, self._catalog.version()
        if shown is not None and shown.version == version:
            return shown
        with self._catalog.reading() as reader:
            try:
                snapshot = None if shown is None else shown.snapshot.renewed(reader)
                if snapshot is None:
                    self._shown = None  # no query may believe what is not in the catalog: all wait
                    snapshot, self._saved = Snapshot.load(self._catalog, reader, self._path), 0
            except NoView:
                self._forget()
                snapshot = Snapshot.anew(reader, self._path)
        shown = self._shown = Shown(snapshot, version, promised)
        self._save(rows=SAVE_ROWS, share=SAVE_SHARE)
        shown = self._shown or shown
        if shown.snapshot.wasteful:
            self._start(self._tighten)
        return shown

    def _make_anew(self, made: int) -> None:
        """Make the views from the catalog alone, unless that has been done since ``made`` was looked at."""
        with self._lock:
            if self._made != made:
                return
            self._forget()
            promised, version = self._promised, self._catalog.version()
            with self._catalog.reading() as reader:
                self._shown = Shown(Snapshot.anew(reader, self._path), version, promised)
            self._save(rows=-1, share=-1.0)

    def _forget(self) -> None:
        """Let go of all that came from files."""
        self._made += 1
        self._shown, self._saved = None, 0
        with self._remembering:
            self._remembered.clear()

    def _tighten(self) -> None:
        shown = self._shown
        if shown is not None:
            self._shown = shown._replace(snapshot=shown.snapshot.tightened())

    def _start(self, work: Callable[[], object]) -> None:
        """Do it in a thread of its own, with the lock held: no query waits for that but one that was promised."""

        def run() -> None:
            try:
                with self._lock:
                    work()
            except Exception as error:
                self._failed = True
                _log.info("%s: the next query catches up, and tells: %s", self._path, error)

        if self._aside is None or not self._aside.is_alive() or self._aside is threading.current_thread():
            self._aside = threading.Thread(target=run, name="firstsight views")
            self._aside.start()

    def _save(self, *, rows: int, share: float) -> None:
        shown = self._shown
        if shown is None:
            return
        lag = shown.snapshot.moved - self._saved
        if lag <= rows or lag <= share * len(shown.snapshot.references):
            return
        try:
            with self._saving.held(seconds=0):
                self._saved = shown.snapshot.moved  # also if it fails: tried again when as much has changed again
                self._shown = shown._replace(snapshot=shown.snapshot.save(self._catalog, self._path))
        except NoView:
            self._make_anew(self._made)
        except GalleryError:
            return  # somebody else is saving, or nobody may write here, and memory must do


def _large(reader: Reader, shown: Shown) -> bool:
    return reader.moved_since(shown.snapshot.stamp, limit=SMALL + 1) > SMALL
