"""An approximate index as a file beside the views, with what it promises; it proves that it is whole.

It is derived, and so is the choice of its kind: measured on these vectors, by this FAISS, on this processor. So it lies
here and not in the catalog: nobody need carry it along, and where it is lost search is exact, which costs only time.

The file begins with the bytes FAISS writes. The ids of the rows follow, a record in JSON, the lengths of the three, and
a SHA-256 of all that stands before it. Nothing is handed to FAISS before that sum is right.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import faiss
import numpy as np

from indexer import folder
from indexer.approximate import Choice
from indexer.nearby import Base
from indexer.trials import Promise

MAGIC = b"1STNEARB"
CHUNK = 1 << 20
_LENGTHS = struct.Struct("<8sQQQ")  # magic; bytes of FAISS, ids and record
_DIGEST = 32
_WRONG = (MemoryError, RuntimeError, ValueError, KeyError, TypeError)  # RuntimeError: FAISS refuses
_FAISS: Any = faiss  # its type stubs lack the two classes for reading and writing through Python


def save(base: Base, path: Path, gallery: str) -> None:
    """Write ``base`` to ``path``, whole or not at all. Raises OSError when the disk is full or may not be written."""
    facts = {"choice": asdict(base.choice), "promise": asdict(base.promise), "floor": base.floor, "gallery": gallery}
    record = json.dumps(facts).encode()
    with folder.written_whole(path) as file:
        digest = hashlib.sha256()

        def write(data: Any) -> int:
            digest.update(data)
            return file.write(data)

        faiss.write_index(base.index, _FAISS.PyCallbackIOWriter(write))
        length = file.tell()
        write(base.ids.astype("<i8").tobytes())
        write(record)
        write(_LENGTHS.pack(MAGIC, length, 8 * len(base.ids), len(record)))
        file.write(digest.digest())


def load(path: Path, *, gallery: str, dim: int) -> Base | None:
    """Return what is at ``path``; None unless it is whole and of this gallery."""
    try:
        with path.open("rb") as file:
            return _read(file, gallery, dim)
    except (OSError, *_WRONG):
        return None


def peek(path: Path, *, gallery: str) -> tuple[Choice, Promise] | None:
    """Return what is said to be at ``path``, without the cost of checking it; None if nothing is, of this gallery."""
    try:
        with path.open("rb") as file:
            found = _record(file)
    except (OSError, *_WRONG):
        return None
    return None if found is None or found[2]["gallery"] != gallery else (found[0], found[1])


def _record(file: IO[bytes]) -> tuple[Choice, Promise, dict[str, Any], list[int]] | None:
    """Return kind, promise, all of the record, and the lengths of the three parts."""
    size = file.seek(0, os.SEEK_END)
    tail = _LENGTHS.size + _DIGEST
    file.seek(max(0, size - tail))
    end = file.read()
    if len(end) < tail:
        return None
    magic, *lengths = _LENGTHS.unpack(end[:-_DIGEST])
    if magic != MAGIC or sum(lengths) + tail != size:
        return None
    file.seek(lengths[0] + lengths[1])
    facts = json.loads(file.read(lengths[2]))
    return Choice(**facts["choice"]), Promise(**facts["promise"]), facts, lengths


def _read(file: IO[bytes], gallery: str, dim: int) -> Base | None:
    found = _record(file)
    if found is None or found[2]["gallery"] != gallery:
        return None
    choice, promise, facts, lengths = found
    if _sum(file, sum(lengths) + _LENGTHS.size) != file.read(_DIGEST):
        return None
    file.seek(lengths[0])
    ids = np.frombuffer(file.read(lengths[1]), "<i8").astype(np.int64)
    file.seek(0)
    index = faiss.read_index(_FAISS.PyCallbackIOReader(file.read))
    if index.d != dim or index.ntotal != len(ids):
        return None
    return Base(choice, index, ids, promise, facts["floor"])


def _sum(file: IO[bytes], length: int) -> bytes:
    digest = hashlib.sha256()
    file.seek(0)
    while length and (chunk := file.read(min(CHUNK, length))):
        digest.update(chunk)
        length -= len(chunk)
    return digest.digest()
