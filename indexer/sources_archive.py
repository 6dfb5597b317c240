"""Images in a zip or tar file, read where they lie: ``class/image.jpg``, or WebDataset's ``key.jpg`` with ``key.cls``.

In a class folder the folder names the class. Elsewhere the text of ``key.cls`` or ``key.txt`` does, and ``key.cls``
does everywhere. A key is a path up to the first dot of its last part.
"""

from __future__ import annotations

import lzma
import os
import shutil
import tarfile
import tempfile
import weakref
import zipfile
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from indexer.errors import ImageError, SourceError
from indexer.images import MAX_BYTES
from indexer.places import Stat, file_stat
from indexer.printable import printable
from indexer.sources import IMAGE_SUFFIXES, Failure, Listing, check_depth
from indexer.sources_tree import listed

MOST_LABEL = 4096  # bytes in the name of a class
_ERRORS = (
    OSError,
    EOFError,
    ValueError,
    RuntimeError,  # a zip file with a password
    NotImplementedError,  # ... or a compression that Python has not
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
)


class _Members(Protocol):
    """The files in an archive: their sizes by path, what else is in it, and the bytes of one, in any thread."""

    sizes: dict[str, int]
    failed: list[Failure]

    def read(self, path: str, most: int) -> bytes: ...


class Archive:
    """A zip or tar file (of tar also compressed ones, unpacked into a temporary file), a class per folder or label."""

    def __init__(self, root: str | os.PathLike[str], *, class_depth: int = 1) -> None:
        check_depth(class_depth)
        self.root = os.path.abspath(root)  # noqa: PTH100 - links in it are not resolved
        self.class_depth = class_depth
        with self._only_source_errors():
            self._stat = file_stat(self.root)
            self._members: _Members = _Zip(self.root) if zipfile.is_zipfile(self.root) else _Tar(self.root)

    def listing(self) -> Listing:
        """Return the archive's files with their classes; labels are no images."""
        with self._only_source_errors():
            names = self._labelled()
        labels = {_key(path) for path in names}
        paths = [path for path in self._members.sizes if not (_key(path) in labels and _is_label(path))]
        return listed(self.root, paths, class_depth=self.class_depth, names=names, failed=self._members.failed)

    def stat(self, path: str) -> Stat | None:
        """Return the size of a file in the archive; its time and inode are the archive's."""
        return self._stat and self._stat._replace(size=self._members.sizes[path])

    def read(self, path: str) -> bytes:
        """Return the bytes of a file in the archive."""
        if self._members.sizes[path] > MAX_BYTES:
            raise ImageError(printable(path), f"is larger than {MAX_BYTES // 2**20} MiB")
        try:
            data = self._members.read(path, MAX_BYTES)
        except _ERRORS as error:
            raise ImageError(printable(path), f"cannot be read from its archive: {_why(error)}") from error
        if not data:
            raise ImageError(printable(path), "is empty")
        return data

    def _labelled(self) -> dict[str, str]:
        """Return the classes that files beside the images state, by the paths of the images."""
        groups: dict[str, dict[str, str]] = {}
        for path in self._members.sizes:
            key = _key(path)
            groups.setdefault(key, {})[path[len(key) :].lower()] = path
        names = {}
        for key, group in groups.items():
            in_class = key.count("/") >= self.class_depth
            label = group.get(".cls") or (None if in_class else group.get(".txt"))
            images = [path for path in group.values() if path.lower().endswith(IMAGE_SUFFIXES)]
            if label and images:
                names.update(dict.fromkeys(images, self._text(label)))
        return names

    def _text(self, label: str) -> str:
        return self._members.read(label, MOST_LABEL).decode(errors="replace").strip()

    @contextmanager
    def _only_source_errors(self) -> Iterator[None]:
        try:
            yield
        except _ERRORS as error:
            raise SourceError(
                f"{printable(self.root)}: cannot be read as a zip or tar file ({_why(error)}): pack it again"
            ) from error


class _Zip:
    def __init__(self, path: str) -> None:
        self._file = zipfile.ZipFile(path)
        weakref.finalize(self, self._file.close)
        self.sizes = {one.filename: one.file_size for one in self._file.infolist() if not one.is_dir()}
        self.failed: list[Failure] = []

    def read(self, path: str, most: int) -> bytes:
        with self._file.open(path) as file:
            return file.read(most)


class _Tar:
    """Knows where each file begins: reading one of many does not look through the others."""

    def __init__(self, path: str) -> None:
        self._file = Path(path).open("rb")  # noqa: SIM115 - closed with this object
        try:
            self._unpack()
            members = self._list()
        except BaseException:
            self._file.close()
            raise
        weakref.finalize(self, self._file.close)
        self._places = {one.name: one.offset_data for one in members}
        self.sizes = {one.name: one.size for one in members}

    def _unpack(self) -> None:
        with tarfile.open(fileobj=self._file, mode="r:*") as archive:
            packed: Any = archive.fileobj
            if packed is self._file:
                return
            unpacked = tempfile.TemporaryFile()  # noqa: SIM115 - takes the place of the packed one
            try:
                packed.seek(0)
                shutil.copyfileobj(packed, unpacked, 2**20)
            except BaseException:
                unpacked.close()
                raise
        self._file.close()
        self._file = unpacked  # type: ignore[assignment]

    def _list(self) -> Collection[tarfile.TarInfo]:
        """Return the regular files, the last of each name as when unpacking; note what cannot be used."""
        self._file.seek(0)
        with tarfile.open(fileobj=self._file, mode="r:") as archive:
            members = {one.name.removeprefix("./"): one for one in archive if not one.isdir()}
        for name, one in members.items():
            one.name = name
        self.failed = [Failure(printable(name), "is not a regular file") for name in _odd(members)]
        return [one for one in members.values() if one.isreg() and not one.issparse()]

    def read(self, path: str, most: int) -> bytes:
        size = min(self.sizes[path], most)
        data = os.pread(self._file.fileno(), size, self._places[path])
        if len(data) < size:
            raise EOFError("the archive ends too early")
        return data


def _odd(members: Mapping[str, tarfile.TarInfo]) -> Iterator[str]:
    return (name for name, one in members.items() if not one.isreg() or one.issparse())


def _key(path: str) -> str:
    folder, slash, name = path.rpartition("/")
    stem, dot, rest = name.partition(".")
    return folder + slash + (stem or dot + rest)


def _is_label(path: str) -> bool:
    return path[len(_key(path)) :].lower() in (".cls", ".txt")


def _why(error: Exception) -> str:
    return printable(getattr(error, "strerror", None) or str(error) or type(error).__name__).lower()
