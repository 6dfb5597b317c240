"""Search at scale: how many of the exact neighbours kinds of index find, how fast, and in how much memory.

Made embeddings (made.py) from 10,000 to 1,000,000, or a gallery's own, are searched by each kind of index that
``firstsight tune`` tries, the way a gallery does it, and by libraries that users pick instead (peers.py). Each is built
once and searched harder and harder until it finds 90, 95 and 99 % of the ten nearest; at these three settings all take
turns, A B A B: single queries and batches of 1,000, on one thread and on all.

    python benchmarks/search.py [--sizes 10000 100000 1000000] [--dim 512] [--gallery PATH] [--only NAME ...]
        [--rounds 5] [--seed 0] [--quick]

Expected: see benchmarks/results/search.json and search.svg. Two hours, 16 GB of memory and a quiet machine for a
million; 10,000,000 need ``--only IVF`` and 40 GB. --quick (10,000 x 64) shows in a minute that the program works,
and its result is not kept. ``benchmarks/growth.py`` says from the results what a billion would need.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from made import Set, made_set
from numpy.typing import NDArray
from peers import Method, Rows, methods
from rows import RESULTS, report, row

from engine import charts
from indexer.gallery import Gallery
from indexer.rehearsal import rehearsal

K = 10  # neighbours that the targets are about
DEPTHS = (1, 10, 100)
TARGETS = (0.90, 0.95, 0.99)
BATCH, SINGLE = 1000, 200  # queries at once, and one after the other
QUICK = {"sizes": [10_000], "dim": 64, "rounds": 1}


@dataclass
class Entry:
    """A method that is built, and what was found at each setting that was tried."""

    method: Method
    build_seconds: float
    bytes_a_vector: float
    recalls: list[tuple[Any, float, float]] = field(default_factory=list)  # setting, ann_recall@K, seconds a query
    at: dict[float, Any] = field(default_factory=dict)  # target -> setting


# -- what is searched ------------------------------------------------------------------------------------------------


def gallery_set(path: str, queries: int, seed: int) -> Set:
    """Return the references of a gallery; those left out, and mixtures of two of a class, are the queries."""
    with Gallery.open(path) as gallery, gallery._views.fresh() as snapshot:
        vectors, ids = snapshot.references.all_vectors(), snapshot.references.ids.tolist()
        labels = np.array([snapshot.known[id].class_id for id in ids])
    made = rehearsal(vectors, labels, queries, seed)
    return Set(vectors[made.kept], labels[made.kept], np.concatenate(made.queries), np.tile(labels[made.held], 2))


def exact_neighbours(data: Set) -> Rows:
    """Return the rows of the nearest of each query, as deep as anything is measured."""
    return faiss.knn(
        data.queries, data.vectors, min(max(DEPTHS), len(data.vectors)), metric=faiss.METRIC_INNER_PRODUCT
    )[1]


def ann_recall(found: Rows, exact: Rows, k: int) -> float:
    """Return the share of the k nearest that were found, each counted once."""
    k = min(k, exact.shape[1])
    return float(
        np.mean([len(set(a) & set(b)) / k for a, b in zip(found[:, :k].tolist(), exact[:, :k].tolist(), strict=True)])
    )


def class_recall(found: Rows, data: Set, k: int) -> float:
    """Return the share of the queries of known class that have it among the classes of their k nearest."""
    known = data.asked >= 0
    hit = (data.labels[found[known, :k]] == data.asked[known, np.newaxis]) & (found[known, :k] >= 0)
    return float(hit.any(axis=1).mean())


# -- measures --------------------------------------------------------------------------------------------------------


def entered(method: Method, data: Set, exact: Rows, threads: int) -> Entry:
    """Build a method, and raise its setting until it meets all targets."""
    say(f"building {method.name} over {len(data.vectors):,}")
    started = time.perf_counter()
    method.build(data.vectors, threads)
    seconds = time.perf_counter() - started
    entry = Entry(method, seconds, method.bytes() / len(data.vectors))
    for setting in method.settings():
        started = time.perf_counter()
        found = method.search(data.queries, K, setting, threads)
        spent = (time.perf_counter() - started) / len(found)
        recall = ann_recall(found, exact, K)
        entry.recalls.append((setting, recall, spent))
        for target in TARGETS:
            if recall >= target:
                entry.at.setdefault(target, setting)
        if recall >= TARGETS[-1]:
            break
    return entry


def quality(size: str, entry: Entry, data: Set, exact: Rows, threads: int) -> list[dict[str, Any]]:
    """Return what a method takes, and what it finds at each target."""
    name, method = f"{size}, {entry.method.name}", entry.method
    rows = [
        row(f"{name}: build", entry.build_seconds, "s", threads=threads),
        row(f"{name}: bytes a vector", entry.bytes_a_vector, "B", exact_vectors_beside=method.rescores),
    ]
    for target, setting in entry.at.items():
        found = {k: method.search(data.queries, min(k, exact.shape[1]), setting, threads) for k in DEPTHS}
        facts: dict[str, Any] = {f"ann_recall@{k}": round(ann_recall(found[k], exact, k), 4) for k in DEPTHS}
        facts |= {f"recall_at_{k}": round(class_recall(found[K], data, k), 4) for k in (1, K)}
        recall = facts[f"ann_recall@{K}"]
        rows.append(row(f"{name} at {target:g}: ann_recall@{K}", recall, "", setting=str(setting), **facts))
    return rows


def in_turns(
    entries: Iterable[Entry], target: float, queries: NDArray[Any], threads: int, rounds: int
) -> dict[str, Any]:
    """Return for each method the queries a second of batches, by round, and the seconds of single queries."""
    able = [entry for entry in entries if target in entry.at]
    spent: dict[str, Any] = {entry.method.name: ([], []) for entry in able}
    batch, singles = np.resize(queries, (BATCH, queries.shape[1])), queries[:SINGLE]
    for _ in range(rounds):
        for entry in able:
            method, setting = entry.method, entry.at[target]
            batches, alone = spent[method.name]
            few = batch if method.name != "exact" else batch[: BATCH // 10]  # a tenth tells as much
            started = time.perf_counter()
            method.search(few, K, setting, threads)
            batches.append(len(few) / (time.perf_counter() - started))
            for query in range(len(singles) if method.name != "exact" else len(singles) // 10):
                started = time.perf_counter()
                method.search(singles[query : query + 1], K, setting, threads)
                alone.append(time.perf_counter() - started)
    return spent


def speed(
    size: str, entries: Sequence[Entry], queries: NDArray[Any], threads: int, rounds: int
) -> list[dict[str, Any]]:
    """Return the queries a second of all methods at each target, and how the best of ours stands to the best peer."""
    rows = []
    threaded = f"{threads} thread{'s' if threads > 1 else ''}"
    for target in TARGETS:
        spent = in_turns(entries, target, queries, threads, rounds)
        best: dict[tuple[str, bool], float] = {}
        for name, (batches, alone) in spent.items():
            what = f"{size}, {name} at {target:g}, {threaded}"
            spread = [round(float(end), 1) for end in (min(batches), max(batches))]
            p50, p95, p99 = (round(1e6 * float(np.quantile(alone, q)), 1) for q in (0.5, 0.95, 0.99))
            facts = {"p50_us": p50, "p95_us": p95, "p99_us": p99}
            values = {"one by one": 1 / float(np.median(alone)), f"batches of {BATCH:,}": float(np.median(batches))}
            for how, value in values.items():
                more = facts if how == "one by one" else {"spread": spread}
                rows.append(row(f"{what}, {how}", value, "queries/s", median_of=rounds, **more))
                ours = name.startswith(("HNSW", "IVF", "exact"))
                best[how, ours] = max(value, best.get((how, ours), 0.0))
        rows += [
            row(
                f"{size} at {target:g}, {threaded}, {how}: ours to the best peer",
                best[how, True] / value,
                "",
                ">= 1",
                best[how, True] >= value,
            )
            for (how, ours), value in best.items()
            if not ours
        ]
    return rows


def measure(
    data: Set, size: str, *, only: Sequence[str] | None, rounds: int
) -> tuple[list[dict[str, Any]], list[Entry]]:
    threads = os.cpu_count() or 1
    say(f"the exact neighbours of {len(data.queries):,} queries among {size}")
    exact = exact_neighbours(data)
    entries = [entered(one, data, exact, threads) for one in methods(*data.vectors.shape, only, say)]
    rows = []
    for entry in entries:
        rows += quality(size, entry, data, exact, threads)
    for number in sorted({1, threads}):
        rows += speed(size, entries, data.queries, number, rounds)
    return rows, entries


def draw(path: Path, size: str, entries: Sequence[Entry]) -> None:
    """Write a drawing of what all methods take for what they find, in batches on all threads."""
    lines = {entry.method.name: [(recall, 1 / spent) for _, recall, spent in entry.recalls] for entry in entries}
    path.write_text(
        charts.curves(
            f"Search through {size} vectors",
            lines,
            charts.nines(f"ann_recall@{K}"),
            charts.logarithmic("queries/s in batches, all threads"),
            goal=TARGETS[-1],
        ),
        encoding="utf-8",
    )


def say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    arguments.add_argument("--dim", type=int, default=512)
    arguments.add_argument("--gallery")
    arguments.add_argument("--only", nargs="+", help="beginnings of the names of methods")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--quick", action="store_true")
    chosen = arguments.parse_args()
    if chosen.quick:
        vars(chosen).update(QUICK)
    rows: list[dict[str, Any]] = []
    for count in chosen.sizes:
        data = made_set(count, chosen.dim, BATCH, chosen.seed)
        size = f"{count:,} x {chosen.dim}"
        more, entries = measure(data, size, only=chosen.only, rounds=chosen.rounds)
        rows += more
    if chosen.gallery:
        data = gallery_set(chosen.gallery, BATCH // 2, chosen.seed)
        size = f"a gallery's {len(data.vectors):,} x {data.vectors.shape[1]}"
        more, entries = measure(data, size, only=chosen.only, rounds=chosen.rounds)
        rows += more
    report("search", rows, keep=not chosen.quick)
    if not chosen.quick:
        draw(RESULTS / "search.svg", size, entries)


if __name__ == "__main__":
    main()
