"""One revision of a gallery in memory: two indexes, and beside them what a hit needs. No query reads SQL."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from indexer import view_file
from indexer.catalog import Catalog
from indexer.faiss_index import FaissIndex
from indexer.folder import PROTOTYPES, REFERENCES
from indexer.reader import Reader, Row, Stamp, chunks
from indexer.vectors import Vectors, prototype
from indexer.view_file import Label, NoView

GATHERED = 4096  # vectors copied at once while prototypes are made

_log = logging.getLogger(__name__)


class Known(NamedTuple):
    """A reference as a query needs it."""

    class_id: int
    shown: str


class Snapshot:
    """The live references and prototypes of one revision.

    Memory: the vectors of references and prototypes, twice for a moment while they grow, and about 0.5 kB a reference.
    """

    def __init__(self, dim: int, stamp: Stamp) -> None:
        self.stamp = stamp
        self.references = FaissIndex(dim)
        self.prototypes = FaissIndex(dim)  # by class id
        self.known: dict[int, Known] = {}  # by reference id
        self.members: dict[int, list[int]] = {}  # class id -> its reference ids, ascending
        self.names: dict[int, str] = {}  # by class id
        self.lag = 0  # rows in which the files on disk differ

    @classmethod
    def load(cls, catalog: Catalog, reader: Reader, folder: Path) -> Snapshot:
        """Return the newest revision: the files in ``folder`` where they can be believed, the catalog for the rest."""
        self = cls(catalog.dim, reader.newest())
        self.names = reader.names()
        self._register(reader.references())
        self.references, _ = _believed(catalog, reader, folder, REFERENCES)
        self.prototypes, shown = _believed(catalog, reader, folder, PROTOTYPES)
        self.references.reserve(len(self.known))
        self.prototypes.reserve(len(self.members))
        self._fill(reader, self.known.keys())
        touched = reader.touched_since(shown) | (self.members.keys() ^ set(self.prototypes.ids.tolist()))
        self._recompute(touched)
        return self

    def catch_up(self, reader: Reader) -> bool:
        """Become the newest revision; return False, unchanged, if this one is not part of the catalog's history."""
        newest = reader.newest()
        if newest == self.stamp:
            return True
        if not reader.knows(self.stamp):
            return False
        came, went = reader.references_since(self.stamp.revision)
        touched = {row.class_id for row in came} | {class_id for _, class_id in went}
        self.names |= reader.names_since(self.stamp.revision)
        self._unregister(went)
        self._register(came)
        self._fill(reader, (row.id for row in came), gone=[id for id, _ in went])
        self._recompute(touched)
        self.stamp = newest
        return True

    def save(self, catalog: Catalog, folder: Path) -> None:
        """Write both views into ``folder``. If the disk is full or may not be written, no query suffers from it."""
        self.lag = 0  # also if it fails: tried again only when as much has changed again
        try:
            for what, index in ((REFERENCES, self.references), (PROTOTYPES, self.prototypes)):
                view_file.save(index, folder / what, Label(what, catalog.id, *self.stamp))
        except OSError as error:
            _log.info("the views of %s stay in memory: %s", folder, error)

    def _register(self, rows: Iterable[Row]) -> None:
        for row in rows:
            self.known[row.id] = Known(row.class_id, row.shown)
            self.members.setdefault(row.class_id, []).append(row.id)

    def _unregister(self, went: Iterable[tuple[int, int]]) -> None:
        gone: dict[int, set[int]] = {}
        for id, class_id in went:
            del self.known[id]
            gone.setdefault(class_id, set()).add(id)
        for class_id, ids in gone.items():
            self.members[class_id] = [id for id in self.members[class_id] if id not in ids]

    def _fill(self, reader: Reader, wanted: Iterable[int], gone: Collection[int] | None = None) -> None:
        """Bring the index of references to the wanted ones; what is missing comes from the catalog."""
        if gone is None:
            present = set(self.references.ids.tolist())
            wanted = wanted if isinstance(wanted, Collection) else list(wanted)
            gone = present.difference(wanted)
            wanted = [id for id in wanted if id not in present]
        self.references.remove(gone)
        self.lag += len(gone)
        for ids, vectors in reader.vectors(wanted):
            self.references.add(ids, vectors)
            self.lag += len(ids)

    def _recompute(self, class_ids: Iterable[int]) -> None:
        """Make the prototypes of these classes anew, and forget the classes that have no reference left."""
        class_ids = sorted(class_ids)
        self.prototypes.remove(class_ids)
        self.lag += len(class_ids)
        for class_id in class_ids:
            if not self.members.get(class_id):
                self.members.pop(class_id, None)
                self.names.pop(class_id, None)
        living = [class_id for class_id in class_ids if class_id in self.members]
        for chunk in chunks(living):
            vectors = self.references.vectors(self.members[class_id][0] for class_id in chunk)
            for row, class_id in enumerate(chunk):
                if len(self.members[class_id]) > 1:  # a single reference is its own prototype
                    vectors[row] = self._prototype(class_id)
            self.prototypes.add(chunk, vectors)

    def _prototype(self, class_id: int) -> Vectors:
        """Return the unit mean of the class's references, some thousand in memory at a time."""
        return prototype(self.references.vectors(ids) for ids in chunks(self.members[class_id], GATHERED))


def _believed(catalog: Catalog, reader: Reader, folder: Path, what: str) -> tuple[FaissIndex, int]:
    """Return the view on disk and its revision, or an empty one of revision 0."""
    with suppress(NoView):
        index, label = view_file.load(folder / what, what=what, gallery=catalog.id, dim=catalog.dim)
        if reader.knows(Stamp(label.revision, label.mark)):
            return index, label.revision
    return FaissIndex(catalog.dim), 0
