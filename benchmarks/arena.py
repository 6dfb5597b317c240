"""The arena: every recipe on equal terms, so that a user can choose one and a broken one is found.

All teach the same network (conv4, the papers' four blocks of 64) from nothing, with the same number of images, the same
optimiser and seed. Then all answer the same episodes, each by the score that it has learned, and a paired test says
whether a recipe is better than prototypical networks on them. Three trainings a recipe: *vinyals* (28 px, 1,200
characters of all alphabets), *background* (28 px, 30 alphabets; asked under the protocols *lake* and *koch*), *photos*
(32 px, CIFAR-100 and Tiny ImageNet without the classes held out; asked about CIFAR-100's held-out ones).

    python benchmarks/arena.py [--train vinyals background photos] [--recipes NAME ...] [--share 1.0]

trains what is not yet in the cache, for hours (interrupted, it goes on), and measures. --share takes a smaller or
larger share of the steps, for instance 4 where there is a GPU. Rows in benchmarks/results/arena.json, the picture in
benchmarks/results/arena.svg; of some of the worlds alone in arena_WORLD.json and .svg; of some of the recipes nowhere,
as too little stands beside them, unless --keep names a file: what a recipe comes to that needs longer than the others.

    python benchmarks/arena.py --train vinyals --recipes relation --share 3 --keep arena_relation
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import heldout
import numpy as np
import omniglot
import torch
from charts import dot_chart
from data import unpacked
from numpy.typing import NDArray
from protocols import photo_training_folder, vinyals_training_folder
from rows import RESULTS, report, row

from engine.augment import Augment
from engine.batches import Balanced, Sampler
from engine.embedder import Embedder
from engine.episodes import Episodes
from engine.few_shot import EpisodeScore, few_shot
from engine.learned import load_recipe
from engine.recipes import RECIPES
from engine.statistics import mean_interval, paired_test
from engine.training import train
from engine.training_set import TrainingSet
from engine.weights import load_embedder

STILL = Augment(rotation=0, translation=0, scale=0, flip=False, colour=0)  # as the papers: turned classes, no views
PEN = Augment(rotation=10, translation=0.08, scale=0.2, shear=10, flip=False, colour=0)
LENS = Augment(rotation=5, translation=0.1, scale=0.3, flip=True, colour=0.3)

RIVALS = [name for name in RECIPES if name != "distillation"]  # which learns from what another one has learnt
YARDSTICK = "prototypical"
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
    "background": World(400, 28, 0.5, quarter_turns=True, augment=PEN),
    "photos": World(400, 32, 0.5, quarter_turns=False, augment=LENS),
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


# -- measuring ---------------------------------------------------------------------------------------------------------

Accuracies = dict[str, NDArray[np.float64]]
"""By task, the share right in each of its parts: episodes, runs or rounds. All recipes meet the same parts."""

EPISODES = 1000


def ask_vinyals(embedder: Embedder, score: EpisodeScore, seed: int) -> Accuracies:
    vectors, labels = omniglot.vinyals_vectors(embedder)
    return {
        f"vinyals, {name}": few_shot(
            vectors, labels, n_way=n_way, k_shot=k_shot, episodes=EPISODES, seed=seed, score=score
        ).accuracies
        for name, (n_way, k_shot) in omniglot.SETTINGS.items()
    }


def ask_background(embedder: Embedder, score: EpisodeScore, seed: int) -> Accuracies:
    alphabets = omniglot.evaluation_alphabets(embedder)
    vectors = np.concatenate([drawings.reshape(-1, embedder.dim) for drawings in alphabets.values()])
    sizes = [drawings.shape[:2] for drawings in alphabets.values()]
    groups = np.repeat(np.arange(len(sizes)), [characters * each for characters, each in sizes])
    labels = np.concatenate(
        [1000 * group + np.repeat(np.arange(characters), each) for group, (characters, each) in enumerate(sizes)]
    )
    n_way = min(20, *(characters for characters, _ in sizes))
    random_ones = few_shot(
        vectors, labels, n_way=n_way, k_shot=1, episodes=EPISODES, seed=seed, score=score, groups=groups
    )
    return {
        "lake, 20-way 1-shot, 20 runs": np.array(omniglot.lake(embedder, score)) / 20,
        "koch, 20-way 1-shot, 20 rounds": np.array(omniglot.koch(alphabets, seed, score)) / 20,
        f"within an alphabet, {n_way}-way 1-shot": random_ones.accuracies,
    }


def ask_photos(embedder: Embedder, score: EpisodeScore, seed: int) -> Accuracies:
    vectors, labels = heldout.vectors_of(embedder, heldout.held_out_images("cifar100"))
    return {
        f"CIFAR-100 held out, 5-way {k_shot}-shot": few_shot(
            vectors, labels, n_way=5, k_shot=k_shot, episodes=EPISODES, seed=seed, score=score
        ).accuracies
        for k_shot in (1, 5)
    }


ASK = {"vinyals": ask_vinyals, "background": ask_background, "photos": ask_photos}


def measure(world: str, recipes: list[str], share: float, seed: int) -> dict[str, Accuracies]:
    """Return by recipe what it gets right of the tasks of ``world``."""
    found = {}
    for recipe in recipes:
        weights = weights_of(world, recipe, share)
        embedder = load_embedder(weights)
        taught = load_recipe(weights, dim=embedder.dim)
        if taught is None:
            raise SystemExit(f"{weights}: its card names no recipe: delete it and train again")
        found[recipe] = ASK[world](embedder, taught.episode_scores, seed)
    return found


def rows_of(world: str, found: dict[str, Accuracies], share: float, seed: int) -> Iterator[dict[str, Any]]:
    """Yield a row for each task and recipe, with its difference from the yardstick on the same parts."""
    for recipe, tasks in found.items():
        cost = json.loads(weights_of(world, recipe, share).with_suffix(".json").read_text(encoding="utf-8"))
        for place, (task, accuracies) in enumerate(tasks.items()):
            mean, low, high = (100 * figure for figure in mean_interval(accuracies))
            card = {"recipe": recipe, "embedder": {"backbone": "conv4"}}
            goal = omniglot.paper_goal(card, place, mean, high) if world == "vinyals" else {}
            yield row(
                f"{task}, {recipe}",
                mean,
                "%",
                **goal,
                interval=[round(low, 2), round(high, 2)],
                against_prototypical=compared(accuracies, found.get(YARDSTICK, {}).get(task)),
                images_learnt_from=cost["images"],
                training_seconds=cost["seconds"],
                peak_megabytes=cost["megabytes"],
                seed=seed,
            )


def compared(accuracies: NDArray[np.float64], yardstick: NDArray[np.float64] | None) -> dict[str, float] | None:
    """Return the difference in points with its 95 % interval and the paired test's p."""
    if yardstick is None or yardstick is accuracies:
        return None
    test = paired_test(accuracies, yardstick)
    points = {name: round(100 * getattr(test, name), 2) for name in ("difference", "low", "high")}
    return {**points, "p": float(f"{test.p:.2g}")}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--train", nargs="*", choices=WORLDS, default=list(WORLDS))
    arguments.add_argument("--recipes", nargs="*", choices=RIVALS, default=RIVALS)
    arguments.add_argument("--share", type=float, default=1.0)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--keep", help="file under results/ for the rows")
    chosen = arguments.parse_args()
    teach_all(chosen.train, chosen.recipes, chosen.share, chosen.seed)
    rows, panels = [], {}
    for world in chosen.train:
        found = measure(world, chosen.recipes, chosen.share, chosen.seed)
        rows += rows_of(world, found, chosen.share, chosen.seed)
        for task in next(iter(found.values())):
            panels[task] = {
                recipe: tuple(100 * figure for figure in mean_interval(tasks[task])) for recipe, tasks in found.items()
            }
    # A world alone is a result of its own, a recipe alone is not, unless asked for: nothing stands beside it.
    name = chosen.keep or ("arena" if set(chosen.train) == set(WORLDS) else "_".join(("arena", *chosen.train)))
    every = set(chosen.recipes) == set(RIVALS)
    report(name, rows, keep=every or bool(chosen.keep))
    if every:
        title = "The arena: every recipe on equal terms, conv4, 95 % intervals"
        dot_chart(RESULTS / f"{name}.svg", title, panels)


if __name__ == "__main__":
    main()
