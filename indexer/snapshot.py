"""One revision of a gallery in memory: two indexes, and beside them what a hit needs. No query reads SQL."""

from __future__ import annotations

import gc
import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from indexer import pages_file, view_file
from indexer.catalog import Catalog
from indexer.faiss_index import FaissIndex
from indexer.folder import KNOWN, PROTOTYPES, REFERENCES
from indexer.pages import Pages
from indexer.reader import Reader, Row, Stamp, chunks
from indexer.recent import Recent
from indexer.sealed import Label, NoView
from indexer.told import Told
from indexer.vectors import Vectors, prototype

GATHERED = 4096  # vectors copied at once while prototypes are made
REMEMBERED = 8  # conditions: 24 bytes each for every reference that they leave

_log = logging.getLogger(__name__)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Hold back Python's collector: it would look again and again through all that is made here, and find no garbage.

    That is half of the time that a large gallery takes to open.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


class Known(NamedTuple):
    """A reference as a query needs it."""

    class_id: int
    shown: str


MAPPINGS: Mapping[str, pages_file.Make] = {
    "known": lambda pair: Known(*pair),
    "members": list,
    "names": str,
    "told of classes": dict,
    "told of references": dict,
    "mapped": bool,
}
"""What a snapshot knows beside vectors, as the file has it."""


def _nothing_found() -> Recent[Any]:
    return Recent(REMEMBERED)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The live references and prototypes of one revision; it never changes.

    The next revision's shares with it all that is the same. One that comes from files looks at what it is asked for,
    and raises NoView when that cannot be believed. Memory: 8 bytes a vector, 24 once one is asked for by its id; what
    came since the files were written; and about 0.5 kB a reference, once what is known of all has been asked for.

    Attributes:
        stamp: the revision.
        references: by reference id.
        prototypes: by class id.
        known: what a hit needs, by reference id.
        members: the ids of a class's references, ascending, by class id.
        names: by class id.
        told: the attributes.
        found: what conditions on them left of this snapshot, for those asked last.
        moved: rows in which this and its forerunners, from the one that was loaded on, differ from the files on disk.
        scratch: the folder for what is too large for memory and not on disk yet; None if all goes into memory.
    """

    stamp: Stamp
    references: FaissIndex
    prototypes: FaissIndex
    known: Pages[Known]
    members: Pages[list[int]]
    names: Pages[str]
    told: Told
    moved: int = 0
    scratch: Path | None = None
    found: Recent[Any] = field(default_factory=_nothing_found, init=False, compare=False, repr=False)

    @classmethod
    def load(cls, catalog: Catalog, reader: Reader, folder: Path) -> Snapshot:
        """Return the newest revision: the files in ``folder`` where they can be believed, the catalog for the rest."""
        references, filled = _believed(catalog, reader, folder, REFERENCES)
        prototypes, shown = _believed(catalog, reader, folder, PROTOTYPES)
        if filled is not None and filled == shown:
            with suppress(NoView):
                saved = cls._saved(filled, references, prototypes, folder / KNOWN, catalog)
                return saved.renewed(reader) or saved
        touched = reader.touched_since(0 if shown is None else shown.revision)
        made = cls._made(reader, references, prototypes, touched, folder)
        return replace(made, moved=made.moved + len(made.known))  # what is known beside vectors is not on disk

    @classmethod
    def anew(cls, reader: Reader, scratch: Path | None = None) -> Snapshot:
        """Return the revision that the reader sees, from the catalog alone."""
        return cls._made(reader, FaissIndex(reader.dim), FaissIndex(reader.dim), (), scratch)

    @classmethod
    def _saved(
        cls, stamp: Stamp, references: FaissIndex, prototypes: FaissIndex, path: Path, catalog: Catalog
    ) -> Snapshot:
        """Return the revision that the files show if all show the same one, else NoView."""
        mappings, label = pages_file.load(path, MAPPINGS, what=KNOWN, gallery=catalog.id)
        if Stamp(label.revision, label.mark) != stamp:
            raise NoView("shows another revision")
        known, members, names, *told = mappings.values()
        return cls(stamp, references, prototypes, known, members, names, Told(*told), scratch=path.parent)

    def at(self, reader: Reader, touched: Collection[int]) -> Snapshot:
        """Return the revision that the reader sees, with the vectors of this one where they are the same.

        Args:
            reader: of the past.
            touched: the classes with a reference that came or went between the two.
        """
        return self._made(reader, self.references, self.prototypes, touched, self.scratch)

    @classmethod
    @_no_collection()
    def _made(
        cls,
        reader: Reader,
        references: FaissIndex,
        prototypes: FaissIndex,
        touched: Collection[int],
        scratch: Path | None,
    ) -> Snapshot:
        """Return what the reader sees, with what the indexes hold; ``touched`` classes may have other prototypes."""
        known: dict[int, Known] = {}
        members: dict[int, list[int]] = {}
        for id, class_id, where in reader.shown():
            known[id] = Known(class_id, where)
            members.setdefault(class_id, []).append(id)
        held = references.ids.tolist()
        references = _filled(references, reader, known, scratch)
        touched = {*touched, *(members.keys() ^ set(prototypes.ids.tolist()))}
        return cls(
            stamp=reader.newest(),
            references=references,
            prototypes=_recomputed(prototypes, references, {id: members.get(id, []) for id in touched}, scratch),
            known=Pages(known.items()),
            members=Pages(members.items()),
            names=Pages(reader.names().items()),
            told=Told.load(reader),
            moved=len(known.keys() ^ set(held)) + len(touched),
            scratch=scratch,
        )

    @property
    def mappings(self) -> dict[str, Pages[Any]]:
        """What is known beside vectors, by the names in ``MAPPINGS``."""
        values = (self.known, self.members, self.names, self.told.of_class, self.told.own, self.told.mapped)
        return dict(zip(MAPPINGS, values, strict=True))

    def renewed(self, reader: Reader) -> Snapshot | None:
        """Return the newest revision; None if this one is not part of the catalog's history."""
        newest = reader.newest()
        if newest == self.stamp:
            return self
        if not reader.knows(self.stamp):
            return None
        since = self.stamp.revision
        return self._after(reader, newest, *reader.references_since(since), reader.names_since(since))

    @property
    def wasteful(self) -> bool:
        """Whether so much memory is masked that a copy of the rest is worth making."""
        return self.references.wasteful or self.prototypes.wasteful

    def tightened(self) -> Snapshot:
        """Return the same in memory without gaps."""
        return replace(self, references=self.references.tightened(), prototypes=self.prototypes.tightened())

    def save(self, catalog: Catalog, folder: Path) -> Snapshot:
        """Write all views into ``folder``; return this, as it lies there if it is large.

        If the disk is full or may not be written, no query suffers from it.
        """

        def saved(index: FaissIndex, what: str) -> FaissIndex:
            return view_file.save(index, folder / what, Label(what, catalog.id, *self.stamp))

        try:
            references, prototypes = saved(self.references, REFERENCES), saved(self.prototypes, PROTOTYPES)
            pages_file.save(self.mappings, folder / KNOWN, Label(KNOWN, catalog.id, *self.stamp))
        except OSError as error:
            _log.info("the views of %s stay in memory: %s", folder, error)
            return self
        if references is self.references:
            return self
        with suppress(NoView):
            return replace(self._saved(self.stamp, references, prototypes, folder / KNOWN, catalog), moved=self.moved)
        return self

    def _after(
        self,
        reader: Reader,
        stamp: Stamp,
        came: Collection[Row],
        went: Collection[tuple[int, int]],
        named: Mapping[int, str],
    ) -> Snapshot:
        """Return the revision that differs from this one by these references and names."""
        gone = {id for id, _ in went}
        touched = self._members_after(came, went, gone)
        references = self.references.without(gone)
        references = references.filled(len(came), lambda: reader.vectors(row.id for row in came), self.scratch)
        ended = dict.fromkeys(id for id, members in touched.items() if not members)
        return Snapshot(
            stamp=stamp,
            references=references,
            prototypes=_recomputed(self.prototypes, references, touched, self.scratch),
            known=self.known.changed(dict.fromkeys(gone) | {row.id: Known(row.class_id, row.shown) for row in came}),
            members=self.members.changed({id: members or None for id, members in touched.items()}),
            names=self.names.changed({**named, **ended}),
            told=self.told.renewed(reader, self.stamp.revision, came=[row.id for row in came], went=gone),
            moved=self.moved + len(came) + len(went) + len(touched),
            scratch=self.scratch,
        )

    def _members_after(
        self, came: Iterable[Row], went: Iterable[tuple[int, int]], gone: Collection[int]
    ) -> dict[int, list[int]]:
        """Return the members of each class that changes, as they are then."""
        touched: dict[int, list[int]] = {class_id: [] for _, class_id in went}
        for row in came:
            touched.setdefault(row.class_id, []).append(row.id)
        for class_id, fresh in touched.items():
            stay = [id for id in self.members.get(class_id, ()) if id not in gone]
            touched[class_id] = sorted(stay + fresh)
        return touched


def _filled(held: FaissIndex, reader: Reader, wanted: Collection[int], scratch: Path | None) -> FaissIndex:
    """Return the index with the wanted references and no others; what it lacks comes from the catalog."""
    present = set(held.ids.tolist())
    lacking = [id for id in wanted if id not in present]
    return held.without(present.difference(wanted)).filled(len(lacking), lambda: reader.vectors(lacking), scratch)


def _recomputed(
    prototypes: FaissIndex, references: FaissIndex, members: Mapping[int, list[int]], scratch: Path | None
) -> FaissIndex:
    """Return the prototypes with those of these classes made anew; a class without members has none."""
    living = [class_id for class_id in sorted(members) if members[class_id]]

    def made() -> Iterator[tuple[list[int], Vectors]]:
        for chunk in chunks(living):
            vectors = references.vectors(members[class_id][0] for class_id in chunk)
            for row, class_id in enumerate(chunk):
                if len(members[class_id]) > 1:  # a single reference is its own prototype
                    vectors[row] = _prototype(references, members[class_id])
            yield chunk, vectors

    return prototypes.without(members).filled(len(living), made, scratch)


def _prototype(references: FaissIndex, members: Iterable[int]) -> Vectors:
    """Return the unit mean of these references, some thousand in memory at a time."""
    return prototype(references.vectors(ids) for ids in chunks(members, GATHERED))


def _believed(catalog: Catalog, reader: Reader, folder: Path, what: str) -> tuple[FaissIndex, Stamp | None]:
    """Return the view on disk and the revision it shows, or an empty one and None."""
    with suppress(NoView):
        index, label = view_file.load(folder / what, what=what, gallery=catalog.id, dim=catalog.dim)
        stamp = Stamp(label.revision, label.mark)
        if reader.knows(stamp):
            return index, stamp
    return FaissIndex(catalog.dim), None
