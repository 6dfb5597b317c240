"""A gallery: classes known by reference images, in a folder of their own."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike

from indexer import attributes, compaction, description, differences, folder, history, repair, search, verify
from indexer.attributes import Attributes
from indexer.catalog import Catalog
from indexer.compaction import Compaction
from indexer.conditions import Conditions, Where
from indexer.description import Description, Setting
from indexer.differences import Diff
from indexer.errors import ArgumentError, ClassMissing, EmbedderMismatch
from indexer.history import Change, Coming
from indexer.images import printable
from indexer.lock import WriterLock
from indexer.names import check_name, suggestion
from indexer.reader import Reader, Revision
from indexer.repair import Repair
from indexer.search import K_CLASSES, K_REFERENCES, METRIC, SHORTLIST, ClassHits, ReferenceHit, Score
from indexer.seen import SeenFiles
from indexer.serving import ReferenceSearch, Serving, tune_references
from indexer.thumbnails import Thumbnails
from indexer.trials import Promise
from indexer.tuning import Progress, Tuning
from indexer.vectors import as_queries, check_count, metric_named
from indexer.views import Views

__all__ = ["Change", "ClassHits", "Gallery", "Reference", "ReferenceHit"]


@dataclass(frozen=True, slots=True)
class Reference:
    """A known image. ``root`` is the indexed folder it came from, None if it was learnt."""

    id: int
    name: str
    hash: str
    root: str | None
    path: str | None


class Gallery:
    """Unit vectors with class names: learn, forget, search. Use it as a context manager, or ``close`` it.

    One writer at a time, any number of readers; a gallery may be used from several threads. A change is in the catalog
    for good when its method returns. A query sees one revision: with all that was changed through this object before
    it began, and with what others changed a moment later at most.
    """

    def __init__(self, path: Path, catalog: Catalog) -> None:
        """Use ``create`` or ``open``."""
        self.path = path
        self._catalog = catalog
        self._writer = WriterLock(path / folder.LOCK)
        self._views = Views(catalog, path)
        self._nearest = ReferenceSearch(path, catalog.id, catalog.dim)

    @classmethod
    def create(
        cls, path: str | os.PathLike[str], *, dim: int, fingerprint: str, embedder: Mapping[str, Any] | None = None
    ) -> Self:
        """Make an empty gallery at ``path`` and return it.

        Args:
            path: a folder that does not exist, or an empty one.
            dim: floats in a vector.
            fingerprint: of the embedder whose vectors these will be.
            embedder: what else to remember of it; anything JSON can hold.

        Raises:
            GalleryExists: there is something at ``path``.
        """
        facts: dict[str, Any] = {"dim": check_count("dim", dim), "fingerprint": fingerprint, "embedder": embedder or {}}
        folder.make(path, lambda scratch: Catalog.create(scratch / folder.CATALOG, **facts))
        return cls.open(path)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Self:
        """Return the gallery at ``path``.

        Raises:
            GalleryMissing, GalleryNewer, GalleryOlder, GalleryDamaged: as their names say.
        """
        found = folder.find(path)
        return cls(found, Catalog(found / folder.CATALOG))

    def close(self) -> None:
        """Close the gallery, and save its views if they have changed enough to be worth it."""
        try:
            self._nearest.close()
            self._views.close()
        finally:
            self._catalog.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __len__(self) -> int:
        """Return the number of references."""
        with self._catalog.reading() as reader:
            return reader.count()

    # -- what it is --------------------------------------------------------------------------------------------

    @property
    def dim(self) -> int:
        """Floats in a vector."""
        return self._catalog.dim

    @property
    def fingerprint(self) -> str:
        """Of the embedder whose vectors these are."""
        return self._catalog.fingerprint

    @property
    def embedder(self) -> dict[str, Any]:
        """What was written down about the embedder when the gallery was made."""
        return dict(self._catalog.embedder)

    @property
    def revision(self) -> int:
        """The newest revision; 0 before the first change."""
        with self._catalog.reading() as reader:
            return reader.newest().revision

    def require(self, fingerprint: str) -> None:
        """Raise EmbedderMismatch unless this gallery's vectors come from the embedder with that fingerprint."""
        if fingerprint != self.fingerprint:
            raise EmbedderMismatch(
                f"{self.path}: made with another embedder ({self.fingerprint[:12]}, not {fingerprint[:12]});"
                " use the weights it was made with, or index into a new gallery"
            )

    def classes(self, *, as_of: int | None = None) -> dict[str, int]:
        """Return the number of references of each class, sorted by name, now or at a revision."""
        with self._catalog.reading(as_of) as reader:
            return reader.classes()

    def mapped(self) -> int:
        """Return the number of references whose vectors an upgrade mapped, as their images were gone."""
        with self._catalog.reading() as reader:
            return len(reader.mapped())

    def describe(self, name: str, *, as_of: int | None = None) -> Description:
        """Return the class with its attributes and its references with theirs; ClassMissing if there is none."""
        with self._catalog.reading(as_of) as reader:
            return description.describe(reader, _class_id(reader, name), check_name(name))

    def attributes(self, name: str) -> Attributes:
        """Return the attributes of a class; ClassMissing if there is none of that name."""
        with self._catalog.reading() as reader:
            return attributes.of_class(reader, _class_id(reader, name))

    def log(self) -> list[Revision]:
        """Return what changed when, newest first."""
        with self._catalog.reading() as reader:
            return reader.log()

    def diff(self, before: int, after: int | None = None) -> Diff:
        """Return what differs between two revisions, or between one and now; RevisionMissing if one is not there."""
        with self._catalog.reading() as reader:
            return differences.diff(reader, before, after)

    # -- changes -----------------------------------------------------------------------------------------------

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
            history.stage(reader, hashes, vectors)
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
            ids = {row.hash: row.id for row in reader.references(of_class=_class_id(reader, name))}
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
            class_id = _class_id(reader, old)
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

    def references(self, *, as_of: int | None = None) -> list[Reference]:
        """Return all references, now or at a revision, by the order in which they came, about 0.5 kB each."""
        with self._catalog.reading(as_of) as reader:
            names = reader.names()
            return [Reference(row.id, names[row.class_id], *row[2:]) for row in reader.references()]

    def staged_or_known(self, hashes: Iterable[str]) -> AbstractSet[str]:
        """Return those of the hashes whose embedding the catalog holds."""
        with self._catalog.reading() as reader:
            return reader.known(hashes)

    def stage(self, hashes: Sequence[str], vectors: ArrayLike) -> None:
        """Write down embeddings ``(n, dim)`` by the hash of their content. No query sees them before ``revise``."""
        embeddings = as_queries(vectors, self.dim)
        with self._changing() as reader:
            history.stage(reader, hashes, embeddings)

    @property
    def thumbnails(self) -> Thumbnails:
        """The small pictures that are kept of contents."""
        return Thumbnails(self._catalog, self._writer)

    def thumbnail(self, hash: str) -> bytes | None:
        """Return the small JPEG that is kept of a content, None if there is none."""
        return self.thumbnails.get(hash)

    @property
    def files(self) -> SeenFiles:
        """The files that were indexed, as they were when they were last read."""
        return SeenFiles(self._catalog, self._writer)

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

    def save_views(self) -> None:
        """Write the views to disk. That saves time at the next opening; nothing depends on it."""
        self._views.save()

    # -- queries -----------------------------------------------------------------------------------------------

    def search_classes(
        self,
        queries: ArrayLike,
        *,
        k: int = K_CLASSES,
        metric: str = METRIC,
        shortlist: int = SHORTLIST,
        score: Score | None = None,
        where: Where | None = None,
        as_of: int | None = None,
    ) -> list[ClassHits]:
        """Return the nearest classes, by their prototypes, of each query: ``(dim,)`` or ``(n, dim)``, of any length.

        Args:
            queries: embeddings by the embedder that made the gallery.
            k: classes to return at most.
            metric: "cosine" or "euclidean".
            shortlist: prototypes whose cosines to return at least.
            score: a learned one, by which to order those prototypes anew; the distances stay the metric's.
            where: conditions on attributes (``indexer.conditions``): only classes with a reference like that are
                found, and only such a one decides. A prototype is the mean of all references all the same.
            as_of: a revision, to be answered as the gallery was then; the newest one if None.

        Raises:
            ArgumentError: a query of another dim, an unknown metric, k below 1, a score that gives no finite numbers,
                conditions that cannot be asked.
            RevisionMissing: there is no such revision, or no longer.
        """
        points, chosen = as_queries(queries, self.dim), metric_named(metric)
        k, shortlist = check_count("k", k), check_count("shortlist", shortlist, least=0)
        asked = None if where is None else Conditions(where)
        with self._views.fresh(as_of) as snapshot:
            return search.classes(snapshot, points, k=k, metric=chosen, shortlist=shortlist, score=score, where=asked)

    def search_references(
        self,
        queries: ArrayLike,
        *,
        k: int = K_REFERENCES,
        metric: str = METRIC,
        where: Where | None = None,
        as_of: int | None = None,
    ) -> list[list[ReferenceHit]]:
        """Return the nearest references of each query: ``(dim,)`` or ``(n, dim)``, of any length; as of a revision.

        With conditions (``indexer.conditions``), only of those whose attributes, or their class's, are like that.

        Raises:
            ArgumentError: a query of another dim, an unknown metric, k below 1, conditions that cannot be asked.
            RevisionMissing: there is no such revision, or no longer.
        """
        points, chosen, k = as_queries(queries, self.dim), metric_named(metric), check_count("k", k)
        asked = None if where is None else Conditions(where)
        nearest = self._nearest.search_rows if as_of is None else search.exactly
        with self._views.fresh(as_of) as snapshot:
            return search.references(snapshot, points, k=k, metric=chosen, where=asked, nearest=nearest)

    def tune(self, promise: Promise | None = None, *, apply: bool = False, progress: Progress | None = None) -> Tuning:
        """Find the index of the references that keeps a promise of ``ann_recall`` at least cost. Takes minutes.

        Args:
            promise: what to keep; by default what ``Promise()`` says.
            apply: search the references by it from now on.
            progress: told of each step.
        """
        with self._views.fresh() as snapshot:
            tuning = tune_references(snapshot, promise, progress=progress)
        if apply:
            self._nearest.apply(tuning, snapshot.references.ids)
        return tuning

    def serving(self) -> Serving:
        """Return how the references are searched, and what checks of live queries have found."""
        return self._nearest.facts()

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
            wrong = any(sentence.startswith(verify.VIEWS) for sentence in self.verify())
            done = repair.repair(self._catalog)
            if done or wrong:
                self._views.rebuild()
            return Repair([*done, *(["made the views anew"] if wrong else [])], self.verify())

    @contextmanager
    def _changing(self) -> Iterator[Reader]:
        with self._writer.held(), self._catalog.writing() as reader:
            yield reader
        self._views.promise()


def _class_id(reader: Reader, name: str) -> int:
    class_id = reader.class_id(check_name(name))
    if class_id is None:
        raise ClassMissing(f"there is no class {name!r}{suggestion(name, reader.names().values())}")
    return class_id
