"""The bundled weights: a ResNet-101 with narrow bottlenecks that learns drawings and photos together, at 64 px.

    python benchmarks/train_bundled.py --out bundled.safetensors [--start drawings.safetensors] [--steps 3000]

Drawings: Omniglot's background set, 30 alphabets, each character turned by 90, 180 and 270 degrees as a further class.
Photos: CIFAR-100 and Tiny ImageNet without the classes that benchmarks/heldout.py asks for. Interrupted, the same
command goes on. docs/weights.md says what came out of it, with which arguments, and how long it took.
"""

from __future__ import annotations

import argparse
import sys

from data import unpacked
from protocols import photo_training_folder

from engine.augment import Augment
from engine.batches import Balanced
from engine.training import train
from engine.training_set import TrainingSet

PEN = Augment(rotation=15, translation=0.1, scale=0.35, shear=15, flip=False, colour=0.3, blur=0.05, stroke=0.05)
LENS = Augment(rotation=10, translation=0.15, scale=0.5, shear=5, flip=True, colour=0.3, blur=0.02)


def sets(drawings: int, photos: int) -> list[TrainingSet]:
    """Return the training sets, of which a batch shows so many classes, four images each."""
    return [
        TrainingSet(
            unpacked("omniglot/images_background.tar.xz"),
            class_depth=2,
            quarter_turns=True,
            augment=PEN,
            sampler=Balanced(n_classes=drawings, n_images=4, siblings=0.5),
        ),
        # Siblings are classes of one set: what tells the sets apart, their sharpness, is nothing to learn.
        TrainingSet(
            photo_training_folder(),
            class_depth=2,
            augment=LENS,
            sampler=Balanced(n_classes=photos, n_images=4, siblings=0.5),
        ),
    ]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", required=True)
    arguments.add_argument("--start", help="weights to start from; from nothing if left out")
    arguments.add_argument("--steps", type=int, default=3000)
    arguments.add_argument("--drawings", type=int, default=8, help="their classes in a batch")
    arguments.add_argument("--photos", type=int, default=16, help="their classes in a batch")
    arguments.add_argument("--learning-rate", type=float, default=1e-3)
    arguments.add_argument("--seed", type=int, default=0)
    chosen = arguments.parse_args()

    def say(step: int, steps: int, loss: float) -> None:
        if step % 20 == 0:
            print(f"{step}/{steps} loss {loss:.3f}", file=sys.stderr, flush=True)

    train(
        sets(chosen.drawings, chosen.photos),
        chosen.out,
        weights=chosen.start,
        backbone="resnet101-slim",
        size=64,
        steps=chosen.steps,
        learning_rate=chosen.learning_rate,
        weight_decay=0.05,
        seed=chosen.seed,
        on_step=say,
    )


if __name__ == "__main__":
    main()
