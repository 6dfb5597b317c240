"""The embedder by runtime: images a second of ResNet-101 at 224 px on one thread, and what it costs in agreement.

Speed: untrained weights with settled batch norm, made images. Every runtime that is installed embeds batches of 1, 8
and 32, in turns with plain float32 PyTorch (eager, NCHW), A B A B; medians, as ratios to it at the same batch size.
Agreement: the bundled weights at 64 px on real images that they have not learnt from. Each runtime is calibrated, as
for a gallery, on 32 of them; then the cosine of its embeddings to those of float32, the class recall@1 of galleries
that hold one image a class, 200 random choices of it, and the same where a gallery mixes it with float32.

    python benchmarks/embedding.py [--converted FOLDER] [--rounds 5] [--part speed|agreement] [--quick]

--converted keeps the converted networks for the next run: converting takes minutes. Expected: see
benchmarks/results/embedding.json, embedding_agreement.json and docs/performance.md. Needs the extras openvino and onnx
for all rows; about ten minutes; --quick shows in seconds that the program works, and its result is not kept.
"""

from __future__ import annotations

import argparse
import copy
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from data import unpacked
from numpy.typing import NDArray
from protocols import HELD_OUT, photo_classes
from rows import report, row

from engine.demo import accuracy
from engine.embedder import Embedder, merged, one_look_each
from engine.preprocessing import Preprocessing, to_unit_range
from engine.running import Agreement, Pixels, Running, Vectors, plain
from engine.runtime_trials import candidates, family_of, in_turns
from engine.statistics import mean_interval
from engine.weights import load_embedder

GFLOP = 15.6  # of one image through ResNet-101 at 224 px, a product and a sum counted as two
GOALS = {"int8": {1: 7.5, 8: 7.5, 32: 6.5}, "bf16": {1: 3.4, 8: 3.4, 32: 3.4}}
POINTS = 0.3
CALIBRATION = 32
CHOICES = 200


# -- what is measured ------------------------------------------------------------------------------------------------


def untrained(size: int, seed: int) -> Embedder:
    """Return a ResNet-101 whose branches all count, its batch norm settled on made images."""
    torch.manual_seed(seed)
    embedder = Embedder("resnet101", preprocessing=Preprocessing.whole(size))
    for norm in embedder.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            torch.nn.init.ones_(norm.weight)  # zero at the end of a branch would leave it out
            norm.momentum = None
    with torch.no_grad():
        embedder.train()(to_unit_range(made(8, size, seed), embedder.device))
    return embedder.eval().requires_grad_(False)


def made(count: int, size: int, seed: int) -> Pixels:
    draw = np.random.default_rng(seed)
    spots = draw.integers(0, 256, (count, size // 8, size // 8, 3), dtype=np.uint8)
    return spots.repeat(8, axis=1).repeat(8, axis=2)


def eager(embedder: Embedder) -> Running:
    """Return what most programs do: PyTorch, layer by layer, in float32, channels first."""
    network = copy.deepcopy(embedder).to(memory_format=torch.contiguous_format)

    @torch.inference_mode()
    def run(pixels: Pixels) -> Vectors:
        images = to_unit_range(pixels, network.device)
        seen = network.preprocessing.normalize(images).contiguous()
        return network.finished(network.projection(network.backbone(seen)), images).numpy()

    return Running("eager", run, embedder.dim)


def converted(embedder: Embedder, calibration: Pixels, place: Path) -> dict[str, Running]:
    """Return every runtime that is installed, on one thread, by name; files that lie in ``place`` are used again."""
    place /= embedder.fingerprint[:12]
    place.mkdir(parents=True, exist_ok=True)
    found = {}
    for name in candidates(embedder, "auto"):
        family = family_of(name)
        path = place / f"{name}{next(iter(family.SUFFIXES), '')}"
        if not path.is_file():
            print(f"converting for {name}", file=sys.stderr, flush=True)
            family.make(embedder, name, calibration, path)
        found[name] = family.load(embedder, name, path, 1)
    return found


# -- speed -----------------------------------------------------------------------------------------------------------


def speed(size: int, batches: list[int], rounds: int, place: Path, seed: int) -> list[dict[str, Any]]:
    embedder = untrained(size, seed)
    running = {"eager": eager(embedder), **converted(embedder, made(CALIBRATION, size, seed + 1), place)}
    rows = []
    for count in batches:
        spent = in_turns(running, made(count, size, seed + 2), rounds)
        rates = {name: [count / seconds for seconds in times] for name, times in spent.items()}
        for name, measured in rates.items():
            ratio = median(rate / base for rate, base in zip(measured, rates["eager"], strict=True))
            goal = GOALS.get(name.split("-")[-1], {}).get(count)
            verdict = ("", None) if goal is None else (f">= {goal:g}", ratio >= goal)
            rate = median(measured)
            rows.append(
                row(
                    f"ResNet-101, {size} px, batch {count}: {name}, against eager float32",
                    ratio,
                    "x",
                    *verdict,
                    images_a_second=round(rate, 2),
                    spread=[round(min(measured), 2), round(max(measured), 2)],
                    gflops=round(rate * GFLOP * (size / 224) ** 2, 1),
                    median_of=rounds,
                    seed=seed,
                )
            )
    return rows


# -- agreement -------------------------------------------------------------------------------------------------------


def omniglot() -> dict[str, list[Path]]:
    drawings = unpacked("omniglot/images_evaluation.tar.xz")
    characters = sorted(drawings.glob("*/character*"))[::13]
    return {f"{folder.parent.name}/{folder.name}": sorted(folder.iterdir()) for folder in characters}


def photos(name: str) -> Callable[[], dict[str, list[Path]]]:
    def images() -> dict[str, list[Path]]:
        classes = photo_classes(name)
        return {
            known: [path for folder in classes[known] for path in sorted(folder.iterdir())] for known in HELD_OUT[name]
        }

    return images


SETS: dict[str, Callable[[], dict[str, list[Path]]]] = {
    "Omniglot, evaluation alphabets": omniglot,
    "CIFAR-100, held-out classes": photos("cifar100"),
    "Tiny ImageNet, held-out classes": photos("tiny_imagenet"),
}


def recalls(labels: NDArray[Any], galleries: Vectors, queries: Vectors, seed: int) -> NDArray[np.float64]:
    """Return the class recall@1, in per cent, of random choices of one reference a class; all others are asked."""
    classes = np.unique(labels)
    draw = np.random.default_rng(seed)
    found = []
    for _ in range(CHOICES):
        chosen = np.array([draw.choice(np.flatnonzero(labels == one)) for one in classes])
        found.append(accuracy(-(queries @ galleries[chosen].T), labels, chosen))
    return np.array(found)


def agreement(what: str, images: dict[str, list[Path]], each: int, place: Path, seed: int) -> list[dict[str, Any]]:
    embedder = load_embedder("bundled")
    draw = np.random.default_rng(seed)
    chosen = [
        (path, number)
        for number, paths in enumerate(images.values())
        for path in draw.permutation(np.array(paths, dtype=object))[:each]
    ]
    prepared = [embedder.prepare(embedder.load(path).image) for path, _ in chosen]
    labels = np.array([label for _, label in chosen])
    calibration = one_look_each([prepared[row] for row in draw.permutation(len(prepared))[:CALIBRATION].tolist()])
    truth = merged(prepared, partial(plain(embedder).embed, batch_size=32))
    base = recalls(labels, truth, truth, seed)
    facts = {"classes": len(images), "images": len(prepared), "choices": CHOICES, "seed": seed}
    rows = [row(f"{what}: class recall@1, plain float32", float(base.mean()), "%", **facts)]
    for name, one in converted(embedder, calibration, place / what.split(",", maxsplit=1)[0].replace(" ", "-")).items():
        vectors = merged(prepared, partial(one.embed, batch_size=32))
        how = Agreement.between(truth, vectors)
        rows.append(
            row(f"{what}: {name}, worst cosine", how.worst, "", mean=round(how.mean, 6), noise=round(how.noise, 4))
        )
        half = np.where((labels % 2 == 0)[:, np.newaxis], vectors, truth)
        for kind, galleries, queries in (
            ("alone", vectors, vectors),
            ("queries by float32", vectors, truth),
            ("every other class by float32, and the queries", half, truth),
        ):
            lost, *ends = mean_interval(recalls(labels, galleries, queries, seed) - base)
            rows.append(
                row(
                    f"{what}: {name}, {kind}: class recall@1 beside float32's",
                    lost,
                    "points",
                    f">= -{POINTS:g}",
                    lost >= -POINTS,
                    interval=[round(end, 3) for end in ends],
                )
            )
    return rows


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--converted", type=Path)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    arguments.add_argument("--part", choices=("speed", "agreement"), help="only that")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--quick", action="store_true")
    chosen = arguments.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="firstsight-embedding-") as scratch:
        place = chosen.converted or Path(scratch)
        if chosen.part != "agreement":
            size, batches, rounds = (64, [1], 1) if chosen.quick else (224, chosen.batches, chosen.rounds)
            report("embedding", speed(size, batches, rounds, place, chosen.seed), keep=not chosen.quick)
        if chosen.part != "speed" and not chosen.quick:
            rows = [one for what, images in SETS.items() for one in agreement(what, images(), 25, place, chosen.seed)]
            report("embedding_agreement", rows)


if __name__ == "__main__":
    main()
