"""A FAISS index as a file that says what it shows and proves that it is whole.

The file begins with the bytes FAISS writes, so ``faiss.read_index`` opens it. A trailer follows: the ids of the rows,
then a record (which gallery, which revision, how many rows) and a SHA-256 of all that stands before it. No parser
believes what it reads: the vectors are taken from where they must be, if that sum is right.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import faiss
from numpy.typing import NDArray

from indexer import folder
from indexer.buffer import Buffer, roomy
from indexer.faiss_index import FaissIndex

MAGIC = b"1STSIGHT"
CHUNK = 1 << 20
_RECORD = struct.Struct("<8s16s32sQ32sQQQ32s")  # magic, what, gallery, revision, mark, dim, count, FAISS bytes, sum
_DIGEST = 32
ROWS = 1024  # vectors gathered at once while they are written


class NoView(Exception):
    """The file is not there or cannot be believed; the message says why."""


@dataclass(frozen=True, slots=True)
class Label:
    """What a view shows: ``what`` of which gallery, at which revision of its history."""

    what: str
    gallery: str
    revision: int
    mark: str


def save(index: FaissIndex, path: Path, label: Label) -> None:
    """Write ``index`` to ``path``, whole or not at all. Raises OSError when the disk is full or may not be written."""
    with folder.written_whole(path) as file:
        _write(index, file, label)


def load(path: Path, *, what: str, gallery: str, dim: int) -> tuple[FaissIndex, Label]:
    """Return the index at ``path`` and its label; NoView unless it is whole and shows ``what`` of this gallery."""
    try:
        with path.open("rb") as file:
            return _read(file, what=what, gallery=gallery, dim=dim)
    except FileNotFoundError as error:
        raise NoView("is missing") from error
    except (OSError, MemoryError) as error:
        raise NoView(f"cannot be read ({error})") from error


def _write(index: FaissIndex, file: IO[bytes], label: Label) -> None:
    digest = hashlib.sha256()

    def write(data: Any) -> int:
        digest.update(data)
        return file.write(data)

    write(_header(index.dim, len(index)))
    for vectors in index.parts(ROWS):
        write(vectors.astype("<f4", copy=False))
    length = file.tell()
    write(index.ids.astype("<i8").tobytes())
    record = (MAGIC, label.what.encode(), label.gallery.encode(), label.revision, label.mark.encode())
    write(_RECORD.pack(*record, index.dim, len(index), length, b"")[:-_DIGEST])
    file.write(digest.digest())


def _read(file: IO[bytes], *, what: str, gallery: str, dim: int) -> tuple[FaissIndex, Label]:
    size = file.seek(0, os.SEEK_END)
    if size < _RECORD.size:
        raise NoView("is cut short")
    file.seek(size - _RECORD.size)
    record = file.read(_RECORD.size)
    magic, *label, width, count, length, digest = _RECORD.unpack(record)
    if magic != MAGIC or size != length + 8 * count + _RECORD.size or length < 4 * width * count:
        raise NoView("is cut short or is not a view")
    if width != dim:
        raise NoView("shows something else")
    file.seek(0)
    header = file.read(length - 4 * width * count)
    buffer = Buffer(width, roomy(count))  # no more than the file is long, and some room
    buffer.used = count
    rows = (buffer.vectors[:count].reshape(-1), buffer.ids[:count])
    if digest != _filled(file, header, rows, record[:-_DIGEST]):
        raise NoView("does not match its checksum")
    shown = Label(_text(label[0]), _text(label[1]), label[2], _text(label[3]))
    if (shown.what, shown.gallery) != (what, gallery):
        raise NoView("shows something else")
    if header != _header(dim, count):
        raise NoView("holds another kind of index")
    return FaissIndex(dim, buffer, count=count), shown


def _filled(file: IO[bytes], header: bytes, arrays: Iterable[NDArray[Any]], record: bytes) -> bytes:
    """Read the file's rest into the arrays; return the checksum of all of it."""
    digest = hashlib.sha256(header)
    for array in arrays:
        memory = array.data.cast("B") if array.size else memoryview(b"")
        for start in range(0, len(memory), CHUNK):
            part = memory[start : start + CHUNK]
            if file.readinto(part) != len(part):  # type: ignore[attr-defined]  # binary files have it
                raise NoView("is cut short")
            digest.update(part)
    digest.update(record)
    return digest.digest()


def _header(dim: int, count: int) -> bytes:
    """Return what FAISS writes before the vectors of an IndexFlatIP of so many."""
    empty: bytes = faiss.serialize_index(faiss.IndexFlatIP(dim)).tobytes()
    # That of an empty one, but for two numbers: of vectors, after the kind and dim, and of floats, at the end.
    return b"".join((empty[:8], struct.pack("<q", count), empty[16:-8], struct.pack("<Q", dim * count)))


def _text(field: bytes) -> str:
    return field.rstrip(b"\0").decode("ascii", "replace")
