"""All benchmarks one after another: at toy sizes so that none rots, or in full.

    python benchmarks/run.py --quick [NAME ...]
    python benchmarks/run.py [NAME ...]

--quick takes two to three minutes on two cores, on which two run at a time, and writes nothing under
benchmarks/results. What needs image sets that are not on this machine is skipped, with a line. In full they take hours
and a quiet machine, and end with the report, benchmarks/results/report.html. A benchmark that is new gets a line below.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

HERE = Path(__file__).resolve().parent
# Long ones first, so that none is left over at the end; but growth writes what the report, which is last, reads.
QUICK = {
    "growth": [],
    "indexing": ["--quick"],
    "startup": ["--quick"],
    "readers": ["--quick"],
    "larger_than_memory": ["--quick"],
    "folder_to_gallery": ["--quick"],
    "embedding": ["--quick"],
    "search": ["--quick"],
    "scale": ["--quick"],
    "classes": ["--quick"],
    "sync": ["--quick"],
    "query": ["--quick"],
    "filters": ["--quick"],
    "report": [],
}
AT_ONCE = 4  # at most; each has one thread, and some take 1.5 GB
# These learn for hours, or embed photos for as long: that they begin is all that can be seen in seconds. One process
# lets all begin, for they import torch, and that takes longer than all else they do.
BEGUN = (
    "omniglot",
    "heldout",
    "grocery",
    "digits",
    "one_image",
    "arena",
    "fine_tune",
    "train_bundled",
    "choose_shares",
)
BEGIN = """
import runpy, sys
names, sys.path[0] = sys.argv[1:], "benchmarks"
for name in names:
    sys.argv = [name, "--help"]
    try:
        runpy.run_path(f"benchmarks/{name}.py", run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise
"""
FULL = (
    "search",
    *(name for name in QUICK if name not in ("search", "report")),
    "omniglot",
    "heldout",
    "grocery",
    "digits",
    "report",
)
# Beside other work, threads of a network that wait for one another take many times as long as one.
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
ABSENT = "is not here"  # what is said of an image set that is not on this machine (data.py)


def programs(names: Sequence[str], *, quick: bool) -> dict[str, list[str]]:
    """Return what Python is to run for the benchmarks of these names, or for all, by what it is called."""
    chosen = [name for name in (QUICK if quick else FULL) if name in names or not names]
    runs = {name: [f"benchmarks/{name}.py", *(QUICK[name] if quick else [])] for name in chosen}
    begun = [name for name in BEGUN if name in names or not names] if quick else []
    return runs | ({f"{len(begun)} --help": ["-c", BEGIN, *begun]} if begun else {})


def run(name: str, arguments: list[str], settings: dict[str, str]) -> tuple[str, str, float]:
    """Run Python; return the name, how it ended ("ok", "skipped: ..." or "FAILED" and its last lines), and seconds."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=HERE.parent,
        env=os.environ | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return name, _ending(done), time.perf_counter() - began


def _ending(done: subprocess.CompletedProcess[str]) -> str:
    last = done.stdout.strip().splitlines()[-1:] or [""]
    if done.returncode and ABSENT in last[0]:
        return f"skipped: {last[0].split(': ', 1)[-1]}"
    if done.returncode:
        return f"FAILED\n{done.stdout[-2000:]}"
    return "ok"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join((*QUICK, *BEGUN))}")
    arguments.add_argument("--quick", action="store_true")
    chosen = arguments.parse_args()
    known = (*QUICK, *BEGUN) if chosen.quick else tuple(FULL)
    if unknown := set(chosen.names) - set(known):
        raise SystemExit(f"no such benchmark: {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    failed, began = [], time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="firstsight-bench-") as folder:
        settings = {"FIRSTSIGHT_RESULTS": str(HERE / "results")}
        if chosen.quick:  # what is kept may be read, and written over in a copy
            copy = shutil.copytree(HERE / "results", Path(folder) / "results")
            settings = ONE_THREAD | {"FIRSTSIGHT_RESULTS": str(copy)}
        # What is timed for its own sake has the machine to itself.
        with ThreadPoolExecutor(min(AT_ONCE, os.cpu_count() or 1) if chosen.quick else 1) as pool:
            runs = programs(chosen.names, quick=chosen.quick)
            for done in as_completed([pool.submit(run, name, runs[name], settings) for name in runs]):
                name, how, seconds = done.result()
                print(f"{name:<18} {seconds:6.1f} s  {how}", flush=True)
                failed += [name] * how.startswith("FAILED")
    print(f"{'in all':<18} {time.perf_counter() - began:6.1f} s")
    if failed:
        raise SystemExit(f"these benchmarks no longer run: {', '.join(failed)}")


if __name__ == "__main__":
    main()
