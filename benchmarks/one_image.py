"""One image a class to learn from: what random views of it bring.

*Omniglot*: conv4 at 28 px learns from one drawing of each of the 964 background characters, with the drawing as it is,
with random views of it, and with CutMix beside them; then it is asked about new alphabets (*lake*, and the random
trials within an alphabet). *GroceryStore*: the given weights learn from the 81 icons alone, and are asked about the
2,485 shop photos before and after.

    python benchmarks/one_image.py [--only omniglot grocery] [--weights bundled] [--share 1.0]

About 20 minutes on two cores, two of them for the icons; rows in benchmarks/results/one_image_drawings.json and
one_image_icons.json. Interrupted, it goes on.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grocery
import omniglot
import torch
from arena import PEN, STILL, arena_folder
from data import unpacked
from protocols import linked
from rows import report, row

from engine.augment import Augment
from engine.batches import Balanced
from engine.statistics import wilson
from engine.training import train
from engine.training_set import TrainingSet
from engine.weights import load_embedder

ICON_VIEWS = Augment(rotation=25, translation=0.2, scale=0.6, shear=10, flip=True, colour=0.3, blur=0.02, erase=0.3)
DRAWN = {
    "as it is": (STILL, 0.0),
    "random views": (replace(PEN, rotation=20, scale=0.3, shear=15), 0.0),
    "random views and CutMix": (replace(PEN, rotation=20, scale=0.3, shear=15), 0.5),
}


def one_drawing_each() -> Path:
    """Return a folder with the first drawing of each background character."""
    root = unpacked("omniglot/images_background.tar.xz")
    first = (sorted(character.iterdir())[0] for character in sorted(root.glob("*/character*")))
    return linked("one_drawing", {str(drawing.relative_to(root)): drawing for drawing in first})


def on_omniglot(share: float, seed: int) -> Iterator[dict[str, Any]]:
    """Yield the rows of each way to look at the one drawing, and of the network before it has learnt."""
    for name, (augment, cutmix) in DRAWN.items():
        out = arena_folder() / f"one-drawing-{name.replace(' ', '-')}-{share:g}.safetensors"
        if not out.exists():
            sampler = Balanced(n_classes=40, n_images=3, siblings=0.5)
            drawings = TrainingSet(
                one_drawing_each(), class_depth=2, quarter_turns=True, augment=augment, sampler=sampler, cutmix=cutmix
            )
            train(
                drawings,
                out,
                weights=None,
                backbone="conv4",
                size=28,
                steps=round(500 * share),
                learning_rate=2e-3,
                seed=seed,
            )
        embedder = load_embedder(out)
        alphabets = omniglot.evaluation_alphabets(embedder)
        figures = {
            "lake": (sum(omniglot.lake(embedder)), omniglot.TRIALS),
            "random within-alphabet": omniglot.within_alphabet(alphabets, 10_000, seed),
        }
        for task, (right, trials) in figures.items():
            yield counted(f"Omniglot {task}, one drawing a class learnt from, {name}", right, trials, seed)


def on_grocery(weights: str, share: float, seed: int) -> Iterator[dict[str, Any]]:
    """Yield how many shop photos find their product by its icon, before and after learning from the icons."""
    names, coarse = grocery.classes()
    folder = unpacked("grocery_store/grocery_store_256.tar.xz") / "grocery_store" / "iconic"
    out = arena_folder() / f"icons-{Path(weights).stem}-{share:g}.safetensors"
    if not out.exists():
        icons = TrainingSet(folder, augment=ICON_VIEWS, sampler=Balanced(n_classes=48, n_images=2))
        train(icons, out, weights=weights, steps=round(100 * share), learning_rate=2e-4, seed=seed)
    for when, chosen in (("before", weights), ("after", out)):
        embedder = load_embedder(chosen)
        known, asked = (grocery.photos(embedder, split, names) for split in ("iconic", "test"))
        right = grocery.right_answers(grocery.ranked(asked, known, len(names)), asked.labels, coarse)
        for figure, count in right.items():
            measure = f"GroceryStore {figure} by icons, {when} learning from the icons alone"
            yield counted(measure, count, len(asked.labels), seed)


def counted(measure: str, right: int, trials: int, seed: int) -> dict[str, Any]:
    interval = [round(100 * bound, 2) for bound in wilson(right, trials)]
    return row(measure, 100 * right / trials, "%", interval=interval, seed=seed)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--only", nargs="*", choices=("omniglot", "grocery"), default=["omniglot", "grocery"])
    arguments.add_argument("--weights", default="bundled")
    arguments.add_argument("--share", type=float, default=1.0, help="of the steps")
    arguments.add_argument("--seed", type=int, default=0)
    chosen = arguments.parse_args()
    torch.set_num_threads(1)
    whole = chosen.share == 1
    if "omniglot" in chosen.only:
        report("one_image_drawings", list(on_omniglot(chosen.share, chosen.seed)), keep=whole)
    if "grocery" in chosen.only:
        report("one_image_icons", list(on_grocery(chosen.weights, chosen.share, chosen.seed)), keep=whole)


if __name__ == "__main__":
    main()
