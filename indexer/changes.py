"""What a folder changes in a gallery: a comparison of contents, without side effects."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from indexer.gallery import Reference
from indexer.places import is_there
from indexer.printable import printable

Key = tuple[str, str]  # class name, content: what makes a reference one and the same


class File(NamedTuple):
    """A file that could be read: where below the root, in which class, with which content."""

    path: str
    name: str
    hash: str


@dataclass(frozen=True, slots=True)
class Renamed:
    """A class all of whose references have moved to one new class, and how many they are."""

    old: str
    new: str
    images: int


@dataclass(slots=True)
class Changes:
    """What has to come and to leave so that the gallery holds what the folder holds.

    A file counts once: as added, changed (other content at a known path), moved (known content whose file is gone from
    where it was), carried (by its renamed class) or unchanged. Removed are the references that leave and have no such
    successor.
    """

    added: list[File] = field(default_factory=list)
    changed: list[File] = field(default_factory=list)
    moved: list[File] = field(default_factory=list)
    renamed: list[Renamed] = field(default_factory=list)
    carried: list[File] = field(default_factory=list)
    unchanged: int = 0
    lost: list[str] = field(default_factory=list)
    leave: list[int] = field(default_factory=list)

    @property
    def removed(self) -> int:
        """How many references leave for good; ``lost`` has their paths."""
        return len(self.lost)

    @property
    def come(self) -> list[File]:
        """The files that become references, in the order of their paths."""
        return sorted(self.added + self.changed + self.moved + self.carried)


def compare(
    files: Sequence[File],
    failed: Collection[str],
    references: Iterable[Reference],
    root: str,
    *,
    keep_removed: bool = False,
) -> Changes:
    """Return what the files below ``root`` change.

    Learnt references and those of other roots stay, except that a file which is gone from another root, and whose
    content is here now, has moved. So do references to files that are there but could not be read (``failed``,
    printable paths of files or folders), and if asked to, those whose files are gone.
    """
    return _Comparison(files, failed, references, root, keep_removed=keep_removed).result()


class _Comparison:
    def __init__(
        self,
        files: Sequence[File],
        failed: Collection[str],
        references: Iterable[Reference],
        root: str,
        *,
        keep_removed: bool,
    ) -> None:
        self.root = root
        self.keep_removed = keep_removed
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
        succeeded = self._renamed(fresh, leaving)
        succeeded |= self._moved_between_classes(fresh, [one for one in leaving if one.id not in succeeded])
        succeeded |= self._changed_or_added(fresh, leaving)
        lost = self._lost([one for one in leaving if one.id not in succeeded])
        done = self.changes
        for listed in (done.added, done.changed, done.moved, done.carried):
            listed.sort()
        done.leave = sorted(moving | succeeded | {one.id for one in lost})
        done.lost = sorted(printable(one.path or "") for one in lost)
        done.unchanged = len(self.files) - len(done.come)
        return done

    def _lost(self, leaving: Sequence[Reference]) -> Sequence[Reference]:
        """Return the references without successor that have to go: all, or those whose files show something else."""
        if not (leaving and self.keep_removed):
            return leaving
        there = {file.path for file in self.files}
        return [one for one in leaving if one.path in there]

    def _renamed(self, fresh: dict[Key, list[str]], leaving: Sequence[Reference]) -> set[int]:
        """Find classes that left whole, and whose contents, with those of no other, came to one new class."""
        arrived = self._arrived(fresh, {one.hash for one in leaving})
        sizes, present = Counter(one.name for one in self.references), {file.name for file in self.files}
        going: dict[str, list[Reference]] = defaultdict(list)
        for one in leaving:
            going[one.name].append(one)
        succeeded = set()
        for old, ones in sorted(going.items()):
            heirs = arrived.get(frozenset(one.hash for one in ones))
            if heirs and len(ones) == sizes[old] and old not in present:
                new = heirs.pop()
                self.changes.renamed.append(Renamed(old, new, len(ones)))
                self.changes.carried += [File(fresh.pop((new, one.hash))[0], new, one.hash) for one in ones]
                succeeded |= {one.id for one in ones}
        return succeeded

    def _arrived(self, fresh: Collection[Key], left: Collection[str]) -> dict[frozenset[str], list[str]]:
        """Return the new classes, last name first, by those of their contents that have left another class."""
        if not left:
            return {}
        known = {one.name for one in self.references}
        contents: dict[str, set[str]] = defaultdict(set)
        for name, hash in fresh:
            if hash in left and name not in known:
                contents[name].add(hash)
        arrived: dict[frozenset[str], list[str]] = defaultdict(list)
        for name in sorted(contents, reverse=True):
            arrived[frozenset(contents[name])].append(name)
        return arrived

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
            return not here or is_there(one.root, one.path)
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
