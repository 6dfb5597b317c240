"""A gallery: classes known by reference images, in a folder of their own."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from indexer import compaction, description, history, repair, verify
from indexer.compaction import Compaction
from indexer.description import Setting
from indexer.errors import ArgumentError
from indexer.gallery_asked import AskedGallery
from indexer.gallery_opened import Reference
from indexer.history import Change, Coming
from indexer.names import check_name
from indexer.printable import printable
from indexer.reader import Reader
from indexer.repair import Repair
from indexer.search import ClassHits, ReferenceHit
from indexer.vectors import as_queries, check_count

__all__ = ["Change", "ClassHits", "Gallery", "Reference", "ReferenceHit"]


class Gallery(AskedGallery):
    """Unit vectors with class names: learn, forget, search. Use it as a context manager, or ``close`` it.

    One writer at a time, any number of readers; a gallery may be used from several threads. A change is in the catalog
    for good when its method returns. A query sees one revision: with all that was changed through this object before
    it began, and with what others changed a moment later at most.

    Here is what changes it; what it holds is read in ``OpenedGallery``, searched in ``AskedGallery``.
    """

    def writing(self) -> AbstractContextManager[None]:
        """Hold the writer's lock; GalleryBusy if another process or thread holds it for longer than a moment."""
        return self._writer.held()

    def add(self, name: str, embeddings: Sequence[tuple[str, str | None, ArrayLike]]) -> Change:
        """Learn: add references ``(hash of the content, path or None, vector (dim,))`` to a class, new or not.

        Content that the class has already adds nothing; content that the gallery knows keeps its vector.

        Raises:
            ClassExists: another class's name differs from this one only by case.
            ArgumentError: a name or a vector that cannot be one.
        """
        name = check_name(name)
        hashes = [hash for hash, _, _ in embeddings]
        given: Any = [vector for _, _, vector in embeddings]
        vectors = as_queries(given if hashes else np.empty((0, self.dim)), self.dim)
        with self._changing() as reader:
            class_id = reader.class_id(name)
            present = set() if class_id is None else {row.hash for row in reader.references(of_class=class_id)}
            paths = {hash: path and printable(path) for hash, path, _ in reversed(embeddings) if hash not in present}
            history.stage(reader, hashes, vectors, runtime=self.runtime)
            come = [Coming(name, hash, None, path) for hash, path in reversed(paths.items())]
            return history.revise(
                reader, "learn", f"learn {history.counted(len(come), 'reference')} of {name!r}", come=come
            )

    def remove(self, name: str, *, hashes: Collection[str] | None = None) -> Change:
        """Forget a class, or only its references with the given content.

        Raises:
            ClassMissing: there is no class of that name.
            ArgumentError: it has no reference of that content.
        """
        with self._changing() as reader:
            ids = {row.hash: row.id for row in reader.references(of_class=description.class_id(reader, name))}
            if hashes is None:
                return history.revise(reader, "forget", f"forget {name!r}", leave=ids.values())
            unknown = sorted(set(hashes) - ids.keys())
            if unknown:
                raise ArgumentError(
                    f"the class {name!r} has no reference sha256:{unknown[0][:12]}; nothing was changed"
                )
            leave = {ids[hash] for hash in hashes}
            return history.revise(
                reader, "forget", f"forget {history.counted(len(leave), 'reference')} of {name!r}", leave=leave
            )

    def rename(self, old: str, new: str) -> Change:
        """Give a class another name.

        Raises:
            ClassMissing: there is no class ``old``.
            ClassExists: another class is called ``new``, or so but for the case.
        """
        new = check_name(new)
        with self._changing() as reader:
            class_id = description.class_id(reader, old)
            summary = f"rename {old!r} to {new!r}"
            if check_name(old) == new:
                return history.nothing(reader, "rename", summary)
            return history.rename(reader, class_id, new, summary)

    def set(self, name: str, changes: Mapping[str, Any], *, hash: str | None = None) -> Change:
        """Set attributes of a class, or of its reference with that content, by key; None removes one.

        Values are text, finite numbers, true or false, or lists of these. A reference has the attributes of its class
        where it has none of that key itself.

        Raises:
            ClassMissing: there is no class of that name.
            ArgumentError: a key or a value that cannot be one, or no reference of that content.
        """
        return self.set_all([(name, hash, changes)])

    def set_all(self, changes: Iterable[Setting]) -> Change:
        """Do what ``set`` does to several, each given as (name, hash or None, changes), in one revision."""
        settings = [(check_name(name), hash, more) for name, hash, more in changes]
        with self._changing() as reader:
            return description.set_attributes(reader, settings)

    def undo(self) -> Change:
        """Reverse the newest revision by a new one. Undoing an undo brings the change back.

        Raises:
            GalleryError: there is nothing to undo.
        """
        with self._changing() as reader:
            return history.undo(reader)

    def compact(self, *, keep: int) -> Compaction:
        """Forget all revisions but the newest ``keep``, for good, and embeddings that no reference has any more.

        Neither ``as_of`` nor ``undo`` reaches back behind the oldest one kept. Takes as much free space on the disk as
        the catalog needs afterwards.
        """
        keep = check_count("keep", keep)
        with self._writer.held():
            return compaction.compact(self._catalog, keep=keep)

    # -- for bulk indexing -------------------------------------------------------------------------------------

    def stage(self, hashes: Sequence[str], vectors: ArrayLike) -> None:
        """Write down embeddings ``(n, dim)`` by the hash of their content. No query sees them before ``revise``."""
        embeddings = as_queries(vectors, self.dim)
        with self._changing() as reader:
            history.stage(reader, hashes, embeddings, runtime=self.runtime)

    def revise(
        self,
        action: str,
        summary: str,
        *,
        leave: Collection[int],
        come: Sequence[Coming],
        renamed: Mapping[str, str] | None = None,
        described: Mapping[tuple[str, str], Mapping[str, Any]] | None = None,
    ) -> Change:
        """Let references go, by id, let others come whose embeddings are staged, rename classes: all in one revision.

        ``described`` changes references' own attributes, by class name and content; None removes one.

        Raises:
            ClassExists: two classes' names would differ only by case.
        """
        with self._changing() as reader:
            more = description.writing(reader, described or {}, anyway=bool(leave or come))
            return history.revise(reader, action, summary, leave=leave, come=come, renamed=renamed, more=more)

    # -- upkeep ------------------------------------------------------------------------------------------------

    def save_views(self) -> None:
        """Write the views to disk. That saves time at the next opening; nothing depends on it."""
        self._views.save()

    def verify(self) -> list[str]:
        """Return what is wrong with the gallery, a sentence each; nothing if it is sound. Changes nothing."""
        found = verify.catalog_problems(self._catalog, self.path)
        with self._views.as_they_are() as snapshot:
            return found if found or snapshot is None else verify.snapshot_problems(self._catalog, snapshot)

    def repair(self) -> Repair:
        """Repair what ``verify`` finds, as far as it follows from the rest; return what was done, and what is left.

        Views and indexes are made anew; embeddings that no reference has go; so do rows that hang in the air.
        """
        with self._writer.held():
            wrong = any(sentence.startswith(verify.OF_VIEWS) for sentence in self.verify())
            done = repair.repair(self._catalog)
            if done or wrong:
                self._views.rebuild()
            return Repair([*done, *(["made the views anew"] if wrong else [])], self.verify())

    @contextmanager
    def _changing(self) -> Iterator[Reader]:
        with self._writer.held(), self._catalog.writing() as reader:
            yield reader
        self._views.promise()
