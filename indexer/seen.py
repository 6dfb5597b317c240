"""Files as they were when they were last read: an unchanged one is not read again, a bad one not tried again.

All of it can be had again by reading the files, so it stands outside of the gallery's history.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy import delete, insert, select

from indexer.catalog import Catalog
from indexer.lock import WriterLock
from indexer.places import Stat, is_there
from indexer.printable import printable
from indexer.reader import CHUNK, chunks
from indexer.schema import files

# As git has it: a file changed this shortly before it was read may change again without a sign of it.
RACY_NS = 2_000_000_000
UNSURE = -1  # no file's inode


class Seen(NamedTuple):
    """A file as it was when it was read. With a reason, it could not be used; without a hash, not even be read."""

    stat: Stat
    hash: str | None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class KnownFailure:
    """A file that could not be used: where below which root, why, its size in bytes and its hash (None: not read)."""

    root: str
    path: str
    reason: str
    size: int
    hash: str | None


class SeenFiles:
    """The files that a gallery remembers to have seen."""

    def __init__(self, catalog: Catalog, writer: WriterLock) -> None:
        self._catalog = catalog
        self._writer = writer

    def below(self, root: str) -> dict[str, Seen]:
        """Return the files below a root, by path: about 0.5 kB each."""
        columns = (files.c.path, files.c.size, files.c.modified_ns, files.c.inode, files.c.hash, files.c.reason)
        with self._catalog.reading() as reader:
            rows = reader.connection.execute(select(*columns).where(files.c.root == root))
            return {
                path: Seen(Stat(size, modified_ns, inode), hash, reason)
                for chunk in rows.partitions(CHUNK)  # row by row takes three times as long
                for path, size, modified_ns, inode, hash, reason in chunk
            }

    def remember(self, root: str, seen: Mapping[str, Seen], *, forget: Collection[str] = ()) -> None:
        """Write down, in a transaction of its own, how files below a root are, and drop others."""
        if not seen and not forget:
            return
        with self._writer.held(), self._catalog.writing() as reader:
            for chunk in chunks(forget):
                reader.connection.execute(delete(files).where(files.c.root == root, files.c.path.in_(chunk)))
            for rows in chunks(_rows(root, seen)):
                reader.connection.execute(insert(files).prefix_with("OR REPLACE"), rows)

    def failures(self) -> list[KnownFailure]:
        """Return the files that could not be used when they were last seen, but for those that are gone since."""
        columns = (files.c.root, files.c.path, files.c.reason, files.c.size, files.c.hash)
        with self._catalog.reading() as reader:
            failed = select(*columns).where(files.c.reason.is_not(None)).order_by(files.c.root, files.c.path)
            found = [KnownFailure(*row) for row in reader.connection.execute(failed)]
        return [
            KnownFailure(one.root, printable(one.path), one.reason, one.size, one.hash)
            for one in found
            if not _gone(one)
        ]


def settled(stat: Stat, now_ns: int) -> Stat:
    """Return what to remember of a file that was as ``stat`` says when it was read, not before ``now_ns``.

    A file so young that it may change once more without another size or time is to be read again the next time.
    """
    return stat if stat.modified_ns + RACY_NS < now_ns else unsure(stat.size)


def unsure(size: int = 0) -> Stat:
    """Return what no file is like."""
    return Stat(size, 0, UNSURE)


def _rows(root: str, seen: Mapping[str, Seen]) -> Iterator[dict[str, object]]:
    for path, one in seen.items():
        yield {"root": root, "path": path, **one.stat._asdict(), "hash": one.hash, "reason": one.reason}


def _gone(one: KnownFailure) -> bool:
    """Tell whether a file is gone; where there is no folder here and now, or no such spelling, nobody can tell."""
    on_disk = os.path.isabs(one.path) or os.path.isdir(one.root)  # noqa: PTH112, PTH117
    return on_disk and "\\" not in one.path and not is_there(one.root, one.path)
