"""Which classes are learnt from and which are only asked for: the splits that protocols name, and folders of them.

A training folder is made once, of links into the unpacked sets, beside them in the cache; `firstsight train` reads it
with ``--class-depth 2``. Its name carries a digest of what it holds, so that a split that changes has a folder of its
own.

    python benchmarks/protocols.py

prints the folders, for a command line.
"""

from __future__ import annotations

import hashlib
import random
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from data import cache_folder, unpacked
from numpy.typing import NDArray

from engine.embedder import Embedder
from engine.few_shot import EpisodeScore
from engine.learned import load_recipe

# -- Omniglot, protocol *vinyals* (Vinyals et al. 2016) ----------------------------------------------------------------

VINYALS_TRAINING = 1200
"""Characters of the 1,623 that are learnt from; the paper drew them at random, without regard to alphabets."""


def omniglot_characters() -> dict[str, Path]:
    """Return the folder of 20 drawings of each of the 1,623 characters, by its name, ``alphabet/character``."""
    sets = (unpacked(f"omniglot/images_{part}.tar.xz") for part in ("background", "evaluation"))
    return {
        f"{character.parent.name}/{character.name}": character
        for alphabets in sets
        for character in sorted(alphabets.glob("*/character*"))
    }


def vinyals_split(seed: int = 0) -> tuple[list[str], list[str]]:
    """Return the names of the 1,200 characters to learn from and of the 423 to test with, each sorted."""
    names = sorted(omniglot_characters())
    training = set(random.Random(seed).sample(names, VINYALS_TRAINING))
    return sorted(training), [name for name in names if name not in training]


def vinyals_training_folder() -> Path:
    """Return the folder ``alphabet/character/drawing`` of the characters to learn from, of all 50 alphabets."""
    characters = omniglot_characters()
    return linked("vinyals_training", {name: characters[name] for name in vinyals_split()[0]})


# -- photos: classes held out of training ------------------------------------------------------------------------------

HELD_OUT = {
    "cifar100": (
        *("beaver", "bottle", "butterfly", "cattle", "cockroach", "dinosaur", "fox", "keyboard", "lizard", "mountain"),
        *("orchid", "pine_tree", "possum", "rocket", "shrew", "spider", "table", "tractor", "wardrobe", "worm"),
    ),
    "tiny_imagenet": (
        *("n01742172_boa_constrictor", "n01944390_snail", "n02074367_dugong", "n02106662_German_shepherd"),
        *("n02132136_brown_bear", "n02403003_ox", "n02669723_academic_gown", "n02841315_binoculars"),
        *("n02977058_cash_machine", "n03089624_confectionery", "n03250847_drumstick", "n03404251_fur_coat"),
        *("n03706229_magnetic_compass", "n03937543_pill_bottle", "n04099969_rocking_chair", "n04328186_stopwatch"),
        *("n04487081_trolleybus", "n07579787_plate", "n07747607_orange", "n12267677_acorn"),
    ),
}
"""Every fifth class of a set in the order of its folders' names (the 5th, the 10th, ...): never learnt from."""

SAME_THING = {
    "cifar100": {
        "bear": "n02132136_brown_bear",
        "bus": "n04487081_trolleybus",
        "chair": "n04099969_rocking_chair",
        "clock": "n04328186_stopwatch",
        "orange": "n07747607_orange",
        "plate": "n07579787_plate",
        "snail": "n01944390_snail",
        "snake": "n01742172_boa_constrictor",
        "streetcar": "n04487081_trolleybus",
    },
    "tiny_imagenet": {
        "n01774384_black_widow": "spider",
        "n02279972_monarch": "butterfly",
        "n03085013_computer_keyboard": "keyboard",
        "n03179701_desk": "table",
        "n03201208_dining_table": "table",
        "n04008634_projectile": "rocket",
        "n04275548_spider_web": "spider",
        "n09246464_cliff": "mountain",
    },
}
"""Classes of a set that show what a held-out class of the other set shows, and that class: not learnt from either.

They are chosen by their names. Pairs of two held-out classes (cattle and ox, bottle and pill bottle) need no line. As
neither training nor benchmarks/heldout.py sees them, benchmarks/choose_shares.py chooses by them.
"""

_SETS = {
    "cifar100": ("cifar100/cifar100_jpeg.tar.xz", "cifar100", ("train", "test")),
    "tiny_imagenet": ("tiny_imagenet_100/tiny_imagenet_100.tar.xz", ".", ("train", "val")),
}


def held_out(name: str) -> frozenset[str]:
    """Return the class folders of the set ``name`` ("cifar100" or "tiny_imagenet") that no training may see."""
    return frozenset(HELD_OUT[name])


def photo_classes(name: str) -> dict[str, list[Path]]:
    """Return the folders of images, one a split, of each class of the set ``name``, by the class folder's name."""
    archive, inner, splits = _SETS[name]
    root = unpacked(archive) / inner
    classes = sorted(folder.name for folder in (root / splits[0]).iterdir())
    return {known: [root / split / known for split in splits] for known in classes}


def class_images(name: str, known: Iterable[str]) -> dict[str, list[Path]]:
    """Return the files of these classes of the set ``name``, of all splits."""
    folders = photo_classes(name)
    return {one: [path for folder in folders[one] for path in sorted(folder.iterdir())] for one in known}


def photo_training_folder() -> Path:
    """Return the folder ``set/class/split/image`` of both sets' classes to learn from, the images of all splits."""
    return linked(
        "photo_training",
        {
            f"{name}/{known}/{folder.parent.name}": folder
            for name in _SETS
            for known, folders in photo_classes(name).items()
            if known not in held_out(name) | SAME_THING[name].keys()
            for folder in folders
        },
    )


def linked(name: str, links: Mapping[str, Path]) -> Path:
    """Return the folder in the cache that holds these links, made whole or not at all."""
    cache = cache_folder()
    digest = hashlib.sha256("\n".join(f"{link}\t{links[link]}" for link in sorted(links)).encode()).hexdigest()
    target = cache / f"{name}-{digest[:8]}"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            fresh = Path(scratch) / name
            for link, folder in links.items():
                (fresh / link).parent.mkdir(parents=True, exist_ok=True)
                (fresh / link).symlink_to(folder, target_is_directory=True)
            fresh.replace(target)
    return target


# -- embeddings, computed once -----------------------------------------------------------------------------------------


def embedded(
    embedder: Embedder,
    images: Sequence[Any],
    load: Callable[[Any], Any] = lambda image: image,
    *,
    batch_size: int = 128,
) -> NDArray[np.float32]:
    """Return the embeddings ``(n, dim)`` of what ``load`` makes of each image, some of them in memory at a time."""
    vectors = np.empty((len(images), embedder.dim), np.float32)
    for start in range(0, len(images), batch_size):
        batch = [load(image) for image in images[start : start + batch_size]]
        vectors[start : start + len(batch)] = embedder.embed(batch, batch_size=batch_size)
        if sys.stderr.isatty():
            print(f"\rembedded {start + len(batch):,} of {len(images):,}", end="", file=sys.stderr, flush=True)
    return vectors


def episode_score(kind: str, weights: str, embedder: Embedder) -> EpisodeScore | None:
    """Return the score of an episode: None for "cosine", that of the checkpoint's recipe for "learned"."""
    if kind == "cosine":
        return None
    recipe = load_recipe(weights, dim=embedder.dim)
    if recipe is None:
        raise SystemExit(f"{weights}: no recipe made these weights; ask for --score cosine")
    return recipe.episode_scores


if __name__ == "__main__":
    print(vinyals_training_folder())
    print(photo_training_folder())
