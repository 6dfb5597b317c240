"""Bulk indexing: what memory it takes, how fast it is, and what five kills change in its result: nothing.

Made photos (JPEGs of 640 x 480 in 100 classes, in a temporary folder) go through the whole ResNet-101 at 224 px. Its
weights are random: neither time nor memory depends on what a network has learnt. Each run is a process of its own,
`python -m engine index`, on the CPU. A second gallery of the same photos is killed (SIGKILL) at random moments and run
to its end; what both catalogs say is then read with plain SQL and compared.

    python benchmarks/indexing.py [--images 2000] [--seed 0] [--quick]

Expected: 2,000 images need hardly more memory than 200, and the killed gallery equals the unbroken one; see
benchmarks/results/indexing.json. About 20 minutes and 0.4 GB of disk on two cores; --quick, with the bundled weights,
few images and one kill, shows in seconds that the program works. Only the full run is kept.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from data import PROJECT
from photos import make_photos
from rows import report, row

# No torch in this process: Linux counts in a child's peak memory what its parent held when it started the child.

IMAGES, FEW, CLASSES = 2000, 200, 100
KILLS = 5
MOST = 1500.0  # MB, however many images
MEGABYTES = 300.0  # that more images may take
ROUNDING = 1e-5  # kills change which images make a batch, and so the last digits of a vector


def save_random_weights(path: str, seed: int) -> None:
    """Write a checkpoint of the whole ResNet-101 as it is before it has learnt anything."""
    import torch  # noqa: PLC0415 (not in the process that measures, see above)

    from engine.embedder import Embedder  # noqa: PLC0415
    from engine.weights import save_checkpoint  # noqa: PLC0415

    torch.manual_seed(seed)
    save_checkpoint(Path(path), Embedder("resnet101"), torch.nn.Module(), {"training": "none: random weights"})


def random_weights(path: Path, seed: int) -> str:
    """Return the name of the checkpoint, made in a process of its own."""
    maker = multiprocessing.get_context("spawn").Process(target=save_random_weights, args=(str(path), seed))
    maker.start()
    maker.join()
    return str(path)


# -- runs ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Run:
    """One that came to its end: what it reported, its peak memory in MB, and the wall time of the whole process."""

    report: dict[str, Any]
    megabytes: float
    seconds: float


def index_command(folder: Path, gallery: Path, weights: str) -> list[str]:
    options = ["--gallery", str(gallery), "--weights", weights, "--device", "cpu", "--json"]
    return [sys.executable, "-m", "engine", "index", str(folder), *options]


def run_to_end(command: list[str], images: int) -> Run:
    """Run an index command; it must add that many images and leave none out."""
    started = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(command, cwd=PROJECT, stdout=said)
        _, status, used = os.wait4(process.pid, 0)  # of this child alone, unlike getrusage
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - started
        said.seek(0)
        answer = said.read()
    done = json.loads(answer) if process.returncode == 0 else {}
    if done.get("added") != images or done["failed"]:
        raise SystemExit(f"{' '.join(command)}: exit status {process.returncode}, {answer.decode()}")
    return Run(done, _megabytes(used), seconds)


def run_and_kill(command: list[str], gallery: Path, after: float) -> bool:
    """Start an index command and kill it ``after`` seconds of indexing; return whether it was still at work then."""
    process = subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.DEVNULL)
    while process.poll() is None and _writer(gallery) != process.pid:
        time.sleep(0.01)
    with suppress(subprocess.TimeoutExpired):
        process.wait(after)
    process.kill()
    return process.wait() == -signal.SIGKILL


def _writer(gallery: Path) -> int | None:
    """Return the process that holds the writer's lock, or held it last."""
    with suppress(OSError, ValueError):
        return int((gallery / "writer.lock").read_text())
    return None


def _megabytes(used: resource.struct_rusage) -> float:
    return used.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6


# -- what catalogs say -----------------------------------------------------------------------------------------------

VECTORS = "SELECT hash, vector FROM images JOIN embeddings ON image_id = images.id ORDER BY hash"
CONTENT = {  # all of a catalog but its vectors, random marks and times of day
    "classes": "SELECT name, came, went FROM names ORDER BY name",
    "references": (
        'SELECT name, hash, root, path, r.came, r.went FROM "references" AS r JOIN images ON images.id = image_id'
        " JOIN names ON names.class_id = r.class_id ORDER BY name, hash"
    ),
    "revisions": "SELECT id, action, summary FROM revisions ORDER BY id",
}


def catalog(gallery: Path) -> closing[sqlite3.Connection]:
    return closing(sqlite3.connect(f"{(gallery / 'catalog.sqlite').as_uri()}?mode=ro", uri=True))


def embedded(gallery: Path) -> int:
    """Return how many embeddings a killed run left, read from a copy: opening the catalog would mend it."""
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(shutil.copytree(gallery, Path(scratch) / "copy"))
        with closing(sqlite3.connect(copy / "catalog.sqlite")) as connection:
            return connection.execute("SELECT count(*) FROM images").fetchone()[0]


def equal_parts(one: Path, other: Path) -> dict[str, bool]:
    """Return for each part of the content whether two catalogs say the same, and say anything at all."""
    with catalog(one) as a, catalog(other) as b:
        parts = {what: (a.execute(query).fetchall(), b.execute(query).fetchall()) for what, query in CONTENT.items()}
    return {what: bool(rows) and rows == others for what, (rows, others) in parts.items()}


def largest_gap(one: Path, other: Path) -> tuple[float, float]:
    """Return by how much vectors of the same content differ at most, and those of different contents at least.

    The second number is what the first would be if vectors had been mixed up. Infinite if the contents differ.
    """
    same, different, before = 0.0, np.inf, None
    with catalog(one) as a, catalog(other) as b:
        for row_a, row_b in zip_longest(a.execute(VECTORS), b.execute(VECTORS)):
            if row_a is None or row_b is None or row_a[0] != row_b[0]:
                return np.inf, 0.0
            vector, twin = (np.frombuffer(blob, "<f4") for _, blob in (row_a, row_b))
            same = np.fmax(same, np.abs(vector - twin).max())
            if before is not None:
                different = min(different, np.abs(twin - before).max())
            before = vector
    return float(same), float(different)


def exit_of_verify(gallery: Path) -> int:
    command = [sys.executable, "-m", "engine", "verify", "--gallery", str(gallery)]
    return subprocess.run(command, cwd=PROJECT, stdout=subprocess.DEVNULL, check=False).returncode


# -- measures --------------------------------------------------------------------------------------------------------


def check(measure: str, holds: bool, **more: Any) -> dict[str, Any]:
    return row(measure, float(holds), "", "= 1", holds, **more)


def resources(few: Run, whole: Run) -> list[dict[str, Any]]:
    more = whole.megabytes - few.megabytes
    n_few, n = few.report["added"], whole.report["added"]
    own = round(_megabytes(resource.getrusage(resource.RUSAGE_SELF)), 1)
    return [
        *(
            row(
                f"peak memory, {count:,} images",
                run.megabytes,
                "MB",
                f"<= {MOST:g}",
                run.megabytes <= MOST,
                peak_of_this_program=own,
                runtime=run.report["runtime"],
            )
            for count, run in ((n_few, few), (n, whole))
        ),
        row("difference", more, "MB", f"<= {MEGABYTES:g}", more <= MEGABYTES),
        row(
            f"speed, {n:,} images",
            n / whole.report["seconds"],
            "images/s",
            seconds=round(whole.report["seconds"], 1),
            seconds_with_start=round(whole.seconds, 1),
        ),
    ]


def survival(
    command: list[str], gallery: Path, unbroken: Path, whole: Run, *, kills: int, seed: int
) -> list[dict[str, Any]]:
    """Index into ``gallery`` with so many kills, and compare it with the ``unbroken`` one."""
    draw = random.Random(seed)
    # Together shorter than the unbroken run, so that each kill finds work to interrupt.
    moments = [draw.uniform(0, whole.report["seconds"] / (kills + 1)) for _ in range(kills)]
    killed, left = 0, []
    for moment in moments:
        killed += run_and_kill(command, gallery, moment)
        left.append(embedded(gallery))
        say(f"killed after {moment:.1f} s, {left[-1]:,} embeddings are there")
    last = run_to_end(command, whole.report["added"])
    many = f"killed {killed} times"
    same, different = largest_gap(gallery, unbroken)
    return [
        row(
            "kills that found the run at work",
            killed,
            "",
            f"= {kills}",
            killed == kills,
            seconds=[round(moment, 1) for moment in moments],
            embedded_after=left,
            last_run_seconds=round(last.report["seconds"], 1),
        ),
        *(check(f"{many}: the same {what}", holds) for what, holds in equal_parts(gallery, unbroken).items()),
        check(
            f"{many}: the same vectors within {ROUNDING:g}",
            same <= ROUNDING,
            largest_gap=same,
            gap_of_different_images=different,
        ),
        check(f"{many}: verify exits with 0", exit_of_verify(gallery) == 0),
        check("unbroken: verify exits with 0", exit_of_verify(unbroken) == 0),
    ]


def measure(scratch: Path, *, images: int, few: int, weights: str, kills: int, seed: int) -> list[dict[str, Any]]:
    classes = min(CLASSES, few)
    say(f"making {few:,} and {images:,} photos in {scratch}")
    for name, count in (("few", few), ("all", images)):
        make_photos(scratch / name, range(count), classes=classes, seed=seed)
    say("indexing the few")
    small = run_to_end(index_command(scratch / "few", scratch / "few.gallery", weights), few)
    say(f"indexing all, about {small.report['seconds'] * images / few:.0f} s")
    whole = run_to_end(index_command(scratch / "all", scratch / "all.gallery", weights), images)
    rows = resources(small, whole)
    killed = scratch / "killed.gallery"
    command = index_command(scratch / "all", killed, weights)
    return rows + survival(command, killed, scratch / "all.gallery", whole, kills=kills, seed=seed)


def say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--images", type=int, default=IMAGES)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--quick", action="store_true")
    chosen = arguments.parse_args()
    images, kills = (min(chosen.images, 24), 1) if chosen.quick else (chosen.images, KILLS)
    few = min(FEW, max(1, images // 2))
    with tempfile.TemporaryDirectory(prefix="firstsight-indexing-") as folder:
        scratch = Path(folder)
        weights = "bundled" if chosen.quick else random_weights(scratch / "random.safetensors", chosen.seed)
        rows = measure(scratch, images=images, few=few, weights=weights, kills=kills, seed=chosen.seed)
    report("indexing", rows, keep=not chosen.quick)


if __name__ == "__main__":
    main()
