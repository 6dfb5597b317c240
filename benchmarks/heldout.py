"""Photos of classes that no training has seen: 5-way 1-shot episodes of CIFAR-100 and Tiny ImageNet.

Every fifth class of each set, 20 of 100, is held out (``HELD_OUT`` in benchmarks/protocols.py); an episode's classes
come from one set, and all their images of all splits may be drawn. 15 queries a class, 2,000 episodes.

    python benchmarks/heldout.py [--weights bundled] [--score learned]

Expected with the bundled weights: see benchmarks/results/heldout.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from protocols import HELD_OUT, class_images, embedded, episode_score
from rows import report, row

from engine.embedder import Embedder
from engine.few_shot import few_shot
from engine.weights import load_embedder

GOAL = 50.0


def held_out_images(name: str) -> dict[str, list[Path]]:
    """Return the files of each held-out class of a set, of all splits."""
    return class_images(name, HELD_OUT[name])


def vectors_of(embedder: Embedder, images: dict[str, list[Path]]) -> tuple[NDArray[np.float32], list[str]]:
    """Return the embeddings of the images, and the class of each."""
    labels = [name for name, files in images.items() for _ in files]
    return embedded(embedder, [path for files in images.values() for path in files]), labels


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--weights", default="bundled")
    arguments.add_argument("--score", choices=("cosine", "learned"), default="cosine")
    arguments.add_argument("--episodes", type=int, default=2000)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--keep", help="file under results/; the bundled weights' run is kept as heldout")
    chosen = arguments.parse_args()
    embedder = load_embedder(chosen.weights)
    score = episode_score(chosen.score, chosen.weights, embedder)
    rows = []
    for name in HELD_OUT:
        vectors, labels = vectors_of(embedder, held_out_images(name))
        found = few_shot(vectors, labels, n_way=5, k_shot=1, episodes=chosen.episodes, seed=chosen.seed, score=score)
        rows.append(
            row(
                f"{name}, 20 classes held out, 5-way 1-shot, {chosen.episodes} episodes, "
                f"weights {Path(chosen.weights).name}, {chosen.score} score",
                100 * found.mean,
                "%",
                f">= {GOAL:g}",
                100 * found.mean >= GOAL,
                interval=[round(100 * found.low, 2), round(100 * found.high, 2)],
                seed=chosen.seed,
            )
        )
    bundled = chosen.weights == "bundled" and chosen.score == "cosine"
    report(chosen.keep or "heldout", rows, keep=bool(chosen.keep) or bundled)


if __name__ == "__main__":
    main()
