"""Following a folder: what it costs to see that nothing in it has changed.

A folder of tiny made files, 100 a class, is put into a gallery whose embeddings are made too. Beside
``indexer.build.status``, in turns, stands a bare walk: ``os.scandir`` through the same folder, and the size and dates
of each file. The first look reads and hashes every file; then none is opened. Fewest seconds of the turns.

    python benchmarks/sync.py [--files 100000] [--turns 5] [--quick]

Expected: seconds for 100,000 files; see benchmarks/results/sync.json. A minute or two and 0.5 GB of disk; --quick, with
few files, shows in seconds that the program works, and its result is not kept.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from rows import report, row

from indexer import build, images
from indexer.gallery import Gallery
from indexer.history import Coming
from indexer.seen import RACY_NS

DIM, A_CLASS = 64, 100
GOAL = 5.0  # seconds for 100,000 files


def made_folder(root: Path, files: int) -> list[Coming]:
    """Write tiny files, each of its own content; they hold no image, and nothing decodes them."""
    come = []
    for number in range(files):
        name = f"class {number // A_CLASS:05}"
        path, data = f"{name}/{number % A_CLASS:02}.jpg", b"made %d" % number
        if number % A_CLASS == 0:
            (root / name).mkdir(parents=True)
        (root / path).write_bytes(data)
        come.append(Coming(name, images.identify(data), str(root), path))
    return come


def made_gallery(path: Path, come: list[Coming], seed: int = 0) -> None:
    """Make a gallery of these references with random vectors, in one revision."""
    draw = np.random.default_rng(seed)
    with Gallery.create(path, dim=DIM, fingerprint="made") as gallery:
        for start in range(0, len(come), 10_000):
            hashes = [one.hash for one in come[start : start + 10_000]]
            gallery.stage(hashes, draw.standard_normal((len(hashes), DIM), np.float32))
        gallery.revise("index", "index made files", leave=[], come=come)


def walk(folder: str | os.PathLike[str]) -> int:
    """Return how many files there are, having asked for the size and dates of each."""
    count = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                count += walk(entry.path)
            else:
                entry.stat()
                count += 1
    return count


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def measure(files: int, turns: int, goal: float | None = None) -> list[dict[str, Any]]:
    """Return the seconds of the first look, of later ones and of the walk, on a folder made for it."""
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "photos"
        made_gallery(Path(scratch) / "gallery", made_folder(root, files))
        time.sleep(RACY_NS / 1e9 + 0.1)  # younger files are read again
        with Gallery.open(Path(scratch) / "gallery") as gallery:
            first, planned = timed(lambda: build.plan(gallery, root))
            written, _ = timed(lambda: gallery.files.remember(planned.root, planned.news, forget=planned.gone))
            looks, walks = [], []
            for _ in range(turns):
                walks.append(timed(lambda: walk(root)))
                looks.append(timed(lambda: build.status(gallery, root)))
    if {found.unchanged for _, found in looks} != {files} or {count for _, count in walks} != {files}:
        raise SystemExit("the status of an unchanged folder is not that nothing has changed")
    look, bare = min(seconds for seconds, _ in looks), min(seconds for seconds, _ in walks)
    verdict = ("", None) if goal is None else (f"<= {goal:g}", look <= goal)
    what = f"{files:,} unchanged files"
    return [
        row(f"{what}: status", look, "s", *verdict, fewest_of=turns),
        row(f"{what}: a bare walk with the size and dates of each", bare, "s", fewest_of=turns),
        row(f"{what}: status beside the walk", look / bare, "times"),
        row(f"{files:,} files: the first look, which hashes all", first, "s"),
        row(f"{files:,} files: writing down how they are", written, "s"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    files = 2_000 if asked.quick else asked.files
    report("sync", measure(files, asked.turns, GOAL if files <= 100_000 else None), keep=not asked.quick)


if __name__ == "__main__":
    main()
