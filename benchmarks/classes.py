"""A name among many classes: what the index that a gallery chooses for its prototypes saves, and what it loses.

A gallery of made embeddings (``made.World``) has a class a reference, as many as asked for. ``Gallery.tune`` finds the
index that keeps its promise about the hundred nearest prototypes; then ``Gallery.search_classes`` (k=5, the cosines of
a hundred) is asked by that index and exactly, in turns, for new images of the classes and of things that have none. One
thread; medians. The oracle is exact search. At last classes learn another reference, and are asked for at once.

    python benchmarks/classes.py [--classes 100000] [--dim 512] [--seed 0] [--quick]

Expected: 99 of a hundred neighbours, nearly always the same name, in a small part of the time; see
benchmarks/results/classes.json. Ten minutes, nearly all of them choosing, 0.9 GB of disk and 1 GB of memory; --quick
shows in seconds that the program works, and is not kept.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import indexer.kernels  # noqa: F401 - before FAISS: as in a gallery, so here

# isort: split
import faiss
import numpy as np
from made import BLOCK, STRANGERS, World
from numpy.typing import NDArray
from rows import report, row

from indexer.gallery import Gallery
from indexer.history import Coming
from indexer.promise import shares_found
from indexer.searched import SHORTLIST
from indexer.serving import PATIENCE
from indexer.trials import Promise
from indexer.tuning import Tuning

Vectors = NDArray[np.float32]

CLASSES, DIM = 100_000, 512
QUICK = 5_000, 128  # classes, floats
K = 5
SINGLE, BATCHES, BATCH = 200, 10, 100  # queries that come alone; batches
LEARNT = 20  # classes that learn, one after another


# -- what is searched ------------------------------------------------------------------------------------------------


def name_of(number: int) -> str:
    return f"class {number:07}"


def make_gallery(path: Path, world: World, classes: int, dim: int, seed: int) -> Vectors:
    """Make a gallery of a reference a class in one revision, with its views on disk; return the first references."""
    draw = np.random.default_rng((seed, 1))
    come = [Coming(name_of(n), f"{n:064x}", "/made", f"{n}.jpg") for n in range(classes)]
    with Gallery.create(path, dim=dim, fingerprint="made") as gallery:
        first = np.empty((0, dim), np.float32)
        for start in range(0, classes, BLOCK):
            some = np.arange(start, min(start + BLOCK, classes))
            vectors = world.images(some, draw)
            first = first if len(first) else vectors[:LEARNT]
            gallery.stage([come[n].hash for n in some.tolist()], vectors)
        gallery.revise("index", "index made vectors", leave=[], come=come)
        gallery.save_views()
    return first


def tuned(gallery: Gallery, promise: Promise) -> tuple[Tuning, float]:
    """Let the prototypes be searched by what keeps the promise; return what was found, and the seconds it took."""

    def tell(what: str, done: int, total: int) -> None:
        if sys.stderr.isatty():
            print(f"\r{what:<70} {done} of {total}", end="", file=sys.stderr, flush=True)

    started = time.perf_counter()
    tuning = gallery.tune(promise, of="prototypes", apply=True, progress=tell)
    return tuning, time.perf_counter() - started


# -- measures --------------------------------------------------------------------------------------------------------


def compared(how: str, ours: Gallery, exact: Gallery, queries: Vectors, size: int) -> list[dict[str, Any]]:
    """Return the milliseconds a query of both galleries, which take turns, and how many times as fast ours is."""
    spent: dict[str, list[float]] = {"by the index": [], "exactly": []}
    for start in range(0, len(queries), size):
        for gallery, times in zip((ours, exact), spent.values(), strict=True):
            started = time.perf_counter()
            gallery.search_classes(queries[start : start + size], k=K)
            times.append(1e3 * (time.perf_counter() - started) / size)
    medians = {name: float(np.median(times)) for name, times in spent.items()}
    rows = [row(f"{how}: {name}", value, "ms", median_of=len(spent[name])) for name, value in medians.items()]
    return [*rows, row(f"{how}: times as fast", medians["exactly"] / medians["by the index"], "times")]


def agreement(how: str, ours: Gallery, exact: Gallery, queries: Vectors, asked: NDArray[np.int64]) -> list[Any]:
    """Return what is found of the nearest prototypes, and how often the name is the one that exact search gives."""
    found, best = (gallery.search_classes(queries, k=K) for gallery in (ours, exact))
    scores, top = (np.stack([answer.scores for answer in answers]) for answers in (found, best))
    shares = [(k, float(shares_found(scores[:, :k], top[:, :k]).mean())) for k in (1, K, SHORTLIST)]
    promised = Promise().ann_recall
    rows = [row(f"{how}: ann_recall@{k}", share, "", f">= {promised:g}", share >= promised) for k, share in shares]
    same = np.mean([one.hits[0].name == other.hits[0].name for one, other in zip(found, best, strict=True)])
    rows.append(row(f"{how}: the same name first", 100 * float(same), "%"))
    for which, answers in (("by the index", found), ("exactly", best)):
        right = [one.hits[0].name == name_of(n) for one, n in zip(answers, asked.tolist(), strict=True) if n >= 0]
        rows.append(row(f"{how}: recall_at_1, {which}", 100 * float(np.mean(right)), "%"))
    return rows


def learning(how: str, gallery: Gallery, first: Vectors, queries: Vectors) -> list[dict[str, Any]]:
    """Let the first classes learn an image of another; return what the first answer after that takes.

    The class lies between the two images then, and an image from there must show it.
    """
    spent, missed = [], 0
    for number, (one, other) in enumerate(zip(first, queries, strict=False)):
        gallery.add(name_of(number), [(f"learnt {number}", None, other)])
        started = time.perf_counter()
        answer = gallery.search_classes(one + other, k=K)[0]
        spent.append(1e3 * (time.perf_counter() - started))
        missed += answer.hits[0].name != name_of(number)
    late = row(f"{how}: the first answer after a class has learnt", float(np.median(spent)), "ms", median_of=len(spent))
    return [late, row(f"{how}: classes not found where they are now", missed, "", "= 0", missed == 0, of=len(spent))]


def measure(path: Path, classes: int, dim: int, seed: int, promise: Promise) -> list[dict[str, Any]]:
    print(f"making a gallery of {classes:,} classes", file=sys.stderr, flush=True)
    world, draw, how = World(dim, classes, seed), np.random.default_rng((seed, 2)), f"{classes:,} x {dim}"
    first = make_gallery(path, world, classes, dim, seed)
    count = BATCH * BATCHES
    asked = np.where(draw.random(count) < STRANGERS, -1, draw.integers(0, classes, count))
    queries = world.images(asked, draw)
    with Gallery.open(path) as exact, Gallery.open(path) as ours:
        exact.search_classes(queries[: PATIENCE + 1])  # it has looked for an index, and there is none yet
        tuning, seconds = tuned(ours, promise)
        rows = [row(f"{how}: choosing among {len({one.choice.factory for one in tuning.trials})} kinds", seconds, "s")]
        winner = tuning.winner
        if winner is None:
            print(f"{how}: {tuning.why}; there is nothing to compare", file=sys.stderr)
            return rows
        kept = [one for one in tuning.trials if one.choice == winner.choice and one.vectors > classes / 2]
        ours.search_classes(queries[: PATIENCE + 1])
        rows.append(row(f"{how}: {winner.choice.factory}", kept[-1].bytes_a_vector, "bytes a class"))
        rows += compared(f"{how}, one query", ours, exact, queries[:SINGLE], 1)
        rows += compared(f"{how}, batches of {BATCH}", ours, exact, queries, BATCH)
        rows += agreement(how, ours, exact, queries, asked)
        return [*rows, *learning(how, ours, first, queries)]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--classes", type=int, default=CLASSES)
    arguments.add_argument("--dim", type=int, default=DIM)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--quick", action="store_true")
    chosen = arguments.parse_args()
    faiss.omp_set_num_threads(1)
    classes, dim, promise = chosen.classes, chosen.dim, Promise()
    if chosen.quick:
        classes, dim, promise = *QUICK, Promise(0.9, latency_ms=0)
    with tempfile.TemporaryDirectory(prefix="firstsight-classes-") as folder:
        rows = measure(Path(folder) / "made.gallery", classes, dim, chosen.seed, promise)
    report("classes" if classes == CLASSES else f"classes_{classes}", rows, keep=not chosen.quick)


if __name__ == "__main__":
    main()
