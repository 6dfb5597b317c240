"""A folder into a gallery, in bulk: find, hash, compare, embed what is new, and make it one revision."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Collection, Iterable
from contextlib import nullcontext
from typing import Unpack

from indexer import pipeline, planning, stream
from indexer.errors import ArgumentError
from indexer.gallery import Gallery
from indexer.history import Coming
from indexer.images import MAX_PIXELS, ImageLike
from indexer.pictures import Pictures
from indexer.pipeline import Model, Unusable
from indexer.places import Source
from indexer.planning import Plan, plan, silent, threads, without
from indexer.reports import Report, Status, preview, report, summary
from indexer.room import MEMORY, in_bytes
from indexer.seen import Seen, unsure
from indexer.vectors import check_count

__all__ = ["Options", "Plan", "Report", "Status", "index", "plan", "status"]


Images = str | os.PathLike[str] | Source | Iterable[tuple[str, ImageLike]]
"""Where images of known class come from."""


class Options(planning.Options, total=False):
    """The keyword arguments of ``index``, for those who pass them on; their defaults are its own and ``plan``'s."""

    batch_size: int
    max_pixels: int
    memory: int | str
    thumbnails: bool
    dry_run: bool


def status(gallery: Gallery, root: str | os.PathLike[str] | Source, **how: Unpack[planning.Options]) -> Status:
    """Return what indexing ``root`` would change, and change nothing; arguments and errors as for ``index``.

    Needs no model. Files that do not decode are found out only by embedding them.
    """
    started = time.perf_counter()
    planned = plan(gallery, root, **how)
    return preview(gallery, planned, time.perf_counter() - started)


def index(
    gallery: Gallery,
    root: Images,
    model: Model,
    *,
    batch_size: int = 32,
    max_pixels: int = MAX_PIXELS,
    memory: int | str = MEMORY,
    thumbnails: bool = False,
    dry_run: bool = False,
    **how: Unpack[planning.Options],
) -> Report:
    """Make the gallery hold what the folder holds, a class per sub-folder, in one revision; return what changed.

    References that were learnt, or came from other folders, stay. No content is ever embedded twice. Interrupted or
    killed, the gallery is as before, and the next run goes on where this one was.

    Args:
        gallery: is locked against other writers meanwhile.
        root: the folder; or a zip or tar file, a list of images (CSV, Parquet), a URL, a ``Source``, or any iterable
            of (class name, image), which only adds: its references are learnt ones.
        model: makes the embeddings; must be the one that made the gallery's.
        class_depth: how many levels of folders name a class.
        keep_removed: references stay whose files are gone, for a folder that is incomplete on purpose.
        paranoid: read every file, also those whose size, time and inode are what they were.
        retry: try files again that could not be used before, and have not changed since.
        batch_size: images embedded at once.
        max_pixels: larger images are refused.
        memory: that the process shall keep to, in bytes or as in "800MB": pictures wait for one another, and fewer than
            ``batch_size`` are embedded at once, where it is scarce. What it holds before the first image counts, and is
            not given back; a picture that is too large for its share has it to itself.
        thumbnails: keep a small JPEG of each image, some 3 kB, also of those that are known already.
        workers: threads that read and decode; one a processor if None.
        dry_run: only report what would be done: a Status. Files that do not decode are found out only by embedding
            them.
        progress: called with ("reading" or "embedding", done, total).

    Raises:
        SourceError: the folder cannot be indexed as it is, or none of its files can be used.
        ClassExists: classes of the folder and the gallery differ only by case.
        EmbedderMismatch: another model made the gallery.
        GalleryBusy: another process is writing to the gallery.
    """
    started = time.perf_counter()
    check_count("batch_size", batch_size)
    check_count("max_pixels", max_pixels)
    in_bytes(memory)  # a wrong one is told at once
    inspect.signature(plan).bind(gallery, root, **how)  # an iterable would not tell of a wrong argument
    reading = threads(how.get("workers"))
    progress = how.get("progress") or silent
    gallery.require(model.fingerprint)
    if model.dim != gallery.dim:
        raise ArgumentError(f"the model makes vectors of {model.dim} floats, the gallery holds {gallery.dim}")
    if not isinstance(root, str | os.PathLike | Source):
        if dry_run:
            raise ArgumentError("what an iterable would change is known only by going through it; index it")
        return stream.index_images(
            gallery,
            root,
            model,
            batch_size=batch_size,
            max_pixels=max_pixels,
            memory=memory,
            thumbnails=thumbnails,
            workers=reading,
            progress=progress,
        )
    with nullcontext() if dry_run else gallery.writing():
        planned = plan(gallery, root, **how)
        if dry_run:
            return preview(gallery, planned, time.perf_counter() - started)
        finding = time.perf_counter() - started
        gallery.files.remember(planned.root, planned.news, forget=planned.gone)
        pictures = Pictures(gallery) if thumbnails else None
        unusable, clock = pipeline.run(
            planned.embed,
            model,
            pictures.stage if pictures else gallery.stage,
            look=pictures.look if pictures else None,
            source=planned.source,
            batch_size=batch_size,
            max_pixels=max_pixels,
            memory=memory,
            workers=reading,
            progress=progress,
        )
        gallery.files.remember(planned.root, _quarantined(planned, unusable))
        planned = without(gallery, planned, unusable)
        if pictures:
            pictures.fill(planned.files, planned.source, max_pixels=max_pixels, workers=reading)
        _settle(gallery, planned)
        return report(gallery, planned, time.perf_counter() - started, clock.read(finding=finding))


def _quarantined(planned: Plan, unusable: Collection[Unusable]) -> dict[str, Seen]:
    """Return what to remember of files that could not be used: with its hash, a content is not tried again."""
    seen = {}
    for one in unusable:
        stat = planned.seen[one.path].stat
        seen[one.path] = Seen(stat if one.hash else unsure(stat.size), one.hash, one.reason)
    return seen


def _settle(gallery: Gallery, planned: Plan) -> None:
    changes = planned.changes
    come = [Coming(file.name, file.hash, planned.root, file.path) for file in changes.come]
    described = {
        (file.name, file.hash): planned.described[file.path] for file in planned.files if file.path in planned.described
    }
    if come or changes.leave or described:
        gallery.revise(
            "index",
            summary(planned),
            leave=changes.leave,
            come=come,
            renamed={one.old: one.new for one in changes.renamed},
            described=described,
        )
        gallery.save_views()
