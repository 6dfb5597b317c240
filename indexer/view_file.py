"""A FAISS index as a file that says what it shows and proves that it is whole.

The file begins with the bytes FAISS writes, so ``faiss.read_index`` opens it. A trailer follows: the ids of the rows,
then a record (which gallery, which revision, how many rows) and a SHA-256 of all that stands before it. Nothing is
handed to FAISS before that sum is right: its parser believes what it reads.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import faiss
import numpy as np

from indexer import folder
from indexer.faiss_index import FaissIndex

MAGIC = b"1STSIGHT"
CHUNK = 1 << 20
_RECORD = struct.Struct("<8s16s32sQ32sQQQ32s")  # magic, what, gallery, revision, mark, dim, count, FAISS bytes, sum
_DIGEST = 32
_FAISS: Any = faiss  # its type stubs lack the two classes for reading and writing through Python


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
    except (OSError, MemoryError, RuntimeError) as error:  # RuntimeError: FAISS refuses
        raise NoView(f"cannot be read ({error})") from error


def _write(index: FaissIndex, file: IO[bytes], label: Label) -> None:
    digest = hashlib.sha256()

    def write(data: Any) -> int:
        digest.update(data)
        return file.write(data)

    faiss.write_index(index.flat, _FAISS.PyCallbackIOWriter(write))
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
    magic, *label, width, count, length, digest = _RECORD.unpack(file.read(_RECORD.size))
    if magic != MAGIC or size != length + 8 * count + _RECORD.size:
        raise NoView("is cut short or is not a view")
    if digest != _sum(file, size - _DIGEST):
        raise NoView("does not match its checksum")
    shown = Label(_text(label[0]), _text(label[1]), label[2], _text(label[3]))
    if (shown.what, shown.gallery, width) != (what, gallery, dim):
        raise NoView("shows something else")
    file.seek(0)
    flat = faiss.read_index(_FAISS.PyCallbackIOReader(file.read))
    file.seek(length)
    ids = np.frombuffer(file.read(8 * count), "<i8").astype(np.int64)
    if not isinstance(flat, faiss.IndexFlatIP) or flat.d != dim or flat.ntotal != len(ids):
        raise NoView("holds another kind of index")
    return FaissIndex(dim, flat=flat, ids=ids), shown


def _sum(file: IO[bytes], length: int) -> bytes:
    digest = hashlib.sha256()
    file.seek(0)
    read: Callable[[int], bytes] = file.read
    while length and (chunk := read(min(CHUNK, length))):
        digest.update(chunk)
        length -= len(chunk)
    return digest.digest()


def _text(field: bytes) -> str:
    return field.rstrip(b"\0").decode("ascii", "replace")
