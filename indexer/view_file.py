"""A FAISS index as a file that says what it shows and proves that it is whole.

The file begins with the bytes FAISS writes, so ``faiss.read_index`` opens it. It is a sealed file: that header is a
block, then come blocks of vectors, then one of the ids of the rows. No parser believes what it reads: the vectors are
taken from where they must be, or stay there if they are many (``indexer.filed``), and each block is checked when it is
first asked for.
"""

from __future__ import annotations

import struct
from dataclasses import asdict
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from indexer import folder
from indexer.buffer import Buffer
from indexer.faiss_index import FaissIndex
from indexer.filed import ALIGNED, Filed, large
from indexer.sealed import Label, NoView, Sealed, Sealing

__all__ = ["Label", "NoView", "load", "save"]

_FAISS: Any = faiss  # its type stubs know no call with such arguments
BLOCK = 1 << 18  # bytes of vectors, about: a tenth of a millisecond to read and check


def save(index: FaissIndex, path: Path, label: Label) -> FaissIndex:
    """Write ``index`` to ``path``, whole or not at all; return it as it lies there, if it is large.

    Raises:
        OSError: the disk is full or may not be written.
    """
    rows, ids = _rows(index.dim), index.ids.astype("<i8")
    with folder.written_whole(path) as file:
        sealing = Sealing(file)
        header = _header(index.dim, len(index))
        sealing.add(header)
        for vectors in index.parts(rows):
            sealing.add(vectors.astype("<f4", copy=False))
        sealing.add(ids)
        sealing.seal({**asdict(label), "dim": index.dim, "count": len(index), "rows": rows})
        file.flush()
        filed = Filed(file.fileno(), len(header), len(index), index.dim)
    return FaissIndex.of(Buffer.of_file(index.dim, ids, filed)) if large(len(index), index.dim) else index


def load(path: Path, *, what: str, gallery: str, dim: int) -> tuple[FaissIndex, Label]:
    """Return the index at ``path`` and its label; NoView unless it is whole and shows ``what`` of this gallery.

    Of the vectors that is found out when they are asked for.
    """
    file = Sealed(path)
    shown = Label.read(file, what=what, gallery=gallery)
    if file.facts.get("dim") != dim:
        raise NoView("shows something else")
    count, rows = _sizes(file, dim)
    ids = np.frombuffer(file.read(len(file) - 1), "<i8")
    if not large(count, dim):
        return FaissIndex.of(
            Buffer.lazy(dim, ids, each=rows, fill=lambda block, to: file.read_into(1 + block, to))
        ), shown
    try:
        filed = Filed(file.fileno(), file.start(1), count, dim)
        buffer = Buffer.of_file(dim, ids, filed, each=rows, check=lambda block: file.check(1 + block))
    except OSError as error:
        raise NoView(f"cannot be mapped ({error})") from error
    return FaissIndex.of(buffer), shown


def _rows(dim: int) -> int:
    """Return how many vectors a block has."""
    return max(1, BLOCK // (4 * dim))


def _sizes(file: Sealed, dim: int) -> tuple[int, int]:
    """Return how many vectors there are, and in a block; NoView unless the blocks are those of an exact index."""
    count, rows = file.facts.get("count"), file.facts.get("rows")
    if isinstance(count, int) and isinstance(rows, int) and count >= 0 and rows > 0:
        vectors = [4 * dim * min(rows, count - start) for start in range(0, count, rows)]
        lengths = [file.length(block) for block in range(len(file))]
        if lengths[1:] == [*vectors, 8 * count] and file.read(0) == _header(dim, count):
            return count, rows
    raise NoView("holds another kind of index")


def _header(dim: int, count: int) -> bytes:
    """Return what FAISS writes before the vectors of an exact index of so many, of a length that is ``ALIGNED``.

    An IndexFlatIP's own 45 bytes would leave all floats at odd addresses. So one stands before it that takes vectors to
    some more dimensions and back, of which FAISS writes the numbers: as many as bytes are needed.
    """
    more = -2 * dim % (ALIGNED // 4)
    index = faiss.IndexPreTransform(faiss.IndexFlatIP(dim))
    for sizes in ((dim + more, dim), (dim, dim + more)):  # each before the others
        index.prepend_transform(_FAISS.RemapDimensionsTransform(*sizes, False))
    empty: bytes = faiss.serialize_index(index).tobytes()
    number = struct.pack("<q", count)
    # That of an empty one, but for three numbers: of vectors, after each kind and dim, and of floats, at the end.
    flat = b"".join((empty[-45:-37], number, empty[-29:-8], struct.pack("<Q", dim * count)))
    return b"".join((empty[:8], number, empty[16:-45], flat))
