"""GroceryStore, fine-tuned: weights learn from its train photos and icons, for `benchmarks/grocery.py` to ask.

    python benchmarks/fine_tune.py --out grocery.safetensors [--weights bundled@64of107] [--size 64] [--steps 300]
    python benchmarks/grocery.py --weights grocery.safetensors --fine-tuned

Each batch shows classes with their photos and their icon, and some photos as an icon shows things, so that both come to
lie together; of all of them the middle is seen. No test photo is learnt from, nor looked at. Interrupted, the same
command goes on. docs/weights.md has the rounds that led to the figures that are kept.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from random import Random

from data import unpacked
from protocols import linked

from engine.augment import Augment
from engine.batches import Balanced
from engine.training import train
from engine.training_set import TrainingSet
from engine.transfer import Transfer

VIEWS = Augment(
    rotation=15, translation=0.15, scale=0.5, shear=5, flip=True, colour=0.2, blur=0.01, erase=0.2, on_white=0.25
)


@dataclass(frozen=True, slots=True)
class IconAndPhotos(Balanced):
    """Batches in which each class shows its icon, the first of its images by path, and photos."""

    def _draw_rows(self, rows: list[int], random: Random) -> list[int]:
        icon, *photos = rows
        return [icon, *random.sample(photos * self.n_images, self.n_images - 1)]


def training_folder() -> str:
    """Return a folder ``class/split/image`` of the train photos and the icons."""
    root = unpacked("grocery_store/grocery_store_256.tar.xz") / "grocery_store"
    return str(
        linked(
            "grocery_training",
            {
                f"{known.name}/{split}": root / split / known.name
                for split in ("train", "iconic")
                for known in sorted((root / "iconic").iterdir())
            },
        )
    )


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", required=True)
    arguments.add_argument("--weights", default="bundled@64of107")
    arguments.add_argument("--size", type=int, default=64)
    arguments.add_argument("--steps", type=int, default=300)
    arguments.add_argument("--learning-rate", type=float, default=5e-4)
    arguments.add_argument("--layer-decay", type=float, default=0.8)
    arguments.add_argument("--seed", type=int, default=0)
    chosen = arguments.parse_args()

    def say(step: int, steps: int, loss: float) -> None:
        if step % 10 == 0:
            print(f"{step}/{steps} loss {loss:.3f}", file=sys.stderr, flush=True)

    train(
        TrainingSet(training_folder(), augment=VIEWS, sampler=IconAndPhotos(n_classes=16, n_images=4)),
        chosen.out,
        recipe="classification",
        options={"contrast": 1.0, "imprint": 4},
        weights=chosen.weights,
        size=chosen.size,
        transfer=Transfer(layer_decay=chosen.layer_decay),
        steps=chosen.steps,
        accumulate=2,
        learning_rate=chosen.learning_rate,
        seed=chosen.seed,
        on_step=say,
    )


if __name__ == "__main__":
    main()
