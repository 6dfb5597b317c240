"""The bundled weights: a ResNet-101 with narrow bottlenecks that learns drawings and photos together, at 64 px.

    python benchmarks/train_bundled.py --start drawings.safetensors --out both.safetensors --steps 4000
    python benchmarks/train_bundled.py --recipe classification --start both.safetensors --out classes.safetensors
    python benchmarks/train_bundled.py --blend drawings.safetensors classes.safetensors --out bundled.safetensors

Drawings: Omniglot's background set, 30 alphabets, each character turned by 90, 180 and 270 degrees as a further class.
Photos: CIFAR-100 and Tiny ImageNet without the classes that benchmarks/heldout.py asks for. Interrupted, the same
command goes on. Weights that learnt the one and then both have forgotten some of the one; weights between the two files
do better at both (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models", arXiv:2109.01903): --blend.
docs/weights.md says what came out of it, with which arguments, and how long it took.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, field, replace
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


@dataclass(frozen=True, slots=True)
class Stage:
    """What a batch shows of drawings and of photos, how the drawings are seen, and how many batches make a step."""

    drawings: Balanced
    photos: Balanced
    pen: Augment = PEN
    options: dict[str, float] = field(default_factory=dict)
    accumulate: int = 1


STAGES = {
    # Siblings of photos are classes of one set: what tells the sets apart, their sharpness, is nothing to learn.
    "contrastive": Stage(
        Balanced(n_classes=8, n_images=4, siblings=0.5), Balanced(n_classes=16, n_images=4, siblings=0.5)
    ),
    # Here a photo is compared with all classes, whatever its batch: two of a class, so that more classes are seen.
    "classification": Stage(
        Balanced(n_classes=4, n_images=4, siblings=0.5),
        Balanced(n_classes=22, n_images=2),
        pen=replace(PEN, elastic=0.06),
        options={"contrast": 1.0},
        accumulate=2,
    ),
}
"""By the recipe that is used."""


def sets(stage: Stage) -> list[TrainingSet]:
    """Return the training sets of a stage."""
    return [
        TrainingSet(
            unpacked("omniglot/images_background.tar.xz"),
            class_depth=2,
            quarter_turns=True,
            augment=stage.pen,
            sampler=stage.drawings,
        ),
        TrainingSet(photo_training_folder(), class_depth=2, augment=LENS, sampler=stage.photos),
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
    mixture = read_sets(sets(STAGES["contrastive"]), embedder.preprocessing, Balanced())
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
    arguments.add_argument("--recipe", choices=STAGES, default="contrastive")
    arguments.add_argument("--start", help="weights to start from; from nothing if left out")
    arguments.add_argument("--blend", nargs=2, metavar=("FIRST", "SECOND"), help="learn nothing: average two files")
    arguments.add_argument("--share", type=float, default=0.75, help="of the second file")
    arguments.add_argument("--steps", type=int, default=3000)
    arguments.add_argument("--learning-rate", type=float, default=1e-3)
    arguments.add_argument("--seed", type=int, default=0)
    chosen = arguments.parse_args()

    def say(step: int, steps: int, loss: float) -> None:
        if step % 20 == 0:
            print(f"{step}/{steps} loss {loss:.3f}", file=sys.stderr, flush=True)

    if chosen.blend:
        blend(*chosen.blend, chosen.share, chosen.out, chosen.seed)
        return
    stage = STAGES[chosen.recipe]
    train(
        sets(stage),
        chosen.out,
        recipe=chosen.recipe,
        options=stage.options,
        weights=chosen.start,
        backbone="resnet101-slim",
        size=64,
        steps=chosen.steps,
        accumulate=stage.accumulate,
        learning_rate=chosen.learning_rate,
        weight_decay=0.05,
        seed=chosen.seed,
        on_step=say,
    )


if __name__ == "__main__":
    main()
