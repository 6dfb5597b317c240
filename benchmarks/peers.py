"""Libraries that users pick instead, each behind the calls of ``methods.Method`` and with an extra of its own.

``pip install 'firstsight[hnswlib,usearch,scann,svs,lancedb,milvus-lite]'``, or some of them; one that is not there is
left out, and a line says so. Each is set up as its own documentation advises for a high recall.
"""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from databases import BREADTHS, Lancedb, MilvusLite
from made import Vectors
from methods import Method, Rows, bytes_under

PROBES = [1, 2, 3, *(step << shift for shift in range(5) for step in (4, 5, 6, 7)), 128]


class Unfit(Exception):
    """A library cannot run on this machine; the message says why."""


class Hnswlib:
    """hnswlib with 16 links, built with a breadth of 200: its own defaults."""

    name, extra, rescores, most = "hnswlib", "hnswlib", False, 10_000_000

    def __init__(self) -> None:
        self._library = importlib.import_module("hnswlib")

    def build(self, vectors: Vectors, threads: int) -> None:
        self._index = self._library.Index("ip", vectors.shape[1])
        self._index.init_index(len(vectors), ef_construction=200, M=16)
        self._index.set_num_threads(threads)
        self._index.add_items(vectors)

    def settings(self) -> Sequence[int]:
        return BREADTHS

    def search(self, queries: Vectors, k: int, setting: int, threads: int) -> Rows:
        self._index.set_num_threads(threads)
        self._index.set_ef(max(setting, k))
        return self._index.knn_query(queries, k)[0].astype(np.int64)

    def bytes(self) -> int:
        return self._index.index_file_size()

    def save(self, folder: Path) -> None:
        self._index.save_index(str(folder / "index"))

    def load(self, folder: Path, vectors: Vectors) -> None:
        self._index = self._library.Index("ip", vectors.shape[1])
        self._index.load_index(str(folder / "index"))


class Usearch:
    """usearch with 16 links and half floats, built with a breadth of 128."""

    name, extra, rescores, most = "usearch f16", "usearch", False, 10_000_000

    def __init__(self) -> None:
        self._library = importlib.import_module("usearch.index")

    def _empty(self, dim: int) -> Any:
        settings = {"dtype": "f16", "connectivity": 16, "expansion_add": 128}
        return self._library.Index(ndim=dim, metric="ip", **settings)

    def build(self, vectors: Vectors, threads: int) -> None:
        self._index = self._empty(vectors.shape[1])
        self._index.add(np.arange(len(vectors)), vectors, threads=threads)

    def settings(self) -> Sequence[int]:
        return BREADTHS

    def search(self, queries: Vectors, k: int, setting: int, threads: int) -> Rows:
        self._index.expansion_search = max(setting, k)
        found = self._index.search(queries, k, threads=threads)
        return np.asarray(found.keys).reshape(len(queries), -1).astype(np.int64)

    def bytes(self) -> int:
        return self._index.serialized_length

    def save(self, folder: Path) -> None:
        self._index.save(str(folder / "index"))

    def load(self, folder: Path, vectors: Vectors) -> None:
        self._index = self._empty(vectors.shape[1])
        self._index.load(str(folder / "index"))


class Scann:
    """ScaNN as its page advises: a tree, anisotropic codes of two dimensions, re-ordering."""

    name, extra, rescores, most = "ScaNN", "scann", False, 10_000_000

    def __init__(self) -> None:
        self._library = importlib.import_module("scann").scann_ops_pybind

    def build(self, vectors: Vectors, threads: int) -> None:
        leaves = max(1, round(2 * len(vectors) ** 0.5))
        plan = self._library.builder(vectors, 10, "dot_product").set_n_training_threads(threads)
        plan = plan.tree(num_leaves=leaves, num_leaves_to_search=1, training_sample_size=min(len(vectors), 250_000))
        plan = plan.score_ah(2, anisotropic_quantization_threshold=0.2).reorder(100)
        self._leaves, self._count, self._index = leaves, vectors.size, plan.build()

    def settings(self) -> Sequence[tuple[int, int]]:
        return [(leaves, again) for leaves in PROBES if leaves <= self._leaves for again in (30, 100)]

    def search(self, queries: Vectors, k: int, setting: tuple[int, int], threads: int) -> Rows:
        wanted = {"leaves_to_search": setting[0], "pre_reorder_num_neighbors": max(setting[1], k)}
        if len(queries) == 1:
            found = self._index.search(queries[0], final_num_neighbors=k, **wanted)[0][np.newaxis]
        elif threads == 1:
            found = self._index.search_batched(queries, final_num_neighbors=k, **wanted)[0]
        else:
            self._index.set_num_threads(threads)
            found = self._index.search_batched_parallel(queries, final_num_neighbors=k, **wanted)[0]
        rows = np.full((len(queries), k), -1)
        rows[:, : found.shape[1]] = found
        return rows

    def bytes(self) -> int:
        return bytes_saved(self)

    def save(self, folder: Path) -> None:
        self._index.serialize(str(folder))

    def load(self, folder: Path, vectors: Vectors) -> None:
        self._leaves = max(1, round(2 * len(vectors) ** 0.5))
        self._index = self._library.load_searcher(str(folder))


class Svs:
    """Intel's Scalable Vector Search over half floats."""

    name, extra, rescores, most = "SVS f16", "svs", False, 1_000_000

    def __init__(self) -> None:
        self._library = importlib.import_module("svs")

    def build(self, vectors: Vectors, threads: int) -> None:
        svs = self._library
        plan = svs.VamanaBuildParameters(graph_max_degree=32, window_size=128, alpha=0.95)
        with tempfile.TemporaryDirectory(prefix="firstsight-svs-") as folder:
            data = self._packed(vectors, Path(folder))
            self._index = svs.Vamana.build(plan, data, svs.DistanceType.MIP, num_threads=threads)

    def settings(self) -> Sequence[int]:
        return BREADTHS

    def search(self, queries: Vectors, k: int, setting: int, threads: int) -> Rows:
        if self._index.num_threads != threads:
            self._index.num_threads = threads
        self._index.search_window_size = max(setting, k)
        return self._index.search(queries, k)[0].astype(np.int64)

    def bytes(self) -> int:
        return bytes_saved(self)

    def save(self, folder: Path) -> None:
        self._index.save(*(str(folder / part) for part in ("config", "graph", "data")))

    def load(self, folder: Path, vectors: Vectors) -> None:
        svs = self._library
        graph, data = svs.GraphLoader(str(folder / "graph")), self._loader(str(folder / "data"))
        self._index = svs.Vamana(str(folder / "config"), graph, data, svs.DistanceType.MIP, num_threads=1)

    def _packed(self, vectors: Vectors, folder: Path) -> Any:
        return vectors.astype(np.float16)

    def _loader(self, path: str) -> Any:
        return self._library.VectorDataLoader(path, self._library.DataType.float16)


class SvsLvq(Svs):
    """The same over its packed codes of four and eight bits; they end the process on other than Intel's processors."""

    name = "SVS LVQ4x8"

    def __init__(self) -> None:
        super().__init__()
        if "GenuineIntel" not in Path("/proc/cpuinfo").read_text(encoding="utf-8"):
            raise Unfit("its codes run on Intel's processors only")

    def _packed(self, vectors: Vectors, folder: Path) -> Any:
        return self._library.LVQLoader(self._written(vectors, folder), primary=4, residual=8)

    def _loader(self, path: str) -> Any:
        return self._library.LVQLoader(path)

    def _written(self, vectors: Vectors, folder: Path) -> Any:
        path = str(folder / "vectors.fvecs")
        self._library.write_vecs(vectors, path)
        return self._library.VectorDataLoader(path, self._library.DataType.float32, dims=vectors.shape[1])


class SvsLeanVec(SvsLvq):
    """The same over a quarter of the dimensions, a byte each, and the rest in eight bits to choose among candidates."""

    name = "SVS LeanVec"

    def _packed(self, vectors: Vectors, folder: Path) -> Any:
        kind = self._library.LeanVecKind.lvq8
        reduced = max(16, vectors.shape[1] // 4)
        return self._library.LeanVecLoader(
            self._written(vectors, folder), reduced, primary_kind=kind, secondary_kind=kind
        )

    def _loader(self, path: str) -> Any:
        return self._library.LeanVecLoader(path)


PEERS: tuple[Any, ...] = (Hnswlib, Usearch, Scann, Svs, SvsLvq, SvsLeanVec, Lancedb, MilvusLite)


def peers(count: int, say: Callable[[str], object]) -> list[Method]:
    """Return the libraries that are installed and take ``count`` vectors in bearable time; say which are left out."""
    found: list[Method] = []
    for peer in PEERS:
        if count > peer.most:
            say(f"{peer.name} is left out: it is measured with {peer.most:,} vectors at most")
            continue
        try:
            found.append(peer())
        except Unfit as reason:
            say(f"{peer.name} is left out: {reason}")
        except ImportError:
            say(f"{peer.name} is left out: it is not installed (pip install 'firstsight[{peer.extra}]')")
    return found


def bytes_saved(method: Method) -> int:
    """Return what a method writes, where the library does not say what it takes."""
    with tempfile.TemporaryDirectory(prefix="firstsight-saved-") as folder:
        method.save(Path(folder))
        return bytes_under(Path(folder))
