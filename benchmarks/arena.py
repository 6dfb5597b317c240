"""The arena: every recipe on equal terms, so that a user can choose one and a broken one is found.

All teach the same network (conv4, the papers' four blocks of 64) from nothing, with the same number of images, the same
optimiser and seed. Then all answer the same episodes, each by the score that it has learned, and a paired test says
whether a recipe is better than prototypical networks on them. Three trainings a recipe: *vinyals* (28 px, 1,200
characters of all alphabets), *background* (28 px, 30 alphabets; asked under the protocols *lake* and *koch*), *photos*
(32 px, CIFAR-100 and Tiny ImageNet without the classes held out; asked about CIFAR-100's held-out ones).

    python benchmarks/arena.py [--train vinyals background photos] [--recipes NAME ...] [--share 1.0]

trains what is not yet in the cache, for hours (interrupted, it goes on), and measures. --share takes a smaller or
larger share of the steps, for instance 4 where there is a GPU. Rows in benchmarks/results/arena.json, the picture in
benchmarks/results/arena.svg.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from data import unpacked
from protocols import photo_training_folder, vinyals_training_folder

from engine.augment import Augment
from engine.batches import Balanced, Sampler
from engine.episodes import Episodes
from engine.recipes import RECIPES
from engine.training import train
from engine.training_set import TrainingSet

STILL = Augment(rotation=0, translation=0, scale=0, flip=False, colour=0)  # as the papers: turned classes, no views
PEN = Augment(rotation=10, translation=0.08, scale=0.2, shear=10, flip=False, colour=0)
LENS = Augment(rotation=5, translation=0.1, scale=0.3, flip=True, colour=0.3)

PAIRED = ("contrastive", "siamese")  # they learn from pairs; the others from episodes


@dataclass(frozen=True, slots=True)
class World:
    """What a recipe learns from, how large, how long, and which share of its batches are hard choices."""

    steps: int
    size: int
    siblings: float
    quarter_turns: bool
    augment: Augment

    def folder(self, name: str) -> Path:
        """Return the folder of the classes to learn from."""
        if name == "background":
            return unpacked("omniglot/images_background.tar.xz")
        return vinyals_training_folder() if name == "vinyals" else photo_training_folder()

    def sampler(self, recipe: str) -> Sampler:
        """Return 40 classes of 3 images: the same number of images whatever they are used for."""
        if recipe in PAIRED:
            return Balanced(n_classes=40, n_images=3, siblings=self.siblings)
        return Episodes(n_way=40, k_shot=1, n_query=2, siblings=self.siblings)


WORLDS = {
    "vinyals": World(2000, 28, 0.0, quarter_turns=True, augment=STILL),
    "background": World(1000, 28, 0.5, quarter_turns=True, augment=PEN),
    "photos": World(1000, 32, 0.5, quarter_turns=False, augment=LENS),
}


def arena_folder() -> Path:
    folder = unpacked("omniglot/images_background.tar.xz").parent.parent / "arena"
    folder.mkdir(exist_ok=True)
    return folder


def weights_of(world: str, recipe: str, share: float) -> Path:
    return arena_folder() / f"{world}-{recipe}-{share:g}.safetensors"


def teach(world_name: str, recipe: str, share: float, seed: int) -> None:
    """Train one recipe, and write beside its weights what it cost; in a process of its own, whose memory is its own."""
    torch.set_num_threads(1)
    world, out = WORLDS[world_name], weights_of(world_name, recipe, share)

    def say(step: int, steps: int, loss: float) -> None:
        if step % 50 == 0 or step == steps:
            print(f"{world_name} {recipe} {step}/{steps} loss {loss:.3f}", file=sys.stderr, flush=True)

    report = train(
        TrainingSet(
            world.folder(world_name),
            class_depth=2,
            quarter_turns=world.quarter_turns,
            augment=world.augment,
            sampler=world.sampler(recipe),
        ),
        out,
        recipe=recipe,
        weights=None,
        backbone="conv4",
        size=world.size,
        steps=round(world.steps * share),
        learning_rate=2e-3,
        seed=seed,
        on_step=say,
    )
    megabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    cost = {"seconds": report.seconds, "megabytes": round(megabytes), "images": 120 * report.steps, "seed": seed}
    out.with_suffix(".json").write_text(json.dumps({**cost, **asdict(report)}), encoding="utf-8")


def teach_all(worlds: list[str], recipes: list[str], share: float, seed: int) -> None:
    for world in worlds:
        for recipe in recipes:
            if not weights_of(world, recipe, share).with_suffix(".json").exists():
                process = multiprocessing.get_context("spawn").Process(target=teach, args=(world, recipe, share, seed))
                process.start()
                process.join()
                if process.exitcode:
                    raise SystemExit(process.exitcode)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--train", nargs="*", choices=WORLDS, default=list(WORLDS))
    arguments.add_argument("--recipes", nargs="*", choices=RECIPES, default=list(RECIPES))
    arguments.add_argument("--share", type=float, default=1.0)
    arguments.add_argument("--seed", type=int, default=0)
    chosen = arguments.parse_args()
    teach_all(chosen.train, chosen.recipes, chosen.share, chosen.seed)


if __name__ == "__main__":
    main()
