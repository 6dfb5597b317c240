"""A folder into a gallery, in bulk: find, hash, compare, embed what is new, and make it one revision."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from typing import TypedDict

from indexer import pipeline, sources
from indexer.changes import Changes, File, compare
from indexer.errors import ArgumentError, SourceError
from indexer.gallery import Gallery, Reference
from indexer.history import Coming
from indexer.images import MAX_PIXELS, printable
from indexer.names import refuse_twins
from indexer.pipeline import Job, Model, Progress
from indexer.sources import Failure
from indexer.vectors import check_count

MOST_WORKERS = 16


class Options(TypedDict, total=False):
    """The keyword arguments of ``index``, for those who pass them on; their defaults are its own."""

    class_depth: int
    batch_size: int
    max_pixels: int
    workers: int | None
    dry_run: bool
    progress: Progress | None


@dataclass(frozen=True, slots=True)
class Report:
    """What indexing a folder did.

    Attributes:
        added: files whose content is new in their class.
        changed: files that have another content than before.
        moved: files with known content that were somewhere else before.
        removed: references whose files are gone from the folder.
        unchanged: files that the gallery knows as they are, copies within a class among them.
        failed: what could not be used, and why. A reference whose file is among them stays.
        classes: classes in the gallery now.
        images: references in the gallery now.
        revision: the gallery's newest; no new one if nothing changed.
        seconds: that all this took.
    """

    added: int
    changed: int
    moved: int
    removed: int
    unchanged: int
    failed: list[Failure]
    classes: int
    images: int
    revision: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What indexing a folder would do: about 0.5 kB a file.

    Attributes:
        root: the folder, absolute.
        files: what could be read, with the hash of each content.
        failed: what could not, and why.
        changes: what comes and what leaves.
        embed: contents whose embedding the gallery does not hold.
    """

    root: str
    files: list[File]
    failed: list[Failure]
    changes: Changes
    embed: list[Job]


def plan(
    gallery: Gallery,
    root: str | os.PathLike[str],
    *,
    class_depth: int = 1,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Plan:
    """Return what indexing ``root`` would do, by reading every file in it; arguments and errors as for ``index``."""
    listing = sources.find(root, class_depth=class_depth)
    files, failed = _hashed(listing, _threads(workers), progress or _silent)
    failed = sorted([*listing.failed, *failed], key=lambda failure: failure.path)
    return _compared(gallery, listing.root, files, failed)


def index(
    gallery: Gallery,
    root: str | os.PathLike[str],
    model: Model,
    *,
    class_depth: int = 1,
    batch_size: int = 32,
    max_pixels: int = MAX_PIXELS,
    workers: int | None = None,
    dry_run: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Make the gallery hold what the folder holds, a class per sub-folder, in one revision; return what changed.

    References that were learnt, or came from other folders, stay. No content is ever embedded twice. Interrupted or
    killed, the gallery is as before, and the next run goes on where this one was.

    Args:
        gallery: is locked against other writers meanwhile.
        root: the folder.
        model: makes the embeddings; must be the one that made the gallery's.
        class_depth: how many levels of folders name a class.
        batch_size: images embedded at once.
        max_pixels: larger images are refused.
        workers: threads that read and decode; one a processor if None.
        dry_run: only report what would be done. Files that do not decode are found out only by embedding them.
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
    gallery.require(model.fingerprint)
    if model.dim != gallery.dim:
        raise ArgumentError(f"the model makes vectors of {model.dim} floats, the gallery holds {gallery.dim}")
    with nullcontext() if dry_run else gallery.writing():
        planned = plan(gallery, root, class_depth=class_depth, workers=workers, progress=progress)
        if not dry_run:
            unusable = pipeline.run(
                planned.embed,
                model,
                gallery.stage,
                root=planned.root,
                batch_size=batch_size,
                max_pixels=max_pixels,
                workers=_threads(workers),
                progress=progress or _silent,
            )
            planned = _without(gallery, planned, unusable)
            _settle(gallery, planned)
        return _report(gallery, planned, time.perf_counter() - started)


def _hashed(listing: sources.Listing, workers: int, progress: Progress) -> tuple[list[File], list[Failure]]:
    files, failed, total = [], [], len(listing.files)
    progress("reading", 0, total)
    hashes = pipeline.in_order(
        lambda found: pipeline.identified(found.path, listing.root), listing.files, workers=workers, ahead=4 * workers
    )
    with closing(hashes):
        for done, (found, hash) in enumerate(zip(listing.files, hashes, strict=True), start=1):
            if isinstance(hash, Failure):
                failed.append(hash)
            else:
                files.append(File(found.path, found.name, hash))
            if done % 64 == 0 or done == total:
                progress("reading", done, total)
    return files, failed


def _compared(gallery: Gallery, root: str, files: list[File], failed: list[Failure]) -> Plan:
    if not files:
        raise SourceError(
            f"{printable(root)}: none of its {len(failed):,} files can be used;"
            f" the first is {failed[0].path}: {failed[0].reason}"
        )
    references = gallery.references()
    changes = compare(files, {failure.path for failure in failed}, references, root)
    refuse_twins(_names_after(changes, references))
    return Plan(root, files, failed, changes, _jobs(gallery, files, changes))


def _names_after(changes: Changes, references: Sequence[Reference]) -> set[str]:
    gone = set(changes.leave)
    return {one.name for one in references if one.id not in gone} | {file.name for file in changes.come}


def _jobs(gallery: Gallery, files: Sequence[File], changes: Changes) -> list[Job]:
    """Return the contents to embed, by the order of their first files, each with all the files that have it."""
    wanted = {file.hash for file in changes.come}
    wanted -= gallery.staged_or_known(wanted)
    paths: dict[str, list[str]] = {}
    for file in files:
        if file.hash in wanted:
            paths.setdefault(file.hash, []).append(file.path)
    return [Job(hash, where) for hash, where in paths.items()]


def _without(gallery: Gallery, planned: Plan, unusable: Collection[Failure]) -> Plan:
    """Return the plan for the files that are left."""
    if not unusable:
        return planned
    failed = sorted([*planned.failed, *unusable], key=lambda failure: failure.path)
    paths = {failure.path for failure in unusable}
    files = [file for file in planned.files if printable(file.path) not in paths]
    return _compared(gallery, planned.root, files, failed)


def _settle(gallery: Gallery, planned: Plan) -> None:
    changes = planned.changes
    counts = {
        "added": len(changes.added),
        "changed": len(changes.changed),
        "moved": len(changes.moved),
        "removed": changes.removed,
    }
    summary = f"index {printable(planned.root)}: " + ", ".join(f"{n:,} {what}" for what, n in counts.items() if n)
    come = [Coming(file.name, file.hash, planned.root, file.path) for file in changes.come]
    if come or changes.leave:
        gallery.revise("index", summary, leave=changes.leave, come=come)
        gallery.save_views()


def _report(gallery: Gallery, planned: Plan, seconds: float) -> Report:
    changes, classes = planned.changes, gallery.classes()
    return Report(
        added=len(changes.added),
        changed=len(changes.changed),
        moved=len(changes.moved),
        removed=changes.removed,
        unchanged=changes.unchanged,
        failed=planned.failed,
        classes=len(classes),
        images=sum(classes.values()),
        revision=gallery.revision,
        seconds=seconds,
    )


def _threads(workers: int | None) -> int:
    if workers is not None:
        return check_count("workers", workers)
    return min(MOST_WORKERS, os.cpu_count() or 1)


def _silent(stage: str, done: int, total: int) -> None:
    pass
