"""What indexing would do: find, hash what may have changed, compare; nothing is embedded, nothing written."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, TypedDict

from indexer import pipeline
from indexer.changes import Changes, File, compare
from indexer.errors import SourceError
from indexer.gallery import Gallery, Reference
from indexer.names import refuse_twins
from indexer.pipeline import Job, Progress, Unusable
from indexer.places import Source, Stat
from indexer.printable import printable
from indexer.seen import Seen, settled, unsure
from indexer.sources import Failure, Found
from indexer.sources_opened import opened
from indexer.vectors import check_count

MOST_WORKERS = 16


@dataclass(frozen=True, slots=True)
class Plan:
    """What indexing a folder would do: about 1 kB a file.

    Attributes:
        source: the folder, or wherever else the images are.
        files: what can be used as far as is known, with the hash of each content.
        failed: what cannot, and why.
        changes: what comes and what leaves.
        embed: contents whose embedding the gallery does not hold.
        seen: every file as it is, by path.
        news: those of them that are not as the gallery remembers them.
        gone: paths that the gallery remembers, and that are no more.
        keep_removed: whether references stay whose files are gone.
        described: attributes that the files' references shall have, by path; None removes one.
    """

    source: Source
    files: list[File]
    failed: list[Failure]
    changes: Changes
    embed: list[Job]
    seen: dict[str, Seen]
    news: dict[str, Seen]
    gone: list[str]
    keep_removed: bool
    described: dict[str, Mapping[str, Any]]

    @property
    def root(self) -> str:
        """The folder, absolute."""
        return self.source.root


class Options(TypedDict, total=False):
    """The keyword arguments of ``plan``, for those who pass them on; their defaults are its own."""

    class_depth: int
    keep_removed: bool
    paranoid: bool
    retry: bool
    workers: int | None
    progress: Progress | None


def plan(
    gallery: Gallery,
    root: str | os.PathLike[str] | Source,
    *,
    class_depth: int = 1,
    keep_removed: bool = False,
    paranoid: bool = False,
    retry: bool = False,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Plan:
    """Return what indexing ``root`` would do; arguments and errors as for ``index``.

    Only files are read that are not as the gallery remembers them, in size, time or inode.
    """
    source = opened(root, class_depth=class_depth)
    listing = source.listing()
    known = gallery.files.below(source.root)
    look = _Look(source, {} if paranoid else known, {} if retry else _bad(known))
    look.at(listing.files, threads(workers), progress or silent)
    for failure in listing.failed:
        look.seen.setdefault(failure.path, Seen(unsure(), None, failure.reason))
    failed = sorted([*listing.failed, *look.failed], key=lambda failure: failure.path)
    news = {path: one for path, one in look.seen.items() if known.get(path) != one}
    gone = [path for path in known if path not in look.seen]
    described = {found.path: found.attributes for found in listing.files if found.attributes}
    empty = Plan(source, look.files, failed, Changes(), [], look.seen, news, gone, keep_removed, described)
    return _compared(gallery, empty)


def without(gallery: Gallery, planned: Plan, unusable: Collection[Unusable]) -> Plan:
    """Return the plan for the files that are left."""
    if not unusable:
        return planned
    failures = [Failure(printable(one.path), one.reason) for one in unusable]
    failed = sorted([*planned.failed, *failures], key=lambda failure: failure.path)
    paths = {one.path for one in unusable}
    return _compared(
        gallery, replace(planned, files=[file for file in planned.files if file.path not in paths], failed=failed)
    )


def threads(workers: int | None) -> int:
    """Return how many threads read: as many as asked for, or one a processor."""
    if workers is not None:
        return check_count("workers", workers)
    return min(MOST_WORKERS, os.cpu_count() or 1)


def silent(stage: str, done: int, total: int) -> None:
    """Tell nobody of the progress."""


@dataclass(slots=True)
class _Look:
    """One look at every file: at its size and dates, and at its content where they are not ``known``."""

    source: Source
    known: Mapping[str, Seen]
    bad: Mapping[str, str]
    files: list[File] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)
    seen: dict[str, Seen] = field(default_factory=dict)

    def at(self, listed: Sequence[Found], workers: int, progress: Progress) -> None:
        now = time.time_ns()  # before any file is read
        unread: list[tuple[Found, Stat | None]] = []
        for found in listed:
            stat, before = self.source.stat(found.path), self.known.get(found.path)
            if before is None or before.hash is None or stat is None or before.stat != stat:
                unread.append((found, stat))
            elif before.reason is None:  # nearly all of them, nearly always
                self.seen[found.path] = before
                self.files.append(File(found.path, found.name, before.hash))
            else:
                self._note(found, stat, before.hash)
        for found, stat, hash in self._hashed(unread, workers, progress):
            if isinstance(hash, str):
                self._note(found, unsure() if stat is None else settled(stat, now), hash)
            else:
                self.failed.append(hash)
                self.seen[found.path] = Seen(unsure(stat.size if stat else 0), None, hash.reason)
        self.files.sort()

    def _note(self, found: Found, stat: Stat, hash: str) -> None:
        reason = self.bad.get(hash)
        self.seen[found.path] = Seen(stat, hash, reason)
        if reason is None:
            self.files.append(File(found.path, found.name, hash))
        else:
            self.failed.append(Failure(printable(found.path), reason))

    def _hashed(
        self, unread: Sequence[tuple[Found, Stat | None]], workers: int, progress: Progress
    ) -> Iterator[tuple[Found, Stat | None, str | Failure]]:
        total = len(unread)
        progress("reading", 0, total)
        hashes = pipeline.in_order(
            lambda one: pipeline.identified(one[0].path, self.source), unread, workers=workers, ahead=4 * workers
        )
        with closing(hashes):
            for done, ((found, stat), hash) in enumerate(zip(unread, hashes, strict=True), start=1):
                yield found, stat, hash
                if done % 64 == 0 or done == total:
                    progress("reading", done, total)


def _bad(known: Mapping[str, Seen]) -> dict[str, str]:
    """Return why contents cannot be used, by hash: wherever they are now, they are not tried again."""
    return {one.hash: one.reason for one in known.values() if one.hash and one.reason}


def _compared(gallery: Gallery, planned: Plan) -> Plan:
    files, failed = planned.files, planned.failed
    if not files:
        raise SourceError(
            f"{printable(planned.root)}: none of its {len(failed):,} files can be used;"
            f" the first is {failed[0].path}: {failed[0].reason}"
        )
    references = gallery.references()
    paths = {failure.path for failure in failed}
    changes = compare(files, paths, references, planned.root, keep_removed=planned.keep_removed)
    refuse_twins(_names_after(changes, references))
    return replace(planned, changes=changes, embed=_jobs(gallery, files, changes))


def _names_after(changes: Changes, references: Iterable[Reference]) -> set[str]:
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
