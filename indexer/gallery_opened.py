"""A gallery's folder, opened: what the gallery is, and what it holds."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from indexer import attributes, description, differences, folder, runtimes
from indexer.attributes import Attributes
from indexer.catalog import Catalog
from indexer.description import Description
from indexer.differences import Diff
from indexer.errors import EmbedderMismatch
from indexer.lock import WriterLock
from indexer.names import check_name
from indexer.reader import Revision
from indexer.runtimes import Runtime
from indexer.searched import SEARCHED
from indexer.seen import SeenFiles
from indexer.serving import NearestSearch
from indexer.thumbnails import Thumbnails
from indexer.vectors import check_count
from indexer.views import Views


@dataclass(frozen=True, slots=True)
class Reference:
    """A known image. ``root`` is the indexed folder it came from, None if it was learnt."""

    id: int
    name: str
    hash: str
    root: str | None
    path: str | None


class OpenedGallery:
    """What a gallery is and what it holds: the part of ``Gallery`` that neither changes it nor searches it."""

    def __init__(self, path: Path, catalog: Catalog) -> None:
        """Use ``create`` or ``open``."""
        self.path = path
        self._catalog = catalog
        self._writer = WriterLock(path / folder.LOCK)
        self._views = Views(catalog, path)
        self._nearest = {what: NearestSearch(path, catalog, one) for what, one in SEARCHED.items()}
        self.runtime: Runtime | None = None
        """What runs the embedder: written down with the embeddings that come through this object."""

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
            for nearest in self._nearest.values():
                nearest.close()
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
                " use the weights it was made with, upgrade it to these, or index into a new gallery"
            )

    def classes(self, *, as_of: int | None = None) -> dict[str, int]:
        """Return the number of references of each class, sorted by name, now or at a revision."""
        with self._catalog.reading(as_of) as reader:
            return reader.classes()

    def mapped(self) -> int:
        """Return the number of references whose vectors an upgrade mapped, as their images were gone."""
        with self._catalog.reading() as reader:
            return len(reader.mapped())

    def runtimes(self) -> list[Runtime]:
        """Return what ran the embedder when its embeddings were made, as far as that was said."""
        with self._catalog.reading() as reader:
            return runtimes.known(reader)

    def describe(self, name: str, *, as_of: int | None = None) -> Description:
        """Return the class with its attributes and its references with theirs; ClassMissing if there is none."""
        with self._catalog.reading(as_of) as reader:
            return description.describe(reader, description.class_id(reader, name), check_name(name))

    def attributes(self, name: str) -> Attributes:
        """Return the attributes of a class; ClassMissing if there is none of that name."""
        with self._catalog.reading() as reader:
            return attributes.of_class(reader, description.class_id(reader, name))

    def log(self) -> list[Revision]:
        """Return what changed when, newest first."""
        with self._catalog.reading() as reader:
            return reader.log()

    def diff(self, before: int, after: int | None = None) -> Diff:
        """Return what differs between two revisions, or between one and now; RevisionMissing if one is not there."""
        with self._catalog.reading() as reader:
            return differences.diff(reader, before, after)

    def references(self, *, as_of: int | None = None) -> list[Reference]:
        """Return all references, now or at a revision, by the order in which they came, about 0.5 kB each."""
        with self._catalog.reading(as_of) as reader:
            names = reader.names()
            return [Reference(row.id, names[row.class_id], *row[2:]) for row in reader.references()]

    def staged_or_known(self, hashes: Iterable[str]) -> AbstractSet[str]:
        """Return those of the hashes whose embedding the catalog holds."""
        with self._catalog.reading() as reader:
            return reader.known(hashes)

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
