"""The demo's digits, ten-way one-shot, and what they lose where they are written larger or by a bolder pen.

scikit-learn's 1,797 digits of 8 x 8 pixels, enlarged and put on paper of 64 x 64; ten references, one of each digit,
chosen at random; the nearest names each of the others. The mean of 100 choices, the same for every way of writing.

    python benchmarks/digits.py [--weights bundled] [--choices 100] [--seed 0] [--keep FILE]

Expected with the bundled weights: see benchmarks/results/digits.json. Three minutes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from protocols import embedded
from rows import report, row

from engine.demo import SIDE, accuracy, draw_references, on_paper, read_digits
from engine.statistics import mean_interval
from engine.weights import load_embedder

GOAL = 85.0
MARGINS = 6, 16, 20  # beside the demo's own
AS_SHOWN = "as the demo shows them"
Grid = NDArray[np.float64]


def ways() -> dict[str, Callable[[Grid], Image.Image]]:
    """Return the ways to write a digit: as the demo does, larger and smaller, with a pen a pixel narrower or wider."""
    sizes = {
        f"on {SIDE - 2 * margin} of {SIDE} pixels": lambda grid, margin=margin: on_paper(grid, margin=margin)
        for margin in MARGINS
    }
    return {
        AS_SHOWN: on_paper,
        **sizes,
        "a pixel thinner on every side": lambda grid: on_paper(grid).filter(ImageFilter.MaxFilter(3)),
        "a pixel bolder on every side": lambda grid: on_paper(grid).filter(ImageFilter.MinFilter(3)),
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--weights", default="bundled")
    arguments.add_argument("--choices", type=int, default=100)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--keep", help="file under results/; the bundled weights' run is kept as digits")
    chosen = arguments.parse_args()
    if chosen.choices < 2:
        raise SystemExit("--choices: give at least 2, for there to be an interval")
    embedder, rows = load_embedder(chosen.weights), []
    grids, labels = read_digits()
    draws = draw_references(labels, chosen.choices, chosen.seed)
    for how, write in ways().items():
        vectors = embedded(embedder, grids, write)
        mean, low, high = mean_interval([accuracy(-(vectors @ vectors[draw].T), labels, draw) for draw in draws])
        goal = {"goal": f">= {GOAL:g}", "holds": mean >= GOAL} if how == AS_SHOWN else {}
        told = {"interval": [round(low, 2), round(high, 2)], "seed": chosen.seed}
        rows.append(row(f"digits, ten-way one-shot, {how}, {chosen.choices} choices", mean, "%", **goal, **told))
    report(chosen.keep or "digits", rows, keep=bool(chosen.keep) or chosen.weights == "bundled")


if __name__ == "__main__":
    main()
