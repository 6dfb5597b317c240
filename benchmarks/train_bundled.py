"""The bundled weights: a ResNet-101 with narrow bottlenecks that learns drawings and photos together, at 64 px.

    python benchmarks/train_bundled.py --out both.safetensors [--start drawings.safetensors] [--steps 3000]
    python benchmarks/train_bundled.py --out bundled.safetensors --start drawings.safetensors --blend both.safetensors

Drawings: Omniglot's background set, 30 alphabets, each character turned by 90, 180 and 270 degrees as a further class.
Photos: CIFAR-100 and Tiny ImageNet without the classes that benchmarks/heldout.py asks for. Interrupted, the same
command goes on. Weights that learnt the one and then both have forgotten some of the one: between them lie better ones
for both (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", arXiv:2109.01903), from which a short training
at a low rate goes on (--blend). docs/weights.md says what came out of it, with which arguments, and how long it took.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from data import unpacked
from protocols import photo_training_folder

from engine.augment import Augment
from engine.batches import Balanced
from engine.training import make_recipe, train
from engine.training_set import TrainingSet
from engine.weights import load_embedder, save_checkpoint

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


def blended(start: str, other: str, share: float, out: str) -> str:
    """Write weights that are ``share`` of the other's and the rest of the start's; return their path."""
    embedder, second = load_embedder(start), load_embedder(other).state_dict()
    mean = {
        name: torch.lerp(value, second[name], share) if value.is_floating_point() else value
        for name, value in embedder.state_dict().items()
    }
    embedder.load_state_dict(mean)
    path = Path(out).with_suffix(".start.safetensors")
    save_checkpoint(path, embedder, make_recipe("contrastive", embedder.dim, {}), {"recipe": "contrastive"})
    return str(path)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", required=True)
    arguments.add_argument("--start", help="weights to start from; from nothing if left out")
    arguments.add_argument("--blend", help="weights of which to take --share before learning")
    arguments.add_argument("--share", type=float, default=0.75)
    arguments.add_argument("--steps", type=int, default=3000)
    arguments.add_argument("--drawings", type=int, default=8, help="their classes in a batch")
    arguments.add_argument("--photos", type=int, default=16, help="their classes in a batch")
    arguments.add_argument("--learning-rate", type=float, default=1e-3)
    arguments.add_argument("--average", type=float, default=0.0)
    arguments.add_argument("--seed", type=int, default=0)
    chosen = arguments.parse_args()

    def say(step: int, steps: int, loss: float) -> None:
        if step % 20 == 0:
            print(f"{step}/{steps} loss {loss:.3f}", file=sys.stderr, flush=True)

    start = chosen.start
    if chosen.blend:
        start = blended(start, chosen.blend, chosen.share, chosen.out)
    train(
        sets(chosen.drawings, chosen.photos),
        chosen.out,
        weights=start,
        backbone="resnet101-slim",
        size=64,
        steps=chosen.steps,
        learning_rate=chosen.learning_rate,
        weight_decay=0.05,
        average=chosen.average,
        seed=chosen.seed,
        on_step=say,
    )


if __name__ == "__main__":
    main()
