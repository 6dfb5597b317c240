"""The query layer: what naming the nearest classes costs beyond the bare FAISS search that it rests on.

The embedding is given. Galleries of made unit vectors of 2,048 floats, 10,000 classes of one reference and 1,000 of
ten, answer ``Gallery.search_classes`` (k=5): checks, names, the reference nearest to the query, and the 100 cosines
that decisions need. Beside it, in turns, ``faiss.IndexFlatIP.search`` (k=5) looks through a copy of the same
prototypes. One thread; medians; both must find the same classes.

    python benchmarks/query.py [--queries 400] [--batches 20] [--seed 0] [--quick]

Expected: 0.2 ms or less beyond FAISS for a lone query, 5 % or less in batches of 100; see
benchmarks/results/query.json. About a minute, 0.5 GB of disk and 1 GB of memory; --quick shows in seconds that the
program works, and its result is not kept.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import indexer.kernels  # noqa: F401 - before FAISS: as in a gallery, so here

# isort: split
import faiss
import numpy as np
from numpy.typing import NDArray
from rows import report, row

from indexer.gallery import Gallery
from indexer.history import Coming
from indexer.vectors import METRICS

Vectors = NDArray[np.float32]
Times = NDArray[np.float64]
Call = Callable[[Vectors], Any]

DIM, K = 2048, 5
CASES = ((10_000, 1), (1_000, 10), (100, 1))  # classes, references of each; the last stays in the processor's cache
MORE, SHARE = 200.0, 5.0  # goals: microseconds that a lone query may cost beyond FAISS, per cent in batches
BATCH = 100
OPENINGS = 9


# -- what is searched ------------------------------------------------------------------------------------------------


def made_vectors(classes: int, references: int, seed: int) -> Vectors:
    """Return unit vectors ``(classes, references, DIM)``: a class's cosines with one another are about 0.5."""
    draw = np.random.default_rng(seed)
    vectors = draw.standard_normal((classes, references, DIM), np.float32)
    if references > 1:
        vectors += draw.standard_normal((classes, 1, DIM), np.float32)
    return _unit(vectors)


def made_queries(vectors: Vectors, count: int, seed: int) -> Vectors:
    """Return unit vectors ``(count, DIM)``, each near a random class."""
    draw = np.random.default_rng((seed, 1))
    known = vectors[draw.integers(0, len(vectors), count), 0]
    return _unit(known + draw.standard_normal((count, DIM), np.float32) / np.float32(DIM**0.5))


def _unit(vectors: Vectors) -> Vectors:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def class_name(number: int) -> str:
    return f"class {number:05}"


def make_gallery(path: Path, vectors: Vectors) -> None:
    """Make a gallery of ``(classes, references, DIM)`` vectors in one revision, with its views on disk."""
    come = [
        Coming(class_name(number), f"{number * vectors.shape[1] + place:064x}", "/photos", f"{number:05}/{place}.jpg")
        for number in range(len(vectors))
        for place in range(vectors.shape[1])
    ]
    flat = vectors.reshape(-1, DIM)
    with Gallery.create(path, dim=DIM, fingerprint="made") as gallery:
        for start in range(0, len(come), 1000):
            some = slice(start, start + 1000)
            gallery.stage([one.hash for one in come[some]], flat[some])
        gallery.revise("index", "index made vectors", leave=[], come=come)
        gallery.save_views()


def bare_index(vectors: Vectors) -> Any:
    """Return FAISS's own index of the prototypes, unit means that NumPy made."""
    index = faiss.IndexFlatIP(DIM)
    index.add(np.ascontiguousarray(_unit(vectors.mean(axis=1, dtype=np.float64)), np.float32))
    return index


# -- measures --------------------------------------------------------------------------------------------------------


def in_turns(one: Call, other: Call, batches: Sequence[Vectors]) -> tuple[Times, Times]:
    """Return the microseconds a query of two calls, for each batch; the calls take turns: A B A B."""
    times: tuple[list[float], list[float]] = ([], [])
    one(batches[0]), other(batches[0])  # warm
    for batch in batches:
        for call, spent in zip((one, other), times, strict=True):
            started = time.perf_counter()
            call(batch)
            spent.append(1e6 * (time.perf_counter() - started) / len(batch))
    return np.array(times[0]), np.array(times[1])


def beyond(how: str, bare: Call, ours: Call, batches: Sequence[Vectors]) -> list[dict[str, Any]]:
    """Return what a query costs, bare and ours, and the difference."""
    alone, full = in_turns(bare, ours, batches)
    rows = []
    for name, spent in (("FAISS alone", alone), ("search_classes", full)):
        p95 = round(float(np.quantile(spent, 0.95)), 1)
        rows.append(row(f"{how}: {name}", float(np.median(spent)), "µs", median_of=len(spent), p95=p95))
    more = rows[1]["value"] - rows[0]["value"]
    paired = {"median_of_pairs": round(float(np.median(full - alone)), 1)}
    if len(batches[0]) == 1:
        return [*rows, row(f"{how}: difference", more, "µs", f"<= {MORE:g}", more <= MORE, **paired)]
    share = 100 * more / rows[0]["value"]
    shared = row(f"{how}: difference, of FAISS alone", share, "%", f"<= {SHARE:g}", share <= SHARE)
    return [*rows, row(f"{how}: difference", more, "µs", **paired), shared]


def overhead(gallery: Gallery, index: Any, queries: Vectors, *, size: int) -> list[dict[str, Any]]:
    """Return the rows of both metrics, ``size`` queries at a time, and what two copies of FAISS's index differ by."""
    batches = [queries[start : start + size] for start in range(0, len(queries), size)]
    how = f"{facts(gallery)}, {f'batches of {size}' if size > 1 else 'one query'}"
    bare = partial(index.search, k=K)
    rows = []
    for metric in METRICS:
        ours = partial(gallery.search_classes, k=K, metric=metric)
        rows += beyond(f"{how}, {metric}", bare, ours, batches)
    alone, again = in_turns(bare, partial(faiss.clone_index(index).search, k=K), batches)
    noise = abs(float(np.median(again) - np.median(alone)))
    return [*rows, row(f"{how}: FAISS beside itself, noise", noise, "µs")]


def disagreement(gallery: Gallery, index: Any, queries: Vectors) -> dict[str, Any]:
    """Return how many answers do not name the classes that FAISS finds, in its order."""
    found = [[class_name(number) for number in rows] for rows in index.search(queries, K)[1].tolist()]
    other = 0
    for metric in METRICS:
        answers = gallery.search_classes(queries, k=K, metric=metric)
        other += sum(names != [hit.name for hit in one.hits] for names, one in zip(found, answers, strict=True))
    asked = len(METRICS) * len(queries)
    return row(f"{facts(gallery)}: answers that are not FAISS's", other, "", "= 0", other == 0, answers=asked)


def opening(path: Path, queries: Vectors) -> list[dict[str, Any]]:
    """Return the time from a gallery on disk, its views current and in the page cache, to the first answer."""
    ours, bare = [], []
    for query in queries:
        started = time.perf_counter()
        with Gallery.open(path) as gallery:
            gallery.search_classes(query, k=K)
            ours.append(1e3 * (time.perf_counter() - started))
            made = facts(gallery)
        started = time.perf_counter()
        indexes = [faiss.read_index(str(path / name)) for name in ("references.faiss", "prototypes.faiss")]
        bare.append(1e3 * (time.perf_counter() - started))
        del indexes
    return [
        row(f"{made}: from opening to the first answer", float(np.median(ours)), "ms", median_of=len(ours)),
        row(f"{made}: FAISS alone reading both views", float(np.median(bare)), "ms", median_of=len(bare)),
    ]


def facts(gallery: Gallery) -> str:
    return f"{len(gallery.classes()):,} classes x {len(gallery) // len(gallery.classes())}"


def measure(classes: int, references: int, *, queries: int, batches: int, seed: int) -> list[dict[str, Any]]:
    print(f"making {classes:,} classes x {references}", file=sys.stderr, flush=True)
    vectors = made_vectors(classes, references, seed)
    asked = made_queries(vectors, max(queries, BATCH * batches), seed)
    index = bare_index(vectors)
    with tempfile.TemporaryDirectory(prefix="firstsight-query-") as folder:
        path = Path(folder) / "made.gallery"
        make_gallery(path, vectors)
        del vectors
        rows = opening(path, asked[:OPENINGS])
        with Gallery.open(path) as gallery:
            rows += overhead(gallery, index, asked[:queries], size=1)
            rows += overhead(gallery, index, asked[: BATCH * batches], size=BATCH)
            rows.append(disagreement(gallery, index, asked[:queries]))
    return rows


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--queries", type=int, default=400)
    arguments.add_argument("--batches", type=int, default=20)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--quick", action="store_true")
    chosen = arguments.parse_args()
    faiss.omp_set_num_threads(1)
    rows = []
    for classes, references in CASES:
        if chosen.quick:
            rows += measure(classes // 10, references, queries=50, batches=2, seed=chosen.seed)
        else:
            rows += measure(classes, references, queries=chosen.queries, batches=chosen.batches, seed=chosen.seed)
    report("query", rows, keep=not chosen.quick)


if __name__ == "__main__":
    main()
