"""A FAISS index as a file that says what it shows and proves that it is whole.

The file begins with the bytes FAISS writes, so ``faiss.read_index`` opens it. It is a sealed file: that header is a
block, then come blocks of vectors, then one of the ids of the rows. No parser believes what it reads: the vectors are
taken from where they must be, each block when it is first asked for, if its sum is right.
"""

from __future__ import annotations

import struct
from dataclasses import asdict
from pathlib import Path

import faiss
import numpy as np

from indexer import folder
from indexer.buffer import Buffer
from indexer.faiss_index import FaissIndex
from indexer.sealed import Label, NoView, Sealed, Sealing

__all__ = ["Label", "NoView", "load", "save"]

BLOCK = 1 << 18  # bytes of vectors, about: a tenth of a millisecond to read and check


def save(index: FaissIndex, path: Path, label: Label) -> None:
    """Write ``index`` to ``path``, whole or not at all. Raises OSError when the disk is full or may not be written."""
    rows = max(1, BLOCK // (4 * index.dim))
    with folder.written_whole(path) as file:
        sealing = Sealing(file)
        sealing.add(_header(index.dim, len(index)))
        for vectors in index.parts(rows):
            sealing.add(vectors.astype("<f4", copy=False))
        sealing.add(index.ids.astype("<i8"))
        sealing.seal({**asdict(label), "dim": index.dim, "count": len(index), "rows": rows})


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

    def fill(block: int, memory: memoryview) -> None:
        file.read_into(block + 1, memory)

    return FaissIndex(dim, Buffer.lazy(dim, ids, each=rows, fill=fill), count=count), shown


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
    """Return what FAISS writes before the vectors of an IndexFlatIP of so many."""
    empty: bytes = faiss.serialize_index(faiss.IndexFlatIP(dim)).tobytes()
    # That of an empty one, but for two numbers: of vectors, after the kind and dim, and of floats, at the end.
    return b"".join((empty[:8], struct.pack("<q", count), empty[16:-8], struct.pack("<Q", dim * count)))
