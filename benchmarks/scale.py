"""A large gallery: how soon it is open, how long a change takes, and when a reader elsewhere sees it.

A gallery of made unit vectors of 256 floats, ten references a class, its views on disk. Measured are opening it, the
first answer after that, adding one reference (the median of many), and the time from the beginning of ``add`` until a
reader in another process, which asks all the time, has the new reference in an answer: one reference, then a thousand.

    python benchmarks/scale.py [--references 100000] [--seed 0] [--quick]

Expected with 100,000: open in less than 1 s, the first answer within 0.3 s, one reference added in less than 20 ms and
seen within 1 s, a thousand seen within 2 s (that one with 1,000,000 too); see benchmarks/results/scale.json, and
scale_1000000.json for ``--references 1000000``. A minute and 0.5 GB of disk and memory, ten times that for a million;
--quick shows in seconds that the program works, and its result is not kept.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rows import report, row

from indexer.gallery import Gallery
from indexer.history import Coming

REFERENCES, EACH, DIM = 100_000, 10, 256
OPENINGS, ADDED, MANY = 5, 30, 1000
OPEN_SECONDS, FIRST_SECONDS, ADD_SECONDS, SEEN_SECONDS, MANY_SECONDS = 1.0, 0.3, 0.02, 1.0, 2.0

Vectors = NDArray[np.float32]

_SPAWN = multiprocessing.get_context("spawn")


def made(count: int, seed: Any) -> Vectors:
    vectors = np.random.default_rng(seed).standard_normal((count, DIM), np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def make_gallery(path: Path, count: int, seed: int) -> None:
    """Make a gallery of so many references in one revision, with its views on disk."""
    come = [Coming(f"class {n // EACH:07}", f"{n:064x}", "/made", f"{n}.jpg") for n in range(count)]
    with Gallery.create(path, dim=DIM, fingerprint="made") as gallery:
        for start in range(0, count, 10_000):
            some = come[start : start + 10_000]
            gallery.stage([one.hash for one in some], made(len(some), (seed, start)))
        gallery.revise("index", "index made vectors", leave=[], come=come)
        gallery.save_views()


def watch(path: Path, pipe: Connection) -> None:
    """Look for each (reference, vector) that is sent until it is there; send the time."""
    with Gallery.open(path) as gallery:
        gallery.search_references(np.ones(DIM), k=1)
        pipe.send("ready")
        while (sought := pipe.recv()) is not None:
            reference, vector = sought
            pipe.send("looking")
            while gallery.search_references(vector, k=1)[0][0].reference != reference:
                pass
            pipe.send(time.monotonic())  # of the system: the same clock in all processes


# -- measures --------------------------------------------------------------------------------------------------------


def opening(path: Path, seed: int) -> list[dict[str, Any]]:
    opened, answered = [], []
    for query in made(OPENINGS, (seed, 0, 0)):
        started = time.perf_counter()
        with Gallery.open(path) as gallery:
            opened.append(time.perf_counter() - started)
            gallery.search_classes(query)
            answered.append(time.perf_counter() - started)
    return [
        seconds("opening", opened, OPEN_SECONDS),
        seconds("from opening to the first answer, views current", answered, FIRST_SECONDS),
    ]


def seconds(measure: str, times: list[float], goal: float) -> dict[str, Any]:
    middle = float(np.median(times))
    return row(measure, middle, "s", f"< {goal:g}", middle < goal, longest=round(max(times), 4), median_of=len(times))


def adding(gallery: Gallery, vectors: Vectors, how: str) -> dict[str, Any]:
    times = []
    for number, vector in enumerate(vectors):
        content = (f"{how} {number}", f"{how} {number}.jpg", vector)
        started = time.perf_counter()
        gallery.add(f"added {number}", [content])
        times.append(time.perf_counter() - started)
    return seconds(f"adding one reference{how}", times, ADD_SECONDS)


def seen(pipe: Connection, reference: str, vector: Vectors, change: Callable[[], object]) -> float:
    """Make the change; return the seconds until the reader elsewhere has the reference."""
    pipe.send((reference, vector))
    pipe.recv()
    started = time.monotonic()
    change()
    return pipe.recv() - started


def visibility(gallery: Gallery, path: Path, vectors: Vectors) -> list[dict[str, Any]]:
    mine, theirs = _SPAWN.Pipe()
    reader = _SPAWN.Process(target=watch, args=(path, theirs), daemon=True)
    reader.start()
    mine.recv()
    *single, last = np.split(vectors, range(1, ADDED + 1))
    one = []
    for number, vector in enumerate(single):
        content = (f"one {number}", f"one {number}.jpg", vector[0])
        one.append(seen(mine, content[1], vector[0], lambda content=content: gallery.add("seen", [content])))
    contents = [(f"many {number}", f"many {number}.jpg", vector) for number, vector in enumerate(last)]
    many = seen(mine, contents[-1][1], last[-1], lambda: gallery.add("many", contents))
    mine.send(None)
    reader.join()
    return [
        seconds("one reference, seen in another process", one, SEEN_SECONDS),
        seconds(f"{len(contents):,} references, seen in another process", [many], MANY_SECONDS),
    ]


def measure(path: Path, count: int, seed: int) -> list[dict[str, Any]]:
    print(f"making {count:,} references", file=sys.stderr, flush=True)
    make_gallery(path, count, seed)
    rows = opening(path, seed)
    with Gallery.open(path) as gallery:
        rows.append(adding(gallery, made(ADDED, (seed, 1, 1)), ""))
        gallery.search_classes(np.ones(DIM))
        rows.append(adding(gallery, made(ADDED, (seed, 1, 2)), ", the gallery answers queries too"))
        rows += visibility(gallery, path, made(ADDED + MANY, (seed, 2, 2)))
    return [{**one, "measure": f"{count:,} references: {one['measure']}"} for one in rows]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--references", type=int, default=REFERENCES)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--quick", action="store_true")
    chosen = arguments.parse_args()
    count = 2000 if chosen.quick else chosen.references
    with tempfile.TemporaryDirectory(prefix="firstsight-scale-") as folder:
        rows = measure(Path(folder) / "made.gallery", count, chosen.seed)
    report("scale" if count == REFERENCES else f"scale_{count}", rows, keep=not chosen.quick)


if __name__ == "__main__":
    main()
