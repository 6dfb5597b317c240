"""A gallery several times larger than the memory that a process may have: what it takes, and how fast it answers.

A gallery of made embeddings (made.py), its views on disk and an approximate index, is opened and asked in a
process of its own, which the system (RLIMIT_DATA) gives the libraries' own memory and a third of what the vectors take:
more than that of anonymous memory, the kind that cannot be let go of, is refused. That the bound is true is shown by
reading the vectors into memory under it, which must fail. The bound is on anonymous memory: what is in the page cache
is not bounded, so rates are those of a file that the system has room for, and the first answer is also measured with
the file's pages dropped from the cache.

How much anonymous memory there is says RssAnon in /proc/self/status, looked at every ten milliseconds. Rates are
compared with the same vectors in memory, in turns A B A B in a process that is not bounded. That two processes share
the pages says Pss in /proc/PID/smaps. Linux only.

    python benchmarks/larger_than_memory.py [--references 120000] [--dim 1024] [--seed 0] [--quick]

Expected: see benchmarks/results/larger_than_memory.json. Two minutes, 2 GB of disk, 2 GB of memory for making it;
--quick shows in seconds that the program works, and its result is not kept.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from bounded import BATCH, SPAWN, K, as_if_large, bounded, holding, in_process, made_anew, timed
from made import Set, made_set
from numpy.typing import NDArray
from resident import drop_pages
from rows import report, row

from indexer import nearby_file, search, vectors
from indexer.approximate import Choice, built
from indexer.approximate import size as index_size
from indexer.faiss_index import FaissIndex
from indexer.folder import NEARBY, REFERENCES, VIEWS
from indexer.gallery import Gallery
from indexer.history import Coming
from indexer.nearby import Base, Nearby
from indexer.promise import shares_found
from indexer.snapshot import Snapshot
from indexer.trials import Promise

COUNT, DIM = 120_000, 1024
SINGLE, ASKED, ROUNDS = 20, 400, 5
ANN_RECALL, EFFORT, DEPTH = 0.95, 24, 8
MEMORY_SHARE, MAKING_SHARE, SLOWER, SHARED = 0.25, 0.33, 0.8, 0.55

Vectors = NDArray[np.float32]


def make_gallery(path: Path, made: Set) -> None:
    """Make a gallery in one revision, its views on disk; what has no class is a class of its own."""
    come = [
        Coming(f"class {label:07}" if label >= 0 else f"thing {n:07}", f"{n:064x}", "/made", f"{n}.jpg")
        for n, label in enumerate(made.labels.tolist())
    ]
    with Gallery.create(path, dim=made.vectors.shape[1], fingerprint="made") as gallery:
        for start in range(0, len(come), 10_000):
            some = slice(start, start + 10_000)
            gallery.stage([one.hash for one in come[some]], made.vectors[some])
        gallery.revise("index", "index made vectors", leave=[], come=come)
        gallery.save_views()


def build(path: Path, choice: Choice) -> float:
    """Keep an approximate index beside the views; return what a vector takes in it, in bytes."""
    with Gallery.open(path) as gallery:
        snapshot: Snapshot = gallery._views.ask(lambda snapshot: snapshot)
        references = snapshot.references
        index = built(choice.factory, references.laid_out(), np.arange(len(references)))
        base = Base(choice, index, references.ids, snapshot.stamp, Promise(ANN_RECALL, k=K), -1.0)
        nearby_file.save(base, path / NEARBY, gallery._catalog.id)
        return index_size(index) / len(references)


# -- measures ---------------------------------------------------------------------------------------------------------


def memory(path: Path, queries: Vectors, size: int) -> list[dict[str, Any]]:
    warm = in_process(bounded, path, queries, size)
    colds = []
    for _ in range(3):
        drop_pages(path / REFERENCES)
        colds += in_process(bounded, path, queries[:1], size)["first"]
    rows = [
        row(
            "so much anonymous memory may be had beside the libraries' own",
            warm["bound"] / 1e6,
            "MB",
            vectors_mb=round(size / 1e6),
        ),
        row("under that bound the vectors fit into memory", 1 - warm["refused"], "", "0", warm["refused"]),
    ]
    for what in ("exact", "approximate"):
        share = warm[what] / size
        rows.append(
            row(
                f"{what}: peak anonymous memory, to the vectors",
                share,
                "",
                f"< {MEMORY_SHARE}",
                share < MEMORY_SHARE,
                megabytes=round(warm[what] / 1e6, 1),
                kind="Flat" if what == "exact" else warm["kind"],
            )
        )
    rows.append(row("exact: first answer, all blocks checked, file in the page cache", warm["first"][0], "s"))
    rows.append(row("exact: first answer, nothing of the file in the page cache", float(np.median(colds)), "s"))
    return rows


def making(path: Path, queries: Vectors, size: int) -> dict[str, Any]:
    for view in VIEWS:
        (path / view).unlink()
    made = in_process(made_anew, path, queries, size)
    share, facts = made["peak"] / size, {"seconds": round(made["seconds"], 1), "written": made["written"]}
    what = "making all views anew from the catalog: peak anonymous memory, to the vectors"
    return row(what, share, "", f"< {MAKING_SHARE}", share < MAKING_SHARE, **facts)


def copied(index: FaissIndex) -> FaissIndex:
    """Return the same in memory."""
    return FaissIndex(index.dim).adding(index.ids, index.all_vectors())


def rates(path: Path, queries: Vectors) -> list[dict[str, Any]]:
    """Compare queries a second with those of the same vectors in memory."""
    metric = vectors.metric_named("cosine")
    with Gallery.open(path) as gallery:
        in_file: Snapshot = gallery._views.ask(lambda snapshot: snapshot)
        held = replace(in_file, references=copied(in_file.references), prototypes=copied(in_file.prototypes))
        base = gallery._nearest["references"]._loaded()
        near = {id(one): Nearby(base, one.references) for one in (in_file, held)}

        def exactly(snapshot: Snapshot, some: Vectors) -> None:
            search.references(snapshot, some, k=K, metric=metric)

        def approximate(snapshot: Snapshot, some: Vectors) -> None:
            nearest = near[id(snapshot)].search_rows
            search.references(snapshot, some, k=K, metric=metric, nearest=lambda _, *rest: nearest(*rest))

        rows = []
        for name, ask, count, size in (
            ("exact, one by one", exactly, SINGLE, 1),
            (f"exact, batches of {BATCH}", exactly, BATCH, BATCH),
            ("approximate, one by one", approximate, ASKED, 1),
            (f"approximate, batches of {BATCH}", approximate, ASKED, BATCH),
        ):
            rows.append(compared(name, ask, (in_file, held), queries[:count], size))
        found, exact = (one.search_rows(queries, K)[0] for one in (near[id(in_file)], in_file.references))
        rows.append(row("approximate: ann_recall@10", float(shares_found(found, exact).mean()), "", f"> {ANN_RECALL}"))
    return rows


def compared(
    name: str, ask: Callable[[Snapshot, Vectors], None], both: tuple[Snapshot, Snapshot], queries: Vectors, size: int
) -> dict[str, Any]:
    spent: tuple[list[float], list[float]] = [], []
    for _ in range(1 + ROUNDS):
        for snapshot, times in zip(both, spent, strict=True):
            with timed(times):
                for start in range(0, len(queries), size):
                    ask(snapshot, queries[start : start + size])
    in_file, held = (len(queries) / float(np.median(times[1:])) for times in spent)
    ratios = [one / other for other, one in zip(spent[0][1:], spent[1][1:], strict=True)]
    ratio = float(np.median(ratios))
    measure = f"{name}: queries a second, to those in memory"
    facts = {
        "filed": round(in_file, 1),
        "in_memory": round(held, 1),
        "spread": [round(min(ratios), 3), round(max(ratios), 3)],
    }
    return row(measure, ratio, "times", f"> {SLOWER}", ratio > SLOWER, **facts)


def shared(path: Path, queries: Vectors, size: int) -> dict[str, Any]:
    """Let two processes look at all vectors; return how much of the memory one of them is charged with."""
    pipes, children = [], []
    for _ in range(2):
        mine, theirs = SPAWN.Pipe()
        pipes.append(mine)
        children.append(SPAWN.Process(target=holding, args=(path, queries, size, theirs), daemon=True))
        children[-1].start()
        mine.recv()
    found = []
    for pipe in pipes:
        pipe.send("say")
        found.append(pipe.recv())
    for pipe, child in zip(pipes, children, strict=True):
        pipe.send("end")
        child.join()
    share = max(one["Pss"] / one["Rss"] for one in found)
    megabytes = [round(one["Rss"] / 1e6) for one in found]
    return row(
        "two processes: Pss of the file's pages, to Rss", share, "", f"< {SHARED}", share < SHARED, rss_mb=megabytes
    )


def measure(path: Path, count: int, dim: int, seed: int) -> list[dict[str, Any]]:
    made = made_set(count, dim, ASKED, seed)
    print(f"making {count:,} references of {dim} floats", file=sys.stderr, flush=True)
    make_gallery(path, made)
    queries, size = made.queries, made.vectors.nbytes
    as_if_large(size)
    del made
    lists = 1 << max(2, round(np.log2(4 * count**0.5)))
    print("building its index", file=sys.stderr, flush=True)
    bytes_a_vector = build(path, Choice(f"PCA{min(64, dim // 4)},IVF{lists},SQ8", EFFORT, DEPTH))
    rows = [
        *memory(path, queries, size),
        row("approximate: the index, bytes a vector", bytes_a_vector, "bytes", exact=4 * dim),
        *rates(path, queries),
        shared(path, queries, size),
        making(path, queries, size),
    ]
    return [{**one, "measure": f"{count:,} x {dim}: {one['measure']}", "seed": seed} for one in rows]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--references", type=int, default=COUNT)
    arguments.add_argument("--dim", type=int, default=DIM)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--quick", action="store_true")
    chosen = arguments.parse_args()
    if sys.platform != "linux":
        raise SystemExit("how much memory a process has is asked of Linux; run this there")
    count, dim = (20_000, 256) if chosen.quick else (chosen.references, chosen.dim)
    with tempfile.TemporaryDirectory(prefix="firstsight-larger-") as folder:
        rows = measure(Path(folder) / "made.gallery", count, dim, chosen.seed)
    report("larger_than_memory", rows, keep=not chosen.quick)


if __name__ == "__main__":
    main()
