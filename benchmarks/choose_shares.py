"""The shares of the bundled weights' blend, chosen by what neither training nor any evaluation sees.

Photos: 17 classes that are left out of training as they show what a held-out class shows (``SAME_THING`` in
benchmarks/protocols.py), 5-way 1-shot, the mean of both sets. Drawings: the background characters in a mirror, which
are other characters, 20-way 1-shot within an alphabet; the mean of them as they are and taken down to 12 x 12 pixels.
The rule: photos may lose 2 points to the mixture that is best at them; of the mixtures that lose less, the one that is
best at drawings, and of those that are as good at them but for 0.2 points, which chance makes, the one best at photos.

    python benchmarks/choose_shares.py drawings.safetensors photos.safetensors --shares 0,1 0.1,0.9 0.3,0.7
    python benchmarks/choose_shares.py mixed.safetensors bundled.safetensors
    python benchmarks/choose_shares.py bundled --ink 0 0.8 0.6,0.8 0.45,0.8

Without shares each file is measured as it is; with --ink, weights that look at drawings once, or at sizes beside.

Expected: see benchmarks/results/shares.json, without shares finish.json, with --ink ink.json.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from data import unpacked
from heldout import vectors_of
from PIL import Image, ImageOps
from protocols import SAME_THING, class_images, embedded
from rows import report, row
from train_bundled import blend_images, blended

from engine.embedder import Embedder
from engine.few_shot import few_shot
from engine.weights import load_embedder

PHOTOS = "photos left out, 5-way 1-shot"
LOSS = 2.0  # points of photos that drawings may cost
LEVEL = 0.2  # points of drawings by which mixtures do not differ
N_WAY, DRAWINGS, QUERIES, EPISODES = 20, 5, 4, 2000
COARSE = 12  # pixels a side: a character still has eight of them


def photos(embedder: Embedder, seed: int) -> float:
    """Return the mean accuracy, in per cent, of 5-way 1-shot episodes of both sets' classes left out."""
    means = []
    for name, left_out in SAME_THING.items():
        vectors, labels = vectors_of(embedder, class_images(name, sorted(left_out)))
        means.append(few_shot(vectors, labels, n_way=5, k_shot=1, episodes=EPISODES, seed=seed).mean)
    return 100 * float(np.mean(means))


def mirrored_drawings(embedder: Embedder, view: Callable[[Path], Image.Image], seed: int) -> float:
    """Return the accuracy, in per cent, within the alphabets that have enough characters, seen in a mirror."""
    alphabets = [sorted(folder.iterdir()) for folder in sorted(unpacked("omniglot/images_background.tar.xz").iterdir())]
    characters = [folder for alphabet in alphabets if len(alphabet) >= N_WAY for folder in alphabet]
    drawings = [drawing for folder in characters for drawing in sorted(folder.iterdir())[:DRAWINGS]]
    found = few_shot(
        embedded(embedder, drawings, view),
        [str(drawing.parent) for drawing in drawings],
        groups=[drawing.parent.parent.name for drawing in drawings],
        n_way=N_WAY,
        k_shot=1,
        n_query=QUERIES,
        episodes=EPISODES,
        seed=seed,
    )
    return 100 * found.mean


def in_a_mirror(drawing: Path) -> Image.Image:
    """Return a drawing with left and right exchanged."""
    with Image.open(drawing) as image:
        return ImageOps.mirror(image.convert("RGB"))


def coarse_in_a_mirror(drawing: Path) -> Image.Image:
    """Return the same with as many pixels as a small scan has, enlarged again."""
    image = in_a_mirror(drawing)
    return image.resize((COARSE, COARSE), Image.Resampling.BOX).resize(image.size, Image.Resampling.BICUBIC)


def measured(embedder: Embedder, seed: int) -> dict[str, float]:
    """Return what is measured of a mixture, in per cent."""
    return {
        PHOTOS: photos(embedder, seed),
        "mirrored drawings, 20-way 1-shot": mirrored_drawings(embedder, in_a_mirror, seed),
        f"the same of {COARSE} x {COARSE} pixels": mirrored_drawings(embedder, coarse_in_a_mirror, seed),
    }


def chosen_of(mixtures: Sequence[dict[str, float]]) -> int:
    """Return the place of the mixture that the rule takes."""
    least = max(one[PHOTOS] for one in mixtures) - LOSS
    drawings = {
        place: float(np.mean([value for what, value in one.items() if what != PHOTOS]))
        for place, one in enumerate(mixtures)
        if one[PHOTOS] >= least
    }
    level = max(drawings.values()) - LEVEL
    return max((place for place in drawings if drawings[place] >= level), key=lambda place: mixtures[place][PHOTOS])


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("files", nargs="+", help="weights to average, or to measure")
    arguments.add_argument(
        "--shares", nargs="+", metavar="A,B,...", help="mixtures: a share of each file; each file alone if left out"
    )
    arguments.add_argument(
        "--ink", nargs="+", metavar="A,B,...", help="shares of the paper that a drawing fills in further looks; 0: none"
    )
    arguments.add_argument("--seed", type=int, default=0)
    chosen = arguments.parse_args()
    found = {}
    for name, embedder in named(chosen):
        found[name] = measured(embedder, chosen.seed)
        told = ", ".join(f"{what} {value:.2f} %" for what, value in found[name].items())
        print(f"{name}: {told}", file=sys.stderr, flush=True)
    best = chosen_of(list(found.values())) if chosen.shares or chosen.ink else None
    rows = [
        row(f"{name}: {what}{', chosen' if place == best else ''}", value, "%", seed=chosen.seed)
        for place, (name, one) in enumerate(found.items())
        for what, value in one.items()
    ]
    report("shares" if chosen.shares else "ink" if chosen.ink else "finish", rows)


def named(chosen: argparse.Namespace) -> Iterator[tuple[str, Embedder]]:
    """Yield what is to be measured, one after the other: the mixtures, the ways to look, or else the files."""
    stems = [Path(file).stem for file in chosen.files]
    for shares in chosen.ink or ():
        embedder = load_embedder(chosen.files[0])
        ink = tuple(share for share in map(float, shares.split(",")) if share)
        embedder.preprocessing = replace(embedder.preprocessing, ink=ink)
        yield f"{stems[0]}, a drawing filling {shares}", embedder
    if chosen.ink:
        return
    if not chosen.shares:
        yield from ((stem, load_embedder(file)) for stem, file in zip(stems, chosen.files, strict=True))
        return
    images = blend_images(chosen.files[0])
    for shares in chosen.shares:
        embedder = blended(chosen.files, [float(share) for share in shares.split(",")], images, chosen.seed)
        yield f"{' + '.join(stems)} by {shares}", embedder


if __name__ == "__main__":
    main()
