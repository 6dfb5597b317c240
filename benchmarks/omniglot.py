"""Omniglot by the three protocols that the literature has, each by its name; their figures do not compare.

*lake* (Lake et al. 2015): 20 fixed runs, 20-way 1-shot within an alphabet, 400 trials; learnt from the 30 background
alphabets. Beside it, as 400 trials are few: 10,000 random trials within one of the 20 evaluation alphabets.
*koch* (Koch et al. 2015): 10 of the evaluation alphabets, twice 20 characters of each as one drawer drew them, to be
found among the same 20 by another drawer: 400 trials. The paper does not name its ten; these are the last ten by name.
The files at hand do not say who drew them: two places in the order of files stand for the two drawers.
*vinyals* (Vinyals et al. 2016): 1,623 characters pooled, turned by 90, 180 and 270 degrees as further classes, 28 px;
1,200 characters to learn from, 423 to test with, drawn at random once; random episodes, 15 queries a class.

    python benchmarks/omniglot.py [--weights bundled] [--protocol all] [--score learned]

Weights that have learnt from the characters that a protocol tests with are refused it; ``all`` leaves it out.
Expected with the bundled weights: see benchmarks/results/omniglot.json.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from data import unpacked
from numpy.typing import NDArray
from PIL import Image
from protocols import embedded, episode_score, omniglot_characters, vinyals_split
from rows import report, row

from engine.embedder import Embedder
from engine.few_shot import EpisodeScore, few_shot, nearest_mean
from engine.statistics import wilson
from engine.weights import checkpoint_file, load_embedder, read_checkpoint

LAKE_GOAL = 95.5  # people
TRIALS = 400  # of lake, and of koch
SETTINGS = {"5-way 1-shot": (5, 1), "5-way 5-shot": (5, 5), "20-way 1-shot": (20, 1), "20-way 5-shot": (20, 5)}
PAPERS: dict[str, tuple[float | None, ...]] = {
    "prototypical": (98.8, 99.7, 96.0, 98.9),
    "matching": (98.1, 98.9, 93.8, 98.5),
    "relation": (99.6, 99.8, 97.6, 99.1),
    "siamese": (96.7, 98.4, 88.0, 96.5),
    "gaussian_prototypical": (None, None, 97.0, 99.2),
}
"""What each recipe's paper says of the four settings, with conv4."""

Alphabets = Mapping[str, NDArray[np.float32]]
"""By name, embeddings ``(characters, drawings, dim)``."""


def best(score: EpisodeScore | None, queries: NDArray[np.float32], support: NDArray[np.float32]) -> NDArray[np.int64]:
    """Return the row of the best support, one of each class, for each query."""
    known = torch.arange(len(support))
    with torch.inference_mode():
        scores = (score or nearest_mean)(torch.from_numpy(queries), torch.from_numpy(support), known, len(support))
    return scores.argmax(1).numpy()


# -- lake and koch: within an alphabet ---------------------------------------------------------------------------------


def lake(embedder: Embedder, score: EpisodeScore | None = None) -> list[int]:
    """Return how many of the 20 trials of each of the 20 runs are right."""
    runs = unpacked("omniglot/all_runs.zip")
    right = []
    for run in sorted(runs.glob("run*")):
        pairs = [line.split() for line in (run / "class_labels.txt").read_text().splitlines() if line]
        known = sorted({training for _, training in pairs})
        support = embedder.embed([runs / path for path in known])
        answers = best(score, embedder.embed([runs / test for test, _ in pairs]), support)
        right.append(sum(known[answer] == training for answer, (_, training) in zip(answers, pairs, strict=True)))
    return right


@cache
def evaluation_alphabets(embedder: Embedder) -> Alphabets:
    """Return the embeddings of the 20 evaluation alphabets, 20 drawings a character."""
    vectors = {}
    for alphabet in sorted(unpacked("omniglot/images_evaluation.tar.xz").iterdir()):
        characters = [sorted(character.iterdir()) for character in sorted(alphabet.iterdir())]
        flat = embedded(embedder, [path for drawings in characters for path in drawings])
        vectors[alphabet.name] = flat.reshape(len(characters), 20, -1)
    return vectors


def within_alphabet(alphabets: Alphabets, trials: int, seed: int, score: EpisodeScore | None = None) -> tuple[int, int]:
    """Return how many random trials are right: 20 characters of one alphabet, one drawing each, one query."""
    vectors = list(alphabets.values())
    draw = random.Random(seed)
    right = 0
    for _ in range(trials):
        drawings = draw.choice(vectors)
        characters = draw.sample(range(len(drawings)), min(20, len(drawings)))
        shot, query = draw.sample(range(drawings.shape[1]), 2)
        right += int(best(score, drawings[characters[:1], query], drawings[characters, shot])[0]) == 0
    return right, trials


def koch(alphabets: Alphabets, seed: int, score: EpisodeScore | None = None) -> list[int]:
    """Return how many of the 20 trials of each of the 20 rounds are right."""
    draw = random.Random(seed)
    right = []
    for name in sorted(alphabets)[-10:]:
        for _ in range(2):
            drawings = alphabets[name][draw.sample(range(len(alphabets[name])), 20)]
            asked, known = draw.sample(range(drawings.shape[1]), 2)
            right.append(int((best(score, drawings[:, asked], drawings[:, known]) == np.arange(20)).sum()))
    return right


# -- vinyals: any characters -------------------------------------------------------------------------------------------


def vinyals_vectors(embedder: Embedder) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return embeddings and labels of the 423 test characters and their three turns, 28 px: 1,692 classes of 20."""
    characters = omniglot_characters()
    drawings = [path for name in vinyals_split()[1] for path in sorted(characters[name].iterdir())]
    turned = [(path, turns) for turns in range(4) for path in drawings]

    def load(drawing: tuple[Path, int]) -> Image.Image:
        path, turns = drawing
        with Image.open(path) as image:
            small = image.convert("RGB").resize((28, 28), Image.Resampling.BILINEAR)
        return small.rotate(90 * turns)

    return embedded(embedder, turned, load), np.arange(len(turned)) // 20


def vinyals(
    vectors: NDArray[np.float32], labels: NDArray[np.int64], episodes: int, seed: int, score: EpisodeScore | None = None
) -> Iterator[tuple[str, float, float, float]]:
    """Yield each setting, its mean accuracy and the ends of its interval, in per cent."""
    for name, (n_way, k_shot) in SETTINGS.items():
        found = few_shot(
            vectors, labels, n_way=n_way, k_shot=k_shot, n_query=15, episodes=episodes, seed=seed, score=score
        )
        yield name, 100 * found.mean, 100 * found.low, 100 * found.high


def paper_goal(card: Mapping[str, Any], place: int, value: float, high: float) -> dict[str, Any]:
    """Return ``goal`` and ``holds`` of a setting, if a paper tells of this recipe with conv4."""
    recipe = str(card.get("recipe"))
    paper = PAPERS.get(recipe, (None,) * 4)[place]
    if paper is None or card["embedder"]["backbone"] != "conv4":
        return {}
    if recipe == "prototypical":
        return {"goal": f">= {paper:g} or within the interval", "holds": high >= paper}
    return {"goal": f">= {paper - 1:g}", "holds": value >= paper - 1}


# -- which weights may be asked what -----------------------------------------------------------------------------------


def refusal(card: Mapping[str, Any], protocol: str) -> str | None:
    """Return why weights with this card may not be asked, if so: told by how many classes they have learnt."""
    learnt = card.get("training", {}).get("data", [])
    counts = {one.get("classes") for one in (learnt if isinstance(learnt, list) else [learnt])}
    if protocol == "vinyals" and counts & {964, 4 * 964}:
        return "these weights have learnt from the 30 background alphabets, and so from characters that it tests with"
    if protocol != "vinyals" and counts & {1200, 4 * 1200}:
        return "these weights have learnt from all 50 alphabets, and so from those that it tests with"
    return None


def rows_of(protocol: str, embedder: Embedder, chosen: argparse.Namespace, card: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the rows of a protocol."""
    score = episode_score(chosen.score, chosen.weights, embedder)
    told = f"weights {Path(chosen.weights).name}, {chosen.score} score"
    if protocol == "vinyals":
        measured = vinyals(*vinyals_vectors(embedder), chosen.episodes, chosen.seed, score)
        for place, (name, value, low, high) in enumerate(measured):
            goal = paper_goal(card, place, value, high)
            interval = [round(low, 2), round(high, 2)]
            measure = f"Omniglot vinyals, {name}, {chosen.episodes} episodes, {told}"
            yield row(measure, value, "%", **goal, interval=interval, seed=chosen.seed)
        return
    figures: dict[str, tuple[int, int]] = {}
    if protocol == "lake":
        figures["lake"] = sum(lake(embedder, score)), TRIALS
    alphabets = evaluation_alphabets(embedder) if protocol == "koch" or chosen.trials else {}
    if protocol == "koch":
        figures["koch"] = sum(koch(alphabets, chosen.seed, score)), TRIALS
    elif chosen.trials:
        figures["random within-alphabet"] = within_alphabet(alphabets, chosen.trials, chosen.seed, score)
    for name, (right, trials) in figures.items():
        value = 100 * right / trials
        goal = {"goal": f">= {LAKE_GOAL:g}", "holds": value >= LAKE_GOAL} if name == "lake" else {}
        interval = [round(100 * bound, 2) for bound in wilson(right, trials)]
        measure = f"Omniglot {name}, 20-way 1-shot, {trials} trials, {told}"
        yield row(measure, value, "%", **goal, interval=interval, seed=chosen.seed)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--weights", default="bundled")
    arguments.add_argument("--protocol", choices=("lake", "koch", "vinyals", "all"), default="all")
    arguments.add_argument("--score", choices=("cosine", "learned"), default="cosine")
    arguments.add_argument("--trials", type=int, default=10_000, help="random within-alphabet ones; 0: none")
    arguments.add_argument("--episodes", type=int, default=1000, help="of each setting of vinyals")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--keep", help="file under results/; the bundled weights' whole run is kept as omniglot")
    chosen = arguments.parse_args()
    embedder = load_embedder(chosen.weights)
    file = checkpoint_file(chosen.weights)
    card = {} if file is None else read_checkpoint(file)[0]
    rows = []
    for protocol in ("lake", "koch", "vinyals") if chosen.protocol == "all" else (chosen.protocol,):
        if why := refusal(card, protocol):
            if chosen.protocol != "all":
                raise SystemExit(f"{protocol}: {why}")
            print(f"left out: {protocol}: {why}", file=sys.stderr)
            continue
        rows += rows_of(protocol, embedder, chosen, card)
    whole = chosen.weights == "bundled" and chosen.protocol == "all" and chosen.score == "cosine"
    report(chosen.keep or "omniglot", rows, keep=bool(chosen.keep) or whole)


if __name__ == "__main__":
    main()
