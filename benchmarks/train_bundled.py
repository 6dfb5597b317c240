"""The bundled weights: a ResNet-101 with narrow bottlenecks that learns drawings and photos together, at 64 px.

    python benchmarks/train_bundled.py --out both.safetensors [--start drawings.safetensors] [--steps 3000]
    python benchmarks/train_bundled.py --blend drawings.safetensors both.safetensors --out bundled.safetensors

Drawings: Omniglot's background set, 30 alphabets, each character turned by 90, 180 and 270 degrees as a further class.
Photos: CIFAR-100 and Tiny ImageNet without the classes that benchmarks/heldout.py asks for. Interrupted, the same
command goes on. Weights that learnt the one and then both have forgotten some of the one; weights between the two files
do better at both (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", arXiv:2109.01903): --blend.
docs/weights.md says what came out of it, with which arguments, and how long it took.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from random import Random

import torch
from data import unpacked
from protocols import photo_training_folder

from engine.augment import Augment
from engine.batches import Balanced
from engine.embedder import Embedder
from engine.training import make_recipe, train
from engine.training_set import TrainingSet, read_sets
from engine.weights import load_embedder, read_checkpoint, save_checkpoint

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


def blend(first: str, second: str, share: float, out: str, seed: int) -> None:
    """Write weights that are ``share`` of the second's and the rest of the first's, norms settled on the mixture."""
    (card, _), embedder = read_checkpoint(Path(second)), load_embedder(first)
    other = load_embedder(second).state_dict()
    embedder.load_state_dict(
        {
            name: torch.lerp(value, other[name], share) if value.is_floating_point() else value
            for name, value in embedder.state_dict().items()
        }
    )
    settle(embedder, seed)
    card["training"]["weights"] = card["training"]["weights"] and Path(card["training"]["weights"]).name
    card["blend"] = {"first": Path(first).name, "second": Path(second).name, "share": share, "seed": seed}
    told = {name: card[name] for name in ("recipe", "training", "blend")}
    save_checkpoint(Path(out), embedder, make_recipe(card["recipe"], embedder.dim, {}), told)


def settle(embedder: Embedder, seed: int, batches: int = 20) -> None:
    """Measure anew what batch norm subtracts and divides by: a mean of weights has statistics of its own."""
    mixture = read_sets(sets(8, 16), embedder.preprocessing, Balanced())
    for norm in embedder.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.reset_running_stats()
            norm.momentum = None  # a plain mean over the batches
    embedder.train()
    with torch.no_grad():
        for number in range(batches):
            embedder(mixture.batch(Random(f"{seed}/{number}"), embedder.device).images)
    embedder.eval()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--out", required=True)
    arguments.add_argument("--start", help="weights to start from; from nothing if left out")
    arguments.add_argument("--blend", nargs=2, metavar=("FIRST", "SECOND"), help="learn nothing: average two files")
    arguments.add_argument("--share", type=float, default=0.75, help="of the second file")
    arguments.add_argument("--steps", type=int, default=3000)
    arguments.add_argument("--drawings", type=int, default=8, help="their classes in a batch")
    arguments.add_argument("--photos", type=int, default=16, help="their classes in a batch")
    arguments.add_argument("--learning-rate", type=float, default=1e-3)
    arguments.add_argument("--seed", type=int, default=0)
    chosen = arguments.parse_args()

    def say(step: int, steps: int, loss: float) -> None:
        if step % 20 == 0:
            print(f"{step}/{steps} loss {loss:.3f}", file=sys.stderr, flush=True)

    if chosen.blend:
        blend(*chosen.blend, chosen.share, chosen.out, chosen.seed)
        return
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
