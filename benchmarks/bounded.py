"""Processes of their own that open a gallery and ask it, under a bound on their memory or beside one another."""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from resident import Peak, pages_of, status

from indexer import filed, serving
from indexer.faiss_index import FaissIndex
from indexer.folder import REFERENCES
from indexer.gallery import Gallery

SHARE = 1 / 3  # of what the vectors take, the memory that a process may have
LEAST = 160_000_000  # bytes, so that a toy gallery can be asked
BATCH, K = 100, 10

Vectors = NDArray[np.float32]

SPAWN = multiprocessing.get_context("spawn")


@contextmanager
def timed(into: list[float]) -> Iterator[None]:
    started = time.perf_counter()
    yield
    into.append(time.perf_counter() - started)


def as_if_large(size: int) -> None:
    """Let the views of a toy gallery stay in their files too."""
    filed.LARGE = min(filed.LARGE, size // 8)


def bound_to(size: int) -> int:
    """Refuse this process anonymous memory beyond what it has and a third of ``size``; return that third."""
    bound = max(LEAST, int(SHARE * size))
    now = status("VmData")
    resource.setrlimit(resource.RLIMIT_DATA, (now + bound, now + bound))
    return bound


def made_anew(path: Path, queries: Vectors, size: int, pipe: Connection) -> None:
    """Open the gallery where its views are not there, and ask: they are made from the catalog first."""
    as_if_large(size)
    search_once(queries)
    before = status("RssAnon")
    bound_to(size)
    peak, spent = Peak(), []
    with Gallery.open(path) as gallery, timed(spent):
        gallery.search_references(queries[0], k=K)
    pipe.send({"peak": peak.bytes - before, "seconds": spent[0], "written": (path / REFERENCES).exists()})


def bounded(path: Path, queries: Vectors, size: int, pipe: Connection) -> None:
    """Open and ask the gallery, exactly and by its index, where no more anonymous memory can be had."""
    as_if_large(size)
    search_once(queries)  # what libraries take for themselves
    before = status("RssAnon")
    peak, facts = Peak(), {"bound": bound_to(size), "first": []}
    try:
        held = np.empty(size, np.uint8)
        held[::4096] = 1
        facts["refused"] = False
        del held
    except MemoryError:
        facts["refused"] = True
    serving.PATIENCE, patience = sys.maxsize, serving.PATIENCE
    with Gallery.open(path) as gallery:
        with timed(facts["first"]):
            gallery.search_references(queries[0], k=K)
        gallery.search_references(queries[:BATCH], k=K)
        facts["exact"] = peak.bytes - before
        serving.PATIENCE = patience
        for start in range(0, len(queries), BATCH):
            gallery.search_references(queries[start : start + BATCH], k=K)
        facts["approximate"], facts["kind"] = peak.bytes - before, gallery.serving().kind
    pipe.send(facts)


def search_once(queries: Vectors) -> None:
    """Let FAISS, NumPy and their BLAS take what memory they keep."""
    np.matmul(queries, queries.T)
    index = FaissIndex(queries.shape[1]).adding(range(len(queries)), queries)
    for count in (1, len(queries)):
        index.search(queries[:count], K)


def holding(path: Path, queries: Vectors, size: int, pipe: Connection) -> None:
    """Look at all vectors of the gallery; then say, when asked to, how much memory the file's pages take."""
    as_if_large(size)
    with Gallery.open(path) as gallery:
        gallery.search_references(queries[:1], k=K)
        pipe.send("looked")
        pipe.recv()
        pipe.send(pages_of(path / REFERENCES))
        pipe.recv()


def in_process(work: Callable[..., None], *arguments: Any) -> Any:
    mine, theirs = SPAWN.Pipe()
    child = SPAWN.Process(target=work, args=(*arguments, theirs))
    child.start()
    theirs.close()
    try:
        return mine.recv()
    except EOFError:
        raise SystemExit("the process that was bounded ended without an answer") from None
    finally:
        child.join()
