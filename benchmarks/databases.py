"""Databases that users pick instead, which search a folder of their own; peers.py names all."""

from __future__ import annotations

import importlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from made import Vectors
from methods import Rows, bytes_under

BREADTHS = [step << shift for shift in range(7) for step in (10, 12, 14, 16)]  # 10 to 1,024


class Lancedb:
    """LanceDB: lists of small graphs over scalar codes, refined with the vectors, on disk."""

    name, extra, rescores, most = "LanceDB", "lancedb", False, 100_000

    def __init__(self) -> None:
        os.environ.setdefault("LANCE_LOG", "error")  # it warns of each query
        self._library = importlib.import_module("lancedb")
        self._arrow = importlib.import_module("pyarrow")

    def build(self, vectors: Vectors, threads: int) -> None:
        self._folder = tempfile.mkdtemp(prefix="firstsight-lancedb-")
        arrow = self._arrow
        lists = arrow.FixedSizeListArray.from_arrays(arrow.array(vectors.ravel()), vectors.shape[1])
        table = arrow.table({"row": np.arange(len(vectors)), "vector": lists})
        self._table = self._library.connect(self._folder).create_table("vectors", table)
        index = importlib.import_module("lancedb.index").HnswSq(distance_type="dot", num_partitions=4)
        with pinned(threads):
            self._table.create_index("vector", config=index)

    def settings(self) -> Sequence[int]:
        return BREADTHS

    def search(self, queries: Vectors, k: int, setting: int, threads: int) -> Rows:
        rows = np.full((len(queries), k), -1)
        with pinned(threads):
            for place, query in enumerate(queries):
                found = (
                    self._table.search(query).distance_type("dot").nprobes(4).ef(max(setting, 2 * k)).refine_factor(2)
                )
                near = found.limit(k).select(["row", "_distance"]).to_arrow()["row"].to_numpy()
                rows[place, : len(near)] = near
        return rows

    def bytes(self) -> int:
        return bytes_under(Path(self._folder))

    def save(self, folder: Path) -> None:
        shutil.copytree(self._folder, folder, dirs_exist_ok=True)

    def load(self, folder: Path, vectors: Vectors) -> None:
        self._folder = str(folder)
        self._table = self._library.connect(self._folder).open_table("vectors")


class MilvusLite:
    """Milvus within the process: an HNSW graph with 16 links, built with a breadth of 200."""

    name, extra, rescores, most = "milvus-lite", "milvus-lite", False, 20_000

    def __init__(self) -> None:
        importlib.import_module("milvus_lite")
        self._library = importlib.import_module("pymilvus")

    def build(self, vectors: Vectors, threads: int) -> None:
        self._open(Path(tempfile.mkdtemp(prefix="firstsight-milvus-")) / "milvus.db")
        schema = self._client.create_schema()
        schema.add_field("row", self._library.DataType.INT64, is_primary=True)
        schema.add_field("vector", self._library.DataType.FLOAT_VECTOR, dim=vectors.shape[1])
        index = self._client.prepare_index_params()
        links = {"M": 16, "efConstruction": 200}
        index.add_index("vector", index_type="HNSW", metric_type="IP", params=links)
        self._client.create_collection("vectors", schema=schema, index_params=index)
        with pinned(threads):
            for start in range(0, len(vectors), 2000):
                some = vectors[start : start + 2000]
                self._client.insert("vectors", [{"row": start + n, "vector": one} for n, one in enumerate(some)])
            self._client.flush("vectors")
            self._client.load_collection("vectors")

    def settings(self) -> Sequence[int]:
        return BREADTHS[3:]

    def search(self, queries: Vectors, k: int, setting: int, threads: int) -> Rows:
        wanted = {"params": {"ef": max(setting, k)}}
        with pinned(threads):
            found = self._client.search(
                "vectors", data=list(queries), limit=k, search_params=wanted, anns_field="vector"
            )
        rows = np.full((len(queries), k), -1)
        for line, hits in zip(rows, found, strict=True):
            line[: len(hits)] = [hit["row"] for hit in hits]
        return rows

    def bytes(self) -> int:
        return bytes_under(self._path.parent)

    def save(self, folder: Path) -> None:
        self._client.close()
        shutil.copytree(self._path.parent, folder, dirs_exist_ok=True)
        self._open(self._path)

    def load(self, folder: Path, vectors: Vectors) -> None:
        self._open(folder / "milvus.db")

    def _open(self, path: Path) -> None:
        self._path, self._client = path, self._library.MilvusClient(str(path))
        if self._client.has_collection("vectors"):
            self._client.load_collection("vectors")


@contextmanager
def pinned(threads: int) -> Iterator[None]:
    """Keep the threads of a library that cannot be told how many to use on as many processors (Linux)."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    allowed = os.sched_getaffinity(0)
    if len(allowed) <= threads:
        yield
        return
    _pin(set(sorted(allowed)[:threads]))
    try:
        yield
    finally:
        _pin(allowed)


def _pin(processors: set[int]) -> None:
    for thread in Path("/proc/self/task").iterdir():
        with suppress(ProcessLookupError):  # it has ended meanwhile
            os.sched_setaffinity(int(thread.name), processors)
