"""An approximate index as a file beside the views, with what it promises; it proves that it is whole.

It is derived, and so is the choice of its kind: measured on these vectors, by this FAISS, on this processor. So it lies
here and not in the catalog: nobody need carry it along, and where it is lost search is exact, which costs only time.

It is a sealed file: blocks of the bytes FAISS writes, so ``faiss.read_index`` opens it, then one of its ids.
Nothing is handed to FAISS before the sum of its block is right.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from indexer import folder
from indexer.approximate import Choice
from indexer.nearby import Base
from indexer.reader import Stamp
from indexer.sealed import NoView, Sealed, Sealing
from indexer.trials import Promise

_WRONG = (NoView, MemoryError, RuntimeError, ValueError, KeyError, TypeError)  # RuntimeError: FAISS refuses
_NEVER = 0, ""  # of no history: files were written without a stamp once
_FAISS: Any = faiss  # its type stubs lack the two classes for reading and writing through Python


def save(base: Base, path: Path, gallery: str) -> None:
    """Write ``base`` to ``path``, whole or not at all. Raises OSError when the disk is full or may not be written."""
    facts = {"choice": asdict(base.choice), "promise": asdict(base.promise), "floor": base.floor, "gallery": gallery}
    facts["stamp"] = list(base.stamp)
    with folder.written_whole(path) as file:
        sealing = Sealing(file)
        blocks = sealing.stream(lambda write: faiss.write_index(base.index, _FAISS.PyCallbackIOWriter(write)))
        sealing.add(base.ids.astype("<i8"))
        sealing.seal({**facts, "index": blocks})


def load(path: Path, *, gallery: str, dim: int) -> Base | None:
    """Return what is at ``path``; None unless it is whole and of this gallery."""
    try:
        file = Sealed(path)
        choice, promise = _told(file, gallery)
        blocks = int(file.facts["index"])
        ids = np.frombuffer(file.read(blocks), "<i8").astype(np.int64)
        index = faiss.read_index(_FAISS.PyCallbackIOReader(file.stream(range(blocks))))
        floor, stamp = float(file.facts["floor"]), Stamp(*file.facts.get("stamp", _NEVER))
    except _WRONG:
        return None
    return Base(choice, index, ids, stamp, promise, floor) if (index.d, index.ntotal) == (dim, len(ids)) else None


def peek(path: Path, *, gallery: str) -> tuple[Choice, Promise] | None:
    """Return what is said to be at ``path``, without the cost of checking it; None if nothing is, of this gallery."""
    try:
        return _told(Sealed(path), gallery)
    except _WRONG:
        return None


def _told(file: Sealed, gallery: str) -> tuple[Choice, Promise]:
    if file.facts["gallery"] != gallery:
        raise NoView("shows something else")
    return Choice(**file.facts["choice"]), Promise(**file.facts["promise"])
