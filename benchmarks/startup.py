"""How long commands and imports take before they do anything: each in a process of its own, in turns, medians.

Beside them stands a bare interpreter, and one that imports torch: nobody who needs torch can be faster than that.
torchvision imports PyTorch's compiler, which Firstsight does without (engine/vision.py).

    python benchmarks/startup.py [--rounds 7] [--quick]

Expected: what needs no network starts without torch; see benchmarks/results/startup.json. A minute or two; --quick
shows that the program works, and its result is not kept.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from data import PROJECT
from photos import make_photos
from rows import report, row

ROUNDS = 7
# What imports torch as others do: not to be seen quickly.
AGAIN = ("import torch, torchvision", "from engine import Recognizer", "firstsight recognize")
ANSWER = """
import sys
from engine import Recognizer
with Recognizer.open(sys.argv[1]) as recognizer:
    assert recognizer.recognize(sys.argv[2]).name
"""


def python(*arguments: str) -> list[str]:
    return [sys.executable, *arguments]


def firstsight(*arguments: str) -> list[str]:
    return python("-m", "engine", *arguments)


def commands(gallery: str, photo: str) -> dict[str, list[str]]:
    """Return what is timed, by what it is called in the report."""
    at = ("--gallery", gallery)
    return {
        "a bare interpreter": python("-c", ""),
        "import numpy, faiss, sqlalchemy, PIL": python("-c", "import numpy, faiss, sqlalchemy, PIL.Image"),
        "import torch": python("-c", "import torch"),
        "import torch, torchvision": python("-c", "import torch, torchvision"),
        "import engine": python("-c", "import engine"),
        "from engine import Recognizer": python("-c", "from engine import Recognizer"),
        "firstsight status": firstsight("status", *at),
        "firstsight log": firstsight("log", *at),
        "opening a gallery and the first answer": python("-c", ANSWER, gallery, photo),
        "firstsight recognize": firstsight("recognize", photo, *at),
    }


def seconds(command: list[str]) -> float:
    started = time.perf_counter()
    subprocess.run(command, cwd=PROJECT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def loads_torch(command: list[str]) -> bool:
    """Return whether a command imports torch."""
    told = subprocess.run(
        [command[0], "-X", "importtime", *command[1:]], cwd=PROJECT, capture_output=True, text=True, check=True
    )
    return any(line.rsplit("|", 1)[-1].strip() == "torch" for line in told.stderr.splitlines())


def measure(rounds: int) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="firstsight-startup-") as folder:
        photos, gallery = Path(folder) / "photos", str(Path(folder) / "made.gallery")
        make_photos(photos, range(10), classes=10, seed=0)
        command = firstsight("index", str(photos), "--gallery", gallery, "--weights", "bundled")
        subprocess.run(command, cwd=PROJECT, check=True, capture_output=True)
        timed = commands(gallery, str(next(photos.rglob("*.jpg"))))
        if rounds == 1:
            timed = {name: one for name, one in timed.items() if name not in AGAIN}
        for one in timed.values() if rounds > 1 else ():
            seconds(one)  # warm: files in the page cache
        spent: dict[str, list[float]] = {name: [] for name in timed}
        for _ in range(rounds):
            for name, one in timed.items():
                spent[name].append(seconds(one))
        rows = [row(name, statistics.median(times), "s", **spread(times)) for name, times in spent.items()]
        for name in ("firstsight status", "firstsight log", "import engine"):
            loaded = loads_torch(timed[name])
            rows.append(row(f"{name}: imports torch", float(loaded), "", "= 0", not loaded))
    more = statistics.median(
        answer - torch
        for answer, torch in zip(spent["opening a gallery and the first answer"], spent["import torch"], strict=True)
    )
    return [*rows, row("opening and the first answer, beyond importing torch", more, "s")]


def spread(times: list[float]) -> dict[str, Any]:
    return {"median_of": len(times), "least": round(min(times), 3), "most": round(max(times), 3)}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=ROUNDS)
    arguments.add_argument("--quick", action="store_true")
    chosen = arguments.parse_args()
    report("startup", measure(1 if chosen.quick else chosen.rounds), keep=not chosen.quick)


if __name__ == "__main__":
    main()
