"""Four readers at full speed while a writer indexes: no error, no torn answer, and how long their queries take.

A gallery of made unit vectors (2,000 classes of 5) is asked for the nearest references by four processes, one query
after another. First they are alone; then a fifth process indexes 5,000 made images, small PNGs that a random projection
embeds; then the fifth embeds the same images again and writes nothing: what that costs the readers is the processor's
share, not the gallery's. What brute force says of the gallery before and after is known beforehand: every answer must
be the one or, once a reader has seen it, the other.

    python benchmarks/readers.py [--images 5000] [--seconds 10] [--seed 0] [--quick]

Expected: no error, nothing torn, p99 at most twice that without the writer; see benchmarks/results/readers.json. A
minute; --quick shows in seconds that the program works, and its result is not kept.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import multiprocessing
import os
import tempfile
import time
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rows import report, row

from indexer import build, images
from indexer.gallery import Gallery
from indexer.history import Coming

IMAGES, READERS, DIM, K, ASKED = 5000, 4, 256, 5, 64
CLASSES, EACH = 2000, 5
ALONE, WRITING, EMBEDDING, OVER = range(4)
WHEN = {ALONE: "alone", WRITING: "beside a writer", EMBEDDING: "beside one that embeds and writes nothing"}
WORSE = 2.0  # times p99

Vectors = NDArray[np.float32]
Answer = list[str]  # references, best first

_SPAWN = multiprocessing.get_context("spawn")


class Projection:
    """An embedder of almost no cost: 8 x 8 pixels, projected at random."""

    dim, fingerprint = DIM, "projection"

    def __init__(self) -> None:
        self._matrix = np.random.default_rng(0).standard_normal((192, DIM), np.float32)

    def prepare(self, image: Image.Image) -> NDArray[Any]:
        """Return 8 x 8 pixels, ``(192,)``."""
        return np.asarray(image.resize((8, 8)), np.float32).ravel() / 255 - 0.5

    def embed(self, images: Sequence[NDArray[Any]]) -> Vectors:
        """Return unit vectors, ``(n, DIM)``."""
        return _unit(np.stack(images) @ self._matrix)


def _unit(vectors: Vectors) -> Vectors:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


# -- what is asked and what is true ----------------------------------------------------------------------------------


def make_gallery(path: Path, classes: int, seed: int) -> dict[str, Vectors]:
    """Make a gallery in one revision; return its vectors by what a hit shows."""
    vectors = _unit(np.random.default_rng(seed).standard_normal((classes * EACH, DIM), np.float32))
    come = [Coming(f"class {n // EACH:05}", f"{n:064x}", "/made", f"{n}.jpg") for n in range(len(vectors))]
    with Gallery.create(path, dim=DIM, fingerprint=Projection.fingerprint) as gallery:
        gallery.stage([one.hash for one in come], vectors)
        gallery.revise("index", "index made vectors", leave=[], come=come)
        gallery.save_views()
    return {f"/made/{n}.jpg": vector for n, vector in enumerate(vectors)}


def make_images(folder: Path, count: int, seed: int) -> dict[str, Vectors]:
    """Make a folder of images in a hundred classes; return their vectors by what a hit will show."""
    draw, model, found = np.random.default_rng((seed, 1)), Projection(), {}
    for number in range(count):
        path = folder / f"new {number % 100:03}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.kron(draw.integers(0, 256, (8, 8, 3), np.uint8), np.ones((4, 4, 1), np.uint8))
        Image.fromarray(pixels).save(path)
        found[str(path)] = model.embed([model.prepare(Image.open(io.BytesIO(path.read_bytes())).convert("RGB"))])[0]
    return found


def nearest(queries: Vectors, held: dict[str, Vectors]) -> list[Answer]:
    """Return the true answers, by brute force."""
    names = np.array(list(held))
    cosines = queries.astype(np.float64) @ np.stack(list(held.values())).astype(np.float64).T
    return [names[np.argsort(-line, kind="stable")[:K]].tolist() for line in cosines]


# -- the processes ---------------------------------------------------------------------------------------------------


def read(path: Path, queries: Vectors, truths: tuple[list[Answer], list[Answer]], phase: Any, pipe: Connection) -> None:
    """Ask until it is over; tell the times by phase, and what was wrong."""
    times: list[list[float]] = [[], [], []]
    torn, back, seen_new, number = 0, 0, False, 0
    before, after = truths
    with Gallery.open(path) as gallery:
        gallery.search_references(queries[0], k=K)
        pipe.send("ready")
        while (now := phase.value) != OVER:
            which = number % len(queries)
            started = time.perf_counter()
            (hits,) = gallery.search_references(queries[which], k=K)
            times[now].append(time.perf_counter() - started)
            answer = [hit.reference for hit in hits]
            is_old, is_new = answer == before[which], answer == after[which]
            torn += not is_old and not is_new
            back += seen_new and not is_new
            seen_new |= is_new and not is_old
            number += 1
    pipe.send((times, torn, back, seen_new))


def write(path: Path, folder: Path, pipe: Connection) -> None:
    with Gallery.open(path) as gallery:
        started = time.perf_counter()
        found = build.index(gallery, folder, Projection(), workers=1)
        pipe.send((found.added, len(found.failed), time.perf_counter() - started))


def embed_only(folder: Path) -> None:
    model, files = Projection(), sorted(folder.glob("*/*"))
    for start in range(0, len(files), 32):
        data = [images.read(path) for path in files[start : start + 32]]
        model.embed([model.prepare(images.decode(one, path="made")) for one in data])
        for one in data:
            hashlib.sha256(one)


# -- measures --------------------------------------------------------------------------------------------------------


def measure(scratch: Path, *, count: int, classes: int, seconds: float, seed: int) -> list[dict[str, Any]]:
    path, folder = scratch / "made.gallery", scratch / "new"
    old, new = make_gallery(path, classes, seed), make_images(folder, count, seed)
    near = np.stack([*list(old.values())[: ASKED // 2], *list(new.values())[: ASKED // 2]])
    queries = _unit(near + np.random.default_rng((seed, 2)).standard_normal(near.shape, np.float32) / np.float32(20))
    truths = (nearest(queries, old), nearest(queries, old | new))
    phase, pipes, readers = _SPAWN.Value("i", ALONE), [], []
    for _ in range(READERS):
        mine, theirs = _SPAWN.Pipe()
        readers.append(_SPAWN.Process(target=read, args=(path, queries, truths, phase, theirs), daemon=True))
        readers[-1].start()
        pipes.append(mine)
    for pipe in pipes:
        pipe.recv()
    time.sleep(seconds)
    mine, theirs = _SPAWN.Pipe()
    written = _during(phase, WRITING, _SPAWN.Process(target=write, args=(path, folder, theirs)), mine)
    _during(phase, EMBEDDING, _SPAWN.Process(target=embed_only, args=(folder,)), None)
    phase.value = OVER
    told = [pipe.recv() for pipe in pipes if pipe.poll(60)]  # one that failed says nothing
    for reader in readers:
        reader.join(60)
    return rows_of(told, [reader.exitcode for reader in readers], written, count)


def _during(phase: Any, now: int, process: Any, pipe: Connection | None) -> Any:
    process.start()
    phase.value = now
    told = None if pipe is None else pipe.recv()
    process.join()
    time.sleep(0.5)  # the readers catch up
    return told


def rows_of(told: list[Any], exits: list[int | None], written: Any, count: int) -> list[dict[str, Any]]:
    added, failed, lasted = written
    torn, back = sum(one[1] for one in told), sum(one[2] for one in told)
    fresh = sum(one[3] for one in told)
    asked = sum(len(times) for one in told for times in one[0])
    rows = [
        row("readers that ended without an error", exits.count(0), "", f"= {READERS}", exits.count(0) == READERS),
        row("images indexed beside them", added, "", f"= {count}", (added, failed) == (count, 0), seconds=lasted),
        row("answers neither of before nor of after", torn, "", "= 0", torn == 0, answers=asked),
        row("answers of before after one of after", back, "", "= 0", back == 0),
        row("readers that saw what was indexed", fresh, "", f"= {READERS}", fresh == READERS),
    ]
    p99 = {}
    for phase, when in WHEN.items():
        times = 1e3 * np.concatenate([one[0][phase] for one in told])
        p99[phase] = float(np.quantile(times, 0.99))
        more = {"median": float(np.median(times)), "longest": float(times.max()), "queries": len(times)}
        rows.append(row(f"p99 of {READERS} readers, {when}", p99[phase], "ms", **more))
    ratio = p99[WRITING] / p99[ALONE]
    rows.append(row("p99 beside a writer, by that without", ratio, "times", f"<= {WORSE:g}", ratio <= WORSE))
    share = p99[WRITING] / p99[EMBEDDING]
    return [*rows, row("p99 beside a writer, by that beside one that only embeds", share, "times")]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--images", type=int, default=IMAGES)
    arguments.add_argument("--seconds", type=float, default=10.0)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--quick", action="store_true")
    chosen = arguments.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # of the readers: four times all processors would measure nothing
    count, classes, seconds = (50, 100, 0.2) if chosen.quick else (chosen.images, CLASSES, chosen.seconds)
    with tempfile.TemporaryDirectory(prefix="firstsight-readers-") as folder:
        rows = measure(Path(folder), count=count, classes=classes, seconds=seconds, seed=chosen.seed)
    report("readers", rows, keep=count == IMAGES)


if __name__ == "__main__":
    main()
