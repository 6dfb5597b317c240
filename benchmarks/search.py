"""Search at scale: how many of the exact neighbours kinds of index find, how fast, and in how much memory.

Made embeddings (made.py) from 10,000 to 1,000,000, or a gallery's own, are searched by each kind of index that
``firstsight tune`` tries, the way a gallery does it, and by libraries that users pick instead (peers.py). Each is built
once and searched harder and harder until it finds 90, 95 and 99 % of the ten nearest; at these three settings all take
turns, A B A B: single queries and batches of 1,000, on one thread and on all.

    python benchmarks/search.py [--sizes 10000 100000 1000000] [--dim 512] [--gallery PATH] [--only NAME ...]
        [--rounds 5] [--seed 0] [--indexes FOLDER] [--build] [--quick]

Building a million takes hours, measuring it minutes: with --indexes what is built is kept in a folder, and read from
there the next time; --build does no more than that. Results of sizes that are not measured now stay as they are.

Expected: see benchmarks/results/search.json. 16 GB of memory and a quiet machine for a million. 10,000,000 x 512 are
20 GB of vectors: they lie in a file under TMPDIR, exact search gives the right answers and is not timed, and most kinds
of index are too large (--only PCA64,IVF is not). --quick (5,000 x 128) shows in seconds that the program works, and its
result is not kept. ``benchmarks/growth.py`` says from the results what a billion would need.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from made import Set, made_set
from methods import Method, Rows, ours
from numpy.typing import NDArray
from peers import peers
from recalls import DEPTHS, ann_recall, class_recall, exact_neighbours
from rows import RESULTS, report, row

from indexer.gallery import Gallery
from indexer.rehearsal import rehearsal
from indexer.snapshot import Snapshot

K = 10  # neighbours that the targets are about
TARGETS = (0.90, 0.95, 0.99)
JUDGED = re.compile(r"1,000,000 x 512$")  # what the goal is about, with the two higher targets
BATCH, SINGLE = 1000, 200  # queries at once, and one after the other
MOST_EXACT = 1_000_000  # vectors; of more, exact search takes minutes a batch
SLOW = 1e-3  # seconds a query, beyond which a tenth of the queries tells as much
QUICK = {
    "sizes": [5_000],
    "dim": 128,
    "rounds": 1,
    "only": ["HNSW16", "IVF256,PQ", "PCA16", "hnsw", "usearch", "ScaNN"],
}


@dataclass
class Entry:
    """A method that is built, and what was found at each setting that was tried."""

    method: Method
    build_seconds: float
    bytes_a_vector: float
    recalls: dict[Any, float] = field(default_factory=dict)  # setting -> ann_recall@K
    at: dict[float, Any] = field(default_factory=dict)  # target -> setting
    share: int = 1  # of the queries, one of so many is enough to time it


# -- what is searched ------------------------------------------------------------------------------------------------


def gallery_set(path: str, queries: int, seed: int) -> Set:
    """Return the references of a gallery; those left out, and mixtures of two of a class, are the queries."""

    def references(snapshot: Snapshot) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        ids = snapshot.references.ids.tolist()
        return snapshot.references.all_vectors(), np.array([snapshot.known[id].class_id for id in ids])

    with Gallery.open(path) as gallery:
        vectors, labels = gallery._views.ask(references)
    made = rehearsal(vectors, labels, queries, seed)
    return Set(vectors[made.kept], labels[made.kept], np.concatenate(made.queries), np.tile(labels[made.held], 2))


# -- measures --------------------------------------------------------------------------------------------------------


def built(method: Method, data: Set, kept: Path | None) -> float:
    """Build a method, or read what was built before, and return the seconds that building took, on one thread."""
    folder = None if kept is None else kept / method.name
    record = None if folder is None else folder / "built.json"
    if folder is not None and record is not None and record.is_file():
        say(f"reading {method.name} over {len(data.vectors):,}")
        method.load(folder / "index", data.vectors)
        return float(json.loads(record.read_text())["processor_seconds"])
    say(f"building {method.name} over {len(data.vectors):,}")
    started = time.process_time()
    method.build(data.vectors, 1)
    seconds = time.process_time() - started
    if folder is not None and record is not None:
        (folder / "index").mkdir(parents=True, exist_ok=True)
        method.save(folder / "index")
        record.write_text(json.dumps({"processor_seconds": seconds}))
    return seconds


def entered(method: Method, data: Set, exact: Rows, threads: int, kept: Path | None = None) -> Entry:
    """Build a method, and raise its setting until it meets all targets."""
    seconds = built(method, data, kept)
    entry = Entry(method, seconds, method.bytes() / len(data.vectors))
    for setting in method.settings():
        started = time.perf_counter()
        found = method.search(data.queries, K, setting, threads)
        entry.share = 10 if time.perf_counter() - started > SLOW * len(found) else 1
        recall = ann_recall(found, exact, K)
        entry.recalls[setting] = recall
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
        row(f"{name}: build, one thread", entry.build_seconds, "s"),
        row(f"{name}: bytes a vector", entry.bytes_a_vector, "B", exact_vectors_beside=method.rescores),
    ]
    searched: dict[Any, dict[int, Rows]] = {}
    for target, setting in entry.at.items():
        if setting not in searched:
            searched[setting] = {
                k: method.search(data.queries, min(k, exact.shape[1]), setting, threads) for k in DEPTHS
            }
        found = searched[setting]
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
            few = batch[: BATCH // entry.share]
            started = time.perf_counter()
            method.search(few, K, setting, threads)
            batches.append(len(few) / (time.perf_counter() - started))
            for query in range(len(singles) // entry.share):
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
    known = {entry.method.name: entry for entry in entries}
    for target in TARGETS:
        spent = in_turns(entries, target, queries, threads, rounds)
        best: dict[tuple[str, bool], tuple[float, str]] = {}
        for name, (batches, alone) in spent.items():
            recall = round(known[name].recalls[known[name].at[target]], 4)
            what = f"{size}, {name} at {target:g}, {threaded}"
            spread = [round(float(end), 1) for end in (min(batches), max(batches))]
            p50, p95, p99 = (round(1e6 * float(np.quantile(alone, q)), 1) for q in (0.5, 0.95, 0.99))
            apart = np.array_split(np.array(alone), rounds)
            middles = [1 / float(np.median(some)) for some in apart]
            facts = {"p50_us": p50, "p95_us": p95, "p99_us": p99, "spread": [round(min(middles)), round(max(middles))]}
            values = {"one by one": 1 / float(np.median(alone)), f"batches of {BATCH:,}": float(np.median(batches))}
            for how, value in values.items():
                more = facts if how == "one by one" else {"spread": spread}
                rows.append(row(f"{what}, {how}", value, "queries/s", median_of=rounds, ann_recall=recall, **more))
                side = how, is_ours(name)
                best[side] = max((value, name), best.get(side, (0.0, "")))
        rows += [
            row(
                f"{size} at {target:g}, {threaded}, {how}: ours to the best peer",
                best[how, True][0] / value,
                "",
                *((">= 1", best[how, True][0] >= value) if JUDGED.match(size) and target >= TARGETS[1] else ()),
                ours=best[how, True][1],
                peer=peer,
            )
            for (how, own), (value, peer) in best.items()
            if not own
        ]
    return rows


def is_ours(name: str) -> bool:
    return name.startswith(("HNSW", "IVF", "PCA", "exact"))


def chosen_methods(data: Set, only: Sequence[str] | None) -> list[Method]:
    """Return exact search, our kinds and the peers; only those whose names begin as one of ``only``, if given."""
    found = [*ours(*data.vectors.shape), *peers(len(data.vectors), say)]
    if only is not None:
        found = [one for one in found if one.name.startswith(("exact", *only))]
    return [one for one in found if one.name != "exact" or len(data.vectors) <= MOST_EXACT]


def measure(
    data: Set, size: str, *, only: Sequence[str] | None, rounds: int, kept: Path | None = None
) -> tuple[list[dict[str, Any]], list[Entry]]:
    threads = os.cpu_count() or 1
    say(f"the exact neighbours of {len(data.queries):,} queries among {size}")
    exact = exact_neighbours(data)
    entries = [entered(one, data, exact, threads, kept) for one in chosen_methods(data, only)]
    rows = []
    for entry in entries:
        rows += quality(size, entry, data, exact, threads)
    for number in sorted({1, threads}):
        rows += speed(size, entries, data.queries, number, rounds)
    return rows, entries


def others(path: Path, sizes: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows that were kept of other sizes than these."""
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    now = tuple(f"{size}{end}" for size in sizes for end in (",", " at "))
    return [one for one in kept if not one["measure"].startswith(now)]


def say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def parsed() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--sizes", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    arguments.add_argument("--dim", type=int, default=512)
    arguments.add_argument("--gallery")
    arguments.add_argument("--only", nargs="+", help="beginnings of the names of methods")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--indexes", type=Path)
    arguments.add_argument("--build", action="store_true")
    arguments.add_argument("--quick", action="store_true")
    chosen = arguments.parse_args()
    if chosen.quick:
        vars(chosen).update(QUICK)
    return chosen


def sets(chosen: argparse.Namespace) -> Iterable[tuple[str, Set]]:
    """Yield what is to be searched, each with the name of its size."""
    for count in chosen.sizes:
        yield f"{count:,} x {chosen.dim}", made_set(count, chosen.dim, BATCH, chosen.seed)
    if chosen.gallery:
        data = gallery_set(chosen.gallery, BATCH // 2, chosen.seed)
        yield f"a gallery's {len(data.vectors):,} x {data.vectors.shape[1]}", data


def main() -> None:
    chosen = parsed()
    rows: list[dict[str, Any]] = []
    sizes: list[str] = []
    for size, data in sets(chosen):
        kept = None if chosen.indexes is None else chosen.indexes / f"{size}, seed {chosen.seed}"
        if chosen.build:
            for method in chosen_methods(data, chosen.only):
                built(method, data, kept)
            continue
        sizes.append(size)
        rows += measure(data, size, only=chosen.only, rounds=chosen.rounds, kept=kept)[0]
    if rows:
        report("search", [*others(RESULTS / "search.json", sizes), *rows], keep=not chosen.quick)


if __name__ == "__main__":
    main()
