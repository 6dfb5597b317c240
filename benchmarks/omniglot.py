"""Omniglot, protocol *lake*: 20 fixed runs, 20-way 1-shot within an alphabet, 400 trials; background = 30 alphabets.

Beside it, as 400 trials are few: random 20-way 1-shot trials within one of the 20 evaluation alphabets.

    python benchmarks/omniglot.py [--weights bundled]

Expected with the bundled weights: see benchmarks/results/omniglot.json.
"""

from __future__ import annotations

import argparse
import math
import random
from pathlib import Path

import numpy as np
from data import unpacked
from rows import report, row

from engine.embedder import Embedder
from engine.weights import load_embedder


def wilson(right: int, trials: int) -> tuple[float, float]:
    """Return the 95 % interval of a share, in per cent (Wilson 1927)."""
    z, share = 1.959964, right / trials
    middle = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials**2)) / (1 + z * z / trials)
    return 100 * (middle - half), 100 * (middle + half)


def lake(embedder: Embedder) -> tuple[int, int]:
    """Return how many of the 400 trials are right, and 400."""
    runs = unpacked("omniglot/all_runs.zip")
    right = trials = 0
    for run in sorted(runs.glob("run*")):
        pairs = [line.split() for line in (run / "class_labels.txt").read_text().splitlines() if line]
        known = sorted({training for _, training in pairs})
        support = embedder.embed([runs / path for path in known])
        queries = embedder.embed([runs / test for test, _ in pairs])
        answers = (queries @ support.T).argmax(1)
        right += sum(known[answer] == training for answer, (_, training) in zip(answers, pairs, strict=True))
        trials += len(pairs)
    return right, trials


def within_alphabet(embedder: Embedder, trials: int, seed: int) -> tuple[int, int]:
    """Return how many random trials are right: 20 characters of one alphabet, one drawing each, one query."""
    alphabets = sorted(unpacked("omniglot/images_evaluation.tar.xz").iterdir())
    vectors = []
    for alphabet in alphabets:
        characters = [sorted(character.iterdir()) for character in sorted(alphabet.iterdir())]
        flat = embedder.embed([path for drawings in characters for path in drawings], batch_size=128)
        vectors.append(flat.reshape(len(characters), 20, -1))
    draw = random.Random(seed)
    right = 0
    for _ in range(trials):
        drawings = draw.choice(vectors)
        characters = draw.sample(range(len(drawings)), min(20, len(drawings)))
        shot, query = draw.sample(range(20), 2)
        scores = drawings[characters, shot] @ drawings[characters[0], query]
        right += int(np.argmax(scores)) == 0
    return right, trials


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--weights", default="bundled")
    arguments.add_argument("--trials", type=int, default=10_000)
    arguments.add_argument("--seed", type=int, default=0)
    chosen = arguments.parse_args()
    embedder = load_embedder(chosen.weights)
    rows = []
    goals = {"lake": 88.0}
    figures = {"lake": lake(embedder)}
    if chosen.trials:
        figures["random within-alphabet"] = within_alphabet(embedder, chosen.trials, chosen.seed)
    for name, (right, trials) in figures.items():
        value, goal = 100 * right / trials, goals.get(name)
        rows.append(
            row(
                f"Omniglot {name}, 20-way 1-shot, {trials} trials, weights {Path(chosen.weights).name}",
                value,
                "%",
                f">= {goal:g}" if goal else "",
                None if goal is None else value >= goal,
                interval=[round(bound, 2) for bound in wilson(right, trials)],
                seed=chosen.seed,
            )
        )
    report("omniglot", rows, keep=chosen.weights == "bundled")


if __name__ == "__main__":
    main()
