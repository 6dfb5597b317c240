"""Which files a folder holds: `root/<class>/**/file`, in a fixed order, with all that is wrong listed."""

from __future__ import annotations

import bisect
import errno
import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from indexer.errors import ArgumentError, SourceError
from indexer.images import looks_like_image
from indexer.names import check_name, fold
from indexer.printable import printable

CLUTTER: Final = frozenset({"thumbs.db", "desktop.ini", "__macosx"})
IMAGE_SUFFIXES: Final = (
    *(".jpg", ".jpeg", ".png", ".webp", ".gif", ".tif", ".tiff"),
    *(".bmp", ".avif", ".jp2", ".ppm", ".pgm", ".heic"),
)
BAD_NAME: Final = "has blanks at the ends of its name, or control characters in it: rename it"
NOT_UTF8: Final = "has a name that is not UTF-8: rename it"


@dataclass(frozen=True, slots=True)
class Found:
    """A file that may be an image: decoding decides."""

    path: str
    """Relative to the root, with slashes, as the folder spells it."""
    name: str
    """Of its class, in Unicode's NFC."""
    attributes: Mapping[str, Any] | None = None
    """What else a manifest says of it; None removes an attribute."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Something that was left out, and why."""

    path: str
    """Relative to the root, always printable: see `indexer.printable`."""
    reason: str


@dataclass(frozen=True, slots=True)
class Listing:
    """What a folder holds, sorted by path."""

    root: str
    """Absolute; links in it are not resolved."""
    files: tuple[Found, ...]
    failed: tuple[Failure, ...]


def find(root: str | os.PathLike[str], *, class_depth: int = 1) -> Listing:
    """Return the files below `root`, each with its class.

    The first `class_depth` levels of folders name the class (`"Greek/character01"` for 2); all regular files at any
    depth below belong to it. Hidden entries and the clutter of file browsers are passed over in silence, what cannot
    be used is listed as failed. No file in a class folder is opened.

    Raises:
        SourceError: there is no such folder, it holds no files in class folders or images outside of them, or two
            classes differ only by case.
        ArgumentError: `class_depth` is not a positive integer.
    """
    check_depth(class_depth)
    top = _checked(os.fspath(root))
    walk = _Walk(top)
    for folder in walk.class_folders(class_depth):
        walk.collect(folder)
    walk.fail_empty_image_folders()
    return listing(top, walk.files, walk.failed, outside=walk.outside)


def check_depth(class_depth: int) -> None:
    """Raise ArgumentError unless so many levels of folders can name a class."""
    if isinstance(class_depth, bool) or not isinstance(class_depth, int) or class_depth < 1:
        raise ArgumentError(f"class_depth is {class_depth!r}, and must be 1 or more")


def listing(root: str, files: Iterable[Found], failed: Iterable[Failure], *, outside: Collection[str] = ()) -> Listing:
    """Return a listing by path; SourceError for what makes the whole unfit. ``outside`` are images of no class."""
    by_path = Listing(
        root,
        tuple(sorted(files, key=lambda found: found.path)),
        tuple(sorted(failed, key=lambda failure: failure.path)),
    )
    shown = printable(root)
    if outside:
        first, count = printable(min(outside)), len(outside)
        what = "1 image lies" if count == 1 else f"{count} images lie"
        raise SourceError(f"{shown}: {what} outside of a class folder, first {first}: move each to its class")
    if not by_path.files:
        why = f" ({by_path.failed[0].path} {by_path.failed[0].reason})" if by_path.failed else ""
        raise SourceError(f"{shown}: holds no files in class folders{why}: make one folder a class")
    spelt: dict[str, str] = {}
    for name in sorted({found.name for found in by_path.files}):
        other = spelt.setdefault(fold(name), name)
        if other != name:
            raise SourceError(f"{shown}: classes {other} and {name} differ only by case: rename or merge them")
    return by_path


def _checked(root: str) -> str:
    """Return the root as an absolute path that is a folder with a name fit for the catalog."""
    shown = printable(root)
    if not root:
        raise SourceError("the folder's path is empty: name the folder that holds one folder a class")
    top = os.path.abspath(root)  # noqa: PTH100 - resolve() follows links, absolute() keeps ".."
    if not is_utf8(top):
        raise SourceError(f"{shown}: the path is not UTF-8: rename the folder")
    try:
        mode = os.stat(top).st_mode  # noqa: PTH116
    except (OSError, ValueError) as error:
        raise SourceError(f"{shown}: there is no such folder ({_why(error)})") from error
    if not stat.S_ISDIR(mode):
        raise SourceError(f"{shown}: is not a folder: name the folder that holds one folder a class")
    return top


@dataclass(slots=True)
class _Walk:
    """One pass over a folder. Paths are relative to `root`; the root itself is ''."""

    root: str
    files: list[Found] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)
    image_folders: list[str] = field(default_factory=list)

    def class_folders(self, depth: int) -> list[str]:
        """Return the folders `depth` levels down; note the images above them."""
        level = [""]
        while depth and level:
            level = [path for folder in level for path in self._named_folders(folder)]
            depth -= 1
        return level

    def collect(self, folder: str) -> None:
        """Add all files below a class folder. Links come last, so that what they repeat has its own path."""
        name = check_name(folder)
        seen = {self._identity("")}
        folders, links = [folder], list[str]()
        while folders or links:
            here = folders.pop() if folders else links.pop(0)
            identity = self._identity(here)
            if identity in seen:
                self._fail(here, "repeats a folder that is listed already")
                continue
            seen.add(identity)
            for path, mode, is_link in self._entries(here):
                if stat.S_ISREG(mode):
                    self.files.append(Found(path, name))
                elif not stat.S_ISDIR(mode):
                    self._fail(path, "is not a regular file")
                elif not is_link:
                    folders.append(path)
                elif not self._leads_back(path):
                    links.append(path)

    def fail_empty_image_folders(self) -> None:
        """List folders named like an image that hold no file: they are mistakes."""
        paths = sorted(found.path for found in self.files)
        failed = {failure.path for failure in self.failed}
        for folder in self.image_folders:
            after = bisect.bisect_left(paths, folder + "/")
            holds_files = after < len(paths) and paths[after].startswith(folder + "/")
            if not holds_files and printable(folder) not in failed:
                self._fail(folder, "is a folder, not an image")

    def _named_folders(self, folder: str) -> Iterator[str]:
        for path, mode, is_link in self._entries(folder):
            if stat.S_ISREG(mode) and looks_like_image(self._absolute(path)):
                self.outside.append(path)
            elif stat.S_ISDIR(mode) and self._is_class_name(path) and not (is_link and self._leads_back(path)):
                yield path

    def _entries(self, folder: str) -> Iterator[tuple[str, int, bool]]:
        """Yield path, mode (of what a link leads to) and whether it is a link, by name, for what can be used."""
        try:
            with os.scandir(self._absolute(folder)) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            self._fail(folder, f"is a folder that cannot be opened: {_why(error)}")
            return
        for entry in found:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if entry.name.startswith(".") or entry.name.lower() in CLUTTER:
                continue
            if not is_utf8(entry.name):
                self._fail(path, NOT_UTF8)
                continue
            mode = self._mode(path, entry)
            if mode is not None:
                if stat.S_ISDIR(mode) and entry.name.lower().endswith(IMAGE_SUFFIXES):
                    self.image_folders.append(path)
                yield path, mode, entry.is_symlink()

    def _mode(self, path: str, entry: os.DirEntry[str]) -> int | None:
        if entry.is_file(follow_symlinks=False):  # the folder itself tells: no file is touched
            return stat.S_IFREG
        try:
            return entry.stat().st_mode
        except FileNotFoundError:
            self._fail(path, "is a link to nothing" if entry.is_symlink() else "does not exist any more")
        except OSError as error:
            loops = error.errno == errno.ELOOP
            self._fail(path, "is a link that leads to itself" if loops else f"cannot be read: {_why(error)}")
        return None

    def _is_class_name(self, path: str) -> bool:
        """Tell whether a folder may name a class, as the catalog sees it; list it when not."""
        try:
            check_name(path.rpartition("/")[2])
        except ArgumentError:
            self._fail(path, BAD_NAME)
            return False
        return True

    def _leads_back(self, link: str) -> bool:
        """Tell whether a link leads to a folder that holds it; list it when so."""
        path = Path(self._absolute(link))
        if not path.parent.resolve().is_relative_to(path.resolve()):
            return False
        self._fail(link, "is a link back to a folder that holds it")
        return True

    def _identity(self, folder: str) -> tuple[int, int]:
        try:
            info = os.stat(self._absolute(folder))  # noqa: PTH116
        except OSError:
            return (-1, hash(folder))  # opening it will say why
        return (info.st_dev, info.st_ino)

    def _absolute(self, path: str) -> str:
        return f"{self.root}/{path}" if path else self.root

    def _fail(self, path: str, reason: str) -> None:
        self.failed.append(Failure(printable(path) or ".", reason))


def is_utf8(text: str) -> bool:
    """Tell whether a path can be written down; one that a system spells in bytes of another code cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _why(error: Exception) -> str:
    return printable(getattr(error, "strerror", None) or str(error)).lower()
