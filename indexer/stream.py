"""Images one after another into a gallery, from anything that yields (class name, image): one pass, one revision."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sized
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple

from numpy.typing import NDArray

from indexer.errors import ArgumentError, ImageError
from indexer.gallery import Gallery
from indexer.history import Coming, counted
from indexer.images import ImageLike, load
from indexer.names import check_name, refuse_twins
from indexer.pictures import Pictures
from indexer.pipeline import Batches, Model, Progress, enough_for, in_order
from indexer.printable import printable
from indexer.reports import Report
from indexer.room import Room, shared_out
from indexer.sources import Failure
from indexer.stations import Clock, Stations
from indexer.thumbnails import thumbnail


class _Prepared(NamedTuple):
    name: str
    hash: str
    path: str | None
    array: NDArray[Any]
    jpeg: bytes | None


def index_images(
    gallery: Gallery,
    images: Iterable[tuple[str, ImageLike]],
    model: Model,
    *,
    batch_size: int,
    max_pixels: int,
    memory: int | str,
    thumbnails: bool,
    workers: int,
    progress: Progress,
) -> Report:
    """Add references to classes, new or not, in one revision; arguments and errors as for ``build.index``.

    Interrupted, what was embedded is kept: given once more, nothing of it is embedded again.
    """
    started = time.perf_counter()
    with gallery.writing():
        pictures = Pictures(gallery) if thumbnails else None
        taken = _Taken(gallery, pictures)
        room, batch_size = shared_out(memory, model, batch_size)
        ahead = workers + batch_size
        clock = Clock(workers=workers, batch_size=batch_size, room=ahead)
        way = _Way(model, max_pixels, thumbnails, room, clock)
        outcomes = in_order(way.prepared, enumerate(images, start=1), workers=workers, ahead=ahead)
        stage = pictures.stage if pictures else gallery.stage
        with Batches(model, stage, batch_size, clock) as batches, closing(outcomes):
            for done, outcome in enumerate(outcomes, start=1):
                if isinstance(outcome, _Prepared):
                    clock.taken()
                taken.take(outcome, batches)
                progress("embedding", done, len(images) if isinstance(images, Sized) else done)
        come = list(taken.come.values())
        gallery.revise("index", f"index {counted(len(come), 'image')}", leave=(), come=come)
        if come:
            gallery.save_views()
        return taken.report(time.perf_counter() - started, clock.read())


class _Taken:
    """What has come so far, and what of it was new."""

    def __init__(self, gallery: Gallery, pictures: Pictures | None) -> None:
        self.gallery = gallery
        self.pictures = pictures
        self.known = {(one.name, one.hash) for one in gallery.references()}
        self.names = {name for name, _ in self.known}
        self.come: dict[tuple[str, str], Coming] = {}
        self.embedded: set[str] = set()
        self.failed: list[Failure] = []
        self.unchanged = 0

    def take(self, outcome: _Prepared | Failure, batches: Batches) -> None:
        """Count one image, and have it embedded if no image of that content ever was."""
        if isinstance(outcome, Failure):
            self.failed.append(outcome)
            return
        name, hash, path, array, jpeg = outcome
        if hash not in self.embedded:
            self.embedded.add(hash)
            self._embed(hash, array, jpeg, batches)
        if (name, hash) in self.known or (name, hash) in self.come:
            self.unchanged += 1
            return
        if name not in self.names:
            refuse_twins(self.names | {name})
            self.names.add(name)
        self.come[name, hash] = Coming(name, hash, None, path)

    def _embed(self, hash: str, array: NDArray[Any], jpeg: bytes | None, batches: Batches) -> None:
        known = bool(self.gallery.staged_or_known([hash]))
        if self.pictures is not None and jpeg is not None:
            self.pictures.take(hash, jpeg, known=known)
        if not known:
            batches.add(hash, array)

    def report(self, seconds: float, stations: Stations) -> Report:
        """Return what all this did."""
        classes = self.gallery.classes()
        return Report(
            added=len(self.come),
            changed=0,
            moved=0,
            renamed=[],
            removed=0,
            unchanged=self.unchanged,
            failed=self.failed,
            classes=len(classes),
            images=sum(classes.values()),
            revision=self.gallery.revision,
            seconds=seconds,
            stations=stations,
            runtime=None if self.gallery.runtime is None else self.gallery.runtime.name,
        )


@dataclass(frozen=True, slots=True)
class _Way:
    """From what was given to the network's pixels."""

    model: Model
    max_pixels: int
    thumbnails: bool
    room: Room
    clock: Clock

    def prepared(self, numbered: tuple[int, object]) -> _Prepared | Failure:
        """Return an image ready to be embedded, or why it cannot be used."""
        number, given = numbered
        if not isinstance(given, tuple | list) or len(given) != 2:
            raise ArgumentError(
                f"image {number} came as {type(given).__name__}; give pairs of a class name and an image"
            )
        name, image = check_name(given[0]), given[1]
        try:
            return self._pixels(name, image)
        except ImageError as error:
            known = isinstance(image, str | os.PathLike)
            return Failure(printable(os.fsdecode(image)) if known else f"image {number}", error.reason)

    def _pixels(self, name: str, image: Any) -> _Prepared:
        with self.room.place() as place:
            with self.clock.at("decoding"):
                enough = enough_for(self.model)
                loaded = load(image, max_pixels=self.max_pixels, enough=enough, admit=place.take)
            with self.clock.at("preparing"):
                path = None if loaded.path is None else printable(os.path.abspath(loaded.path))  # noqa: PTH100
                jpeg = thumbnail(loaded.image) if self.thumbnails else None
                array = self.model.prepare(loaded.image)
        self.clock.prepared()
        return _Prepared(name, loaded.hash, path, array, jpeg)
