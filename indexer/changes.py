"""What a folder changes in a gallery: a comparison of contents, without side effects."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from indexer.gallery import Reference
from indexer.images import printable

Key = tuple[str, str]  # class name, content: what makes a reference one and the same


class File(NamedTuple):
    """A file that could be read: where below the root, in which class, with which content."""

    path: str
    name: str
    hash: str


@dataclass(slots=True)
class Changes:
    """What has to come and to leave so that the gallery holds what the folder holds.

    A file counts once: as added, changed (other content at a known path), moved (known content whose file is gone from
    where it was) or unchanged. Removed are the references that leave and have no such successor.
    """

    added: list[File] = field(default_factory=list)
    changed: list[File] = field(default_factory=list)
    moved: list[File] = field(default_factory=list)
    unchanged: int = 0
    removed: int = 0
    leave: list[int] = field(default_factory=list)

    @property
    def come(self) -> list[File]:
        """The files that become references, in the order of their paths."""
        return sorted(self.added + self.changed + self.moved)


def compare(files: Sequence[File], failed: Collection[str], references: Iterable[Reference], root: str) -> Changes:
    """Return what the files below ``root`` change.

    Learnt references and those of other roots stay, except that a file which is gone from another root, and whose
    content is here now, has moved. So do references to files that are there but could not be read (``failed``,
    printable paths of files or folders).
    """
    return _Comparison(files, failed, references, root).result()


class _Comparison:
    def __init__(
        self, files: Sequence[File], failed: Collection[str], references: Iterable[Reference], root: str
    ) -> None:
        self.root = root
        self.failed = frozenset(failed)
        self.files = files
        self.paths: dict[Key, list[str]] = defaultdict(list)
        for file in sorted(files):
            self.paths[file.name, file.hash].append(file.path)
        self.references = list(references)
        self.changes = Changes()

    def result(self) -> Changes:
        fresh, moving = self._known_keys()
        leaving = [one for one in self.references if one.id not in moving and not self._stays(one)]
        succeeded = self._moved_between_classes(fresh, leaving)
        succeeded |= self._changed_or_added(fresh, leaving)
        done = self.changes
        for listed in (done.added, done.changed, done.moved):
            listed.sort()
        done.leave = sorted(moving | {one.id for one in leaving})
        done.removed = len(leaving) - len(succeeded)
        done.unchanged = len(self.files) - len(done.added) - len(done.changed) - len(done.moved)
        return done

    def _known_keys(self) -> tuple[dict[Key, list[str]], set[int]]:
        """Return the keys no reference has, and the references whose file has moved within their class."""
        fresh = dict(self.paths)
        moving: set[int] = set()
        for one in self.references:
            paths = fresh.pop((one.name, one.hash), None)
            if paths and not self._stays(one):
                self.changes.moved.append(File(paths[0], one.name, one.hash))
                moving.add(one.id)
        return fresh, moving

    def _stays(self, one: Reference) -> bool:
        if one.root is None or one.path is None:
            return True
        here = self.paths.get((one.name, one.hash), ())
        if one.root != self.root:
            return not here or os.path.lexists(os.path.join(one.root, one.path))  # noqa: PTH118 (must not tidy)
        return one.path in here or self._failed(one.path)

    def _failed(self, path: str) -> bool:
        if not self.failed:
            return False
        parts = printable(path).split("/")
        return any("/".join(parts[:depth]) in self.failed for depth in range(1, len(parts) + 1))

    def _moved_between_classes(self, fresh: dict[Key, list[str]], leaving: Sequence[Reference]) -> set[int]:
        """Pair contents that left one class with the same that came to another."""
        gone: dict[str, list[Reference]] = defaultdict(list)
        for one in leaving:
            gone[one.hash].append(one)
        succeeded = set()
        for name, hash in list(fresh):
            if gone.get(hash):
                succeeded.add(gone[hash].pop().id)
                self.changes.moved.append(File(fresh.pop((name, hash))[0], name, hash))
        return succeeded

    def _changed_or_added(self, fresh: dict[Key, list[str]], leaving: Sequence[Reference]) -> set[int]:
        """Divide what is new: content at a path that was known with another content has changed."""
        places = {one.path: one.id for one in self.references if one.root == self.root}
        left = {one.id for one in leaving}
        succeeded = set()
        for (name, hash), paths in fresh.items():
            known = [path for path in paths if path in places]
            succeeded.update({places[path] for path in known[:1]} & left)
            (self.changes.changed if known else self.changes.added).append(File((known or paths)[0], name, hash))
        return succeeded
