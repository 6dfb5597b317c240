"""Conditions on attributes: what a filtered query costs beside the unfiltered one, and whether it is exact.

A gallery of 10,000 classes of ten made unit vectors has an attribute that 50 %, 1 % or 0.01 % of the classes fulfil a
condition on. ``Gallery.search_references`` (k=10) and ``search_classes`` (k=5) are asked with and without it, in turns,
one query at a time and in batches of 100. One thread; medians. The oracle is NumPy over the references, and the
prototypes, that fulfil it.

    python benchmarks/filters.py [--classes 10000] [--dim 512] [--queries 60] [--seed 0] [--quick]

Expected: the fewer are left the less a query costs, and no answer differs; see benchmarks/results/filters.json. A few
minutes, 0.3 GB of disk and 1 GB of memory; --quick shows in seconds that the program works, and is not kept.
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

Vectors = NDArray[np.float32]

EACH, K, K_CLASSES = 10, 10, 5  # references of a class, references and classes to find
SHARES = (0.5, 0.01, 0.0001)
BATCH, BATCHES = 100, 5
CLOSE = 1e-6  # cosines nearer than this may stand in any order


def unit(vectors: Any) -> Vectors:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32)


def made_vectors(classes: int, dim: int, seed: int) -> Vectors:
    """Return unit vectors ``(classes, EACH, dim)``: a class's cosines with one another are about 0.5."""
    draw = np.random.default_rng(seed)
    return unit(draw.standard_normal((classes, EACH, dim), np.float32) + draw.standard_normal((classes, 1, dim)))


def make_gallery(path: Path, vectors: Vectors) -> Gallery:
    """Return a gallery of these vectors, with the number of each class as its attribute."""
    gallery = Gallery.create(path, dim=vectors.shape[2], fingerprint="made")
    places = [(number, place) for number in range(len(vectors)) for place in range(EACH)]
    come = [Coming(f"class {number}", f"{number} {place}", None, f"{number}/{place}") for number, place in places]
    flat = vectors.reshape(len(come), -1)
    for start in range(0, len(come), 1000):
        some = slice(start, start + 1000)
        gallery.stage([one.hash for one in come[some]], flat[some])
    gallery.revise("index", "index made vectors", leave=[], come=come)
    gallery.set_all((f"class {number}", None, {"number": number}) for number in range(len(vectors)))
    return gallery


def in_turns(calls: Sequence[Callable[[Vectors], Any]], batches: Sequence[Vectors]) -> list[float]:
    """Return the median milliseconds a query of each call; they take turns."""
    spent: list[list[float]] = [[] for _ in calls]
    for call in calls:
        call(batches[0])
    for batch in batches:
        for call, times in zip(calls, spent, strict=True):
            started = time.perf_counter()
            call(batch)
            times.append(1e3 * (time.perf_counter() - started) / len(batch))
    return [float(np.median(times)) for times in spent]


def wrong(found: Sequence[Sequence[tuple[int, float]]], vectors: Vectors, queries: Vectors, k: int) -> int:
    """Return how many answers, (row, score), are not the k nearest of ``vectors``, by brute force in float64."""
    other = 0
    for query, hits in zip(queries.astype(np.float64), found, strict=True):
        cosines = vectors @ query
        best = np.sort(cosines)[::-1][:k]
        scores = np.array([score for _, score in hits])
        right = len(hits) == len(best) and np.allclose(scores, best, atol=CLOSE)
        other += not (right and np.allclose(cosines[[number for number, _ in hits]], scores, atol=CLOSE))
    return other


def exactness(gallery: Gallery, vectors: Vectors, queries: Vectors, left: int) -> dict[str, Any]:
    where = {"number": {"<": left}}
    kept = vectors[:left].astype(np.float64)
    kept /= np.linalg.norm(kept, axis=2, keepdims=True)
    means = kept.sum(axis=1)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    other = 0
    for some in (queries[:1], queries):
        answers = gallery.search_classes(some, k=K_CLASSES, where=where)
        found = [[(int(hit.name.split()[1]), hit.score) for hit in answer.hits] for answer in answers]
        other += wrong(found, means, some, K_CLASSES)
        near = gallery.search_references(some, k=K, where=where)
        found = [[(place_of(hit.reference), hit.score) for hit in hits] for hits in near]
        other += wrong(found, kept.reshape(left * EACH, -1), some, K)
    return row(f"{left:,} classes left: answers that are not brute force's", other, "", "= 0", other == 0)


def place_of(reference: str) -> int:
    number, place = reference.split("/")
    return EACH * int(number) + int(place)


def costs(gallery: Gallery, queries: Vectors, left: int, *, single: int, goal: bool) -> list[dict[str, Any]]:
    where = {"number": {"<": left}}
    started = time.perf_counter()
    gallery.search_classes(queries[0], k=1, where=where)
    spent = 1e3 * (time.perf_counter() - started)
    rows = [row(f"{left:,} classes left: the first query with a condition", spent, "ms")]
    for size, count in ((1, single), (BATCH, len(queries))):
        batches = [queries[start : start + size] for start in range(0, count, size)]
        for what, search, k in (
            ("references", gallery.search_references, K),
            ("classes", gallery.search_classes, K_CLASSES),
        ):
            every, some = in_turns([partial(search, k=k), partial(search, k=k, where=where)], batches)
            how = f"{left:,} classes left, {what}, {'one query' if size == 1 else f'batches of {size}'}"
            verdict = ("<= 1.25", some <= 1.25 * every) if goal else ("", None)
            rows.append(row(f"{how}: unfiltered", every, "ms", median_of=len(batches)))
            rows.append(row(f"{how}: filtered", some, "ms", median_of=len(batches)))
            rows.append(row(f"{how}: filtered / unfiltered", some / every, "", *verdict))
    return rows


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--classes", type=int, default=10_000)
    arguments.add_argument("--dim", type=int, default=512)
    arguments.add_argument("--queries", type=int, default=60)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--quick", action="store_true")
    chosen = arguments.parse_args()
    if chosen.quick:
        chosen.classes, chosen.dim, chosen.queries = 300, 16, 5
    faiss.omp_set_num_threads(1)
    print(f"making {chosen.classes:,} classes x {EACH}", file=sys.stderr, flush=True)
    vectors = made_vectors(chosen.classes, chosen.dim, chosen.seed)
    draw = np.random.default_rng((chosen.seed, 1))
    near = vectors[draw.integers(0, chosen.classes, BATCHES * BATCH), 0]
    queries = unit(near + draw.standard_normal(near.shape) / chosen.dim**0.5)
    with (
        tempfile.TemporaryDirectory(prefix="firstsight-filters-") as folder,
        make_gallery(Path(folder) / "made.gallery", vectors) as gallery,
    ):
        gallery.search_classes(queries[0])
        rows = []
        for share in SHARES:
            left = max(1, round(share * chosen.classes))
            rows += costs(gallery, queries, left, single=chosen.queries, goal=not chosen.quick)
            rows.append(exactness(gallery, vectors, queries[:BATCH], left))
    report("filters", rows, keep=not chosen.quick)


if __name__ == "__main__":
    main()
