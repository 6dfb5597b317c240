"""A gallery to another embedder: its images are embedded anew, and one revision puts the new vectors in place.

Until that revision all queries are answered by the old embedder. The new vectors are staged as they come, so that a run
that was killed goes on. The old ones stay in the catalog: `undo` needs nothing but to let the old embedder come again.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import delete, insert, select, update

from indexer import alignment, folder, history, images, pipeline, sources_opened
from indexer.alignment import Loss
from indexer.catalog import Catalog
from indexer.errors import GalleryError, ImageError, SourceError
from indexer.gallery import Gallery
from indexer.images import MAX_PIXELS
from indexer.lock import WriterLock
from indexer.pipeline import Job, Model, Progress
from indexer.places import Source, Stat
from indexer.planning import silent, threads
from indexer.printable import printable
from indexer.reader import EmbedderRow, Reader, Row, chunks
from indexer.room import MEMORY, in_bytes
from indexer.runtimes import Runtime
from indexer.schema import embedders, embeddings, upgrades
from indexer.sources import Failure, Listing
from indexer.vectors import Vectors, as_queries, check_count


@dataclass(frozen=True, slots=True)
class Upgrade:
    """What an upgrade did.

    Attributes:
        embedded: images that the new embedder has embedded.
        mapped: images that were gone, whose old vectors were mapped into the new space.
        dropped: references that were left out, as their images were gone.
        loss: what the map loses, measured on images at hand; None if nothing was mapped.
        failed: images that could not be read, and why.
        revision: the gallery's newest; no new one if it has that embedder already.
        seconds: that all this took.
    """

    embedded: int
    mapped: int
    dropped: int
    loss: Loss | None
    failed: list[Failure]
    revision: int
    seconds: float


def upgrade(
    gallery: str | os.PathLike[str],
    model: Model,
    *,
    embedder: Mapping[str, Any] | None = None,
    runtime: Runtime | None = None,
    drop_missing: bool = False,
    batch_size: int = 32,
    max_pixels: int = MAX_PIXELS,
    memory: int | str = MEMORY,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Upgrade:
    """Let ``model`` be the embedder of the gallery at ``gallery``, in one revision; return what was done.

    Every image is looked for at its path, and believed if it has the content it had. The old vectors of those that
    are gone are mapped by what the others teach, and marked. Killed, the gallery is as before, and the next run goes
    on where this one was. Whoever has the gallery open meanwhile gets an EmbedderMismatch from then on.

    Args:
        gallery: is locked against other writers meanwhile.
        model: makes the new embeddings.
        embedder: what else to remember of it; anything JSON can hold.
        runtime: what runs the model, if that is to be remembered.
        drop_missing: leave out the references whose images are gone instead.
        batch_size: images embedded at once.
        max_pixels: larger images are refused.
        memory: that the process shall keep to, as for ``build.index``.
        workers: threads that read and decode; one a processor if None.
        progress: called with ("embedding" or "mapping", done, total).

    Raises:
        GalleryError: images are gone, and those at hand are too few to learn from, or there are none.
        GalleryBusy: another process is writing to the gallery.
    """
    started = time.perf_counter()
    check_count("batch_size", batch_size)
    check_count("max_pixels", max_pixels)
    in_bytes(memory)
    path, show = folder.find(gallery), progress or silent
    with closing(Catalog(path / folder.CATALOG)) as catalog, WriterLock(path / folder.LOCK).held():
        run = _Run(path, catalog, model, json.dumps(dict(embedder or {})), runtime)
        if model.fingerprint == catalog.fingerprint:
            with catalog.reading() as reader:
                return Upgrade(0, 0, 0, None, [], reader.newest().revision, time.perf_counter() - started)
        jobs = run.jobs()
        failed, _ = pipeline.run(
            jobs,
            model,
            run.stage,
            source=_Everywhere(row for rows in run.contents.values() for row in rows),
            batch_size=batch_size,
            max_pixels=max_pixels,
            memory=memory,
            workers=threads(workers),
            progress=show,
        )
        missing = run.missing(drop_missing=drop_missing)
        loss = run.map(missing, show) if missing and not drop_missing else None
        change = run.finish(missing if drop_missing else (), 0 if drop_missing else len(missing))
    with Gallery.open(path) as renewed:
        renewed.save_views()
    return Upgrade(
        embedded=len(run.contents) - len(missing),
        mapped=0 if drop_missing else len(missing),
        dropped=change.removed,
        loss=loss,
        failed=sorted({Failure(printable(one.path), one.reason) for one in failed}, key=lambda failure: failure.path),
        revision=change.revision,
        seconds=time.perf_counter() - started,
    )


class _Everywhere:
    """The images of all references: a path shows one, and stands for its root and its path there."""

    root = ""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._places = {row.shown: (row.root, row.path or "") for row in rows}
        self._opened: dict[str, Source] = {}
        self._opening = threading.Lock()

    def listing(self) -> Listing:
        raise NotImplementedError("the catalog lists them")

    def stat(self, path: str) -> Stat | None:
        return None

    def read(self, path: str) -> bytes:
        root, within = self._places[path]
        if root is None:
            return images.read(within)
        try:
            with self._opening:
                source = self._opened.get(root) or self._opened.setdefault(root, sources_opened.opened(root))
            return source.read(within)
        except SourceError as error:
            raise ImageError(path, str(error)) from error
        except KeyError as error:
            raise ImageError(path, "is not in the archive any more") from error


class _Run:
    """One upgrade: what the old embedder made, what the new one has made by now. Memory: about 0.5 kB a reference."""

    def __init__(self, path: Path, catalog: Catalog, model: Model, description: str, runtime: Runtime | None) -> None:
        self.path, self.catalog, self.runtime = path, catalog, runtime
        self.to = EmbedderRow(0, model.fingerprint, model.dim, description)
        self.contents: dict[str, list[Row]] = defaultdict(list)

    def jobs(self) -> list[Job]:
        """Write down the embedder to be; return what it has still to embed."""
        with self.catalog.writing() as reader:
            self.to = _written_down(reader, self.to)
            for row in reader.references():
                self.contents[row.hash].append(row)
            known = reader.by(self.to).known(self.contents)
        return [
            Job(hash, [row.shown for row in rows if row.path is not None])
            for hash, rows in self.contents.items()
            if hash not in known
        ]

    def stage(self, hashes: Sequence[str], vectors: NDArray[np.float32], *, mapped: bool = False) -> None:
        """Keep what was embedded, or mapped."""
        embeddings = as_queries(vectors, self.to.dim)
        with self.catalog.writing() as reader:
            new = reader.by(self.to)
            if mapped:
                history.stage(new, hashes, embeddings, mapped=hashes)
            else:
                history.stage(new, hashes, embeddings, runtime=self.runtime)

    def missing(self, *, drop_missing: bool) -> list[str]:
        """Return the contents that could not be embedded; a GalleryError if too few could."""
        with self.catalog.reading() as reader:
            known = reader.by(self.to).known(self.contents)
        missing = [hash for hash in self.contents if hash not in known]
        if missing and not known:
            raise GalleryError(f"{self.path}: none of its images is where it was; bring some back, then upgrade again")
        if missing and not drop_missing and len(known) < alignment.LEAST:
            raise GalleryError(
                f"{self.path}: {len(missing):,} images are gone, and the {len(known)} at hand are too few to learn from"
                f" how to map old vectors ({alignment.LEAST} at least); bring images back, or use --drop-missing"
            )
        return missing

    def map(self, missing: Sequence[str], progress: Progress) -> Loss:
        """Map the old vectors of the missing contents, and stage them, marked."""
        progress("mapping", 0, len(missing))
        with self.catalog.reading() as reader:
            map, loss = alignment.learn(*self._pairs(reader))
        done = 0
        for some in chunks(missing):
            with self.catalog.reading() as reader:
                hashes, vectors = reader.vectors_of(some)
            self.stage(hashes, map(vectors), mapped=True)
            progress("mapping", done := done + len(some), len(missing))
        return loss

    def _pairs(self, reader: Reader) -> tuple[Vectors, Vectors, NDArray[np.int64]]:
        """Return vectors by the old and by the new embedder, and their classes; contents that both have embedded."""
        new = reader.by(self.to)
        both = sorted(reader.truly_embedded(self.contents) & new.truly_embedded(self.contents))
        chosen = np.random.default_rng(0).permutation(len(both))[: alignment.MOST]
        old_vectors, new_vectors, labels = [], [], []
        for some in chunks(both[place] for place in sorted(chosen)):
            hashes, vectors = reader.vectors_of(some)
            _, others = new.vectors_of(some)
            old_vectors.append(vectors)
            new_vectors.append(others)
            labels += [self.contents[hash][0].class_id for hash in hashes]
        return np.concatenate(old_vectors), np.concatenate(new_vectors), np.array(labels)

    def finish(self, dropped: Sequence[str], mapped: int) -> history.Change:
        """Put the new embedder in the place of the old one."""
        leave = [row.id for hash in dropped for row in self.contents[hash]]
        counts = {"embedded": len(self.contents) - mapped - len(dropped), "mapped": mapped, "left out": len(dropped)}
        told = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
        name = json.loads(self.to.description).get("weights", self.to.fingerprint[:12])
        summary = f"upgrade to {name}: {told or 'no images'}"
        with self.catalog.writing() as reader:
            more = partial(_put_in_place, reader, self.to)
            return history.revise(reader, "upgrade", summary, leave=leave, more=more)


def _written_down(reader: Reader, to: EmbedderRow) -> EmbedderRow:
    """Return the embedder as a row of the catalog, without what a killed run has mapped: it maps better by now."""
    connection = reader.connection
    same = embedders.c.fingerprint == to.fingerprint
    if connection.scalar(select(embedders.c.id).where(same)) is None:
        connection.execute(insert(embedders).values(fingerprint=to.fingerprint, dim=to.dim, description=to.description))
    connection.execute(update(embedders).where(same).values(description=to.description))  # where it is may change
    row = EmbedderRow(*connection.execute(select(embedders).where(same)).one())
    if row.id not in {reader.first_embedder(), *connection.scalars(select(upgrades.c.embedder_id))}:
        connection.execute(delete(embeddings).where(embeddings.c.embedder_id == row.id, embeddings.c.mapped))
    return row


def _put_in_place(reader: Reader, to: EmbedderRow, revision: int) -> None:
    reader.connection.execute(update(upgrades).where(upgrades.c.went.is_(None)).values(went=revision))
    if to.id != reader.first_embedder():
        reader.connection.execute(insert(upgrades).values(embedder_id=to.id, came=revision))
