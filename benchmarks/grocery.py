"""GroceryStore: which of 81 products does a photo from a shop show, each product known by one clean picture (its icon).

The 81 icons are the only references, the 2,485 test photos the queries (Klasson, Zhang, Kjellstrom 2019,
arXiv:1901.00711). Then photos of the train split, one or five a product, in place of the icons and beside them:
mean of ten draws.

    python benchmarks/grocery.py [--weights bundled bundled@64of107] [--fine-tuned] [--score learned]

``--fine-tuned`` says that the weights have learnt from the train photos, and asks more of them. ``--choose`` asks for
the train and validation photos instead, by the icons alone: what is to be chosen, a size for instance, is chosen by
them. Expected with the bundled weights: see benchmarks/results/grocery.json. Frozen ImageNet networks on the
same files: ResNet-18 26.9 / 56.1 / 35.1 (fine top-1, top-5, coarse top-1) from the icons and 36.7 from one photo,
ResNet-50 28.4 / 60.0 / 39.6 and 38.3.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from data import unpacked
from numpy.typing import NDArray
from protocols import embedded, episode_score
from rows import report, row

from engine.embedder import Embedder
from engine.few_shot import EpisodeScore, nearest_mean
from engine.statistics import mean_interval, wilson
from engine.weights import load_embedder

GOALS = {"as they come": 28.0, "fine-tuned": 55.0}
BUNDLED = ["bundled", "bundled@112", "bundled@64of107", "bundled@128of256"]
CHUNK = 256  # queries scored at once: a learned score may need much memory a pair


@dataclass(frozen=True, slots=True)
class Photos:
    """Embeddings ``(n, dim)`` and the fine class ``(n,)`` of each."""

    vectors: NDArray[np.float32]
    labels: NDArray[np.int64]


def classes() -> tuple[list[str], NDArray[np.int64]]:
    """Return the names of the 81 fine classes, sorted, and the coarse class of each."""
    root = unpacked("grocery_store/grocery_store_256.tar.xz") / "grocery_store"
    with (root / "classes.csv").open(encoding="utf-8", newline="") as file:
        coarse = {line["Class Name (str)"]: int(line["Coarse Class ID (int)"]) for line in csv.DictReader(file)}
    return sorted(coarse), np.array([coarse[name] for name in sorted(coarse)])


def photos(embedder: Embedder, split: str, names: list[str]) -> Photos:
    """Return the images of a split ("iconic", "train", "val", "test"); in "val" some classes have none."""
    root = unpacked("grocery_store/grocery_store_256.tar.xz") / "grocery_store" / split
    files = [(path, label) for label, name in enumerate(names) for path in sorted((root / name).glob("*"))]
    return Photos(embedded(embedder, [path for path, _ in files]), np.array([label for _, label in files]))


def ranked(
    queries: Photos, references: Photos, n_way: int, score: EpisodeScore | None = None, k: int = 5
) -> NDArray[np.int64]:
    """Return the k best classes of each query, ``(n, k)``."""
    support, labels = torch.from_numpy(references.vectors), torch.from_numpy(references.labels)
    found = []
    with torch.inference_mode():
        for chunk in torch.from_numpy(queries.vectors).split(CHUNK):
            found.append((score or nearest_mean)(chunk, support, labels, n_way).topk(k).indices)
    return torch.cat(found).numpy()


def drawn(pool: Photos, k_shot: int, draw: np.random.Generator) -> Photos:
    """Return ``k_shot`` images of each class, drawn at random."""
    rows = [draw.choice(np.flatnonzero(pool.labels == label), k_shot, False) for label in np.unique(pool.labels)]
    chosen = np.concatenate(rows)
    return Photos(pool.vectors[chosen], pool.labels[chosen])


def joined(one: Photos, other: Photos) -> Photos:
    return Photos(np.concatenate([one.vectors, other.vectors]), np.concatenate([one.labels, other.labels]))


def right_answers(found: NDArray[np.int64], truth: NDArray[np.int64], coarse: NDArray[np.int64]) -> dict[str, int]:
    """Return how many queries are right by each figure; ``found`` holds the best classes of each, ``(n, 5)``."""
    return {
        "fine top-1": int((found[:, 0] == truth).sum()),
        "fine top-5": int((found == truth[:, None]).any(1).sum()),
        "coarse top-1": int((coarse[found[:, 0]] == coarse[truth]).sum()),
    }


def icon_rows(
    icons: Photos, asked: Photos, coarse: NDArray[np.int64], score: EpisodeScore | None, chosen: argparse.Namespace
) -> Iterator[dict[str, Any]]:
    """Yield the rows of the icons alone."""
    count, floor = len(asked.labels), GOALS["fine-tuned" if chosen.fine_tuned else "as they come"]
    which = "train and validation photos" if chosen.choose else "photos"
    found = ranked(asked, icons, len(coarse), score)
    for figure, right in right_answers(found, asked.labels, coarse).items():
        value = 100 * right / count
        judged = figure == "fine top-1" and not chosen.choose
        goal = {"goal": f">= {floor:g}", "holds": value >= floor} if judged else {}
        yield row(
            f"GroceryStore {figure}, {len(icons.labels)} icons known, {count} {which}, {told(chosen)}",
            value,
            "%",
            **goal,
            interval=[round(100 * bound, 2) for bound in wilson(right, count)],
            seed=chosen.seed,
        )


def photo_row(
    k_shot: int,
    train: Photos,
    test: Photos,
    score: EpisodeScore | None,
    chosen: argparse.Namespace,
    *,
    icons: Photos | None,
) -> dict[str, Any]:
    """Return the row of ``k_shot`` train photos a class, beside the icons if they are given."""
    shares, n_way = [], len(np.unique(train.labels))
    for repeat in range(chosen.draws):
        some = drawn(train, k_shot, np.random.default_rng((chosen.seed, k_shot, repeat)))
        first = ranked(test, joined(icons, some) if icons else some, n_way, score)[:, 0]
        shares.append(100 * float((first == test.labels).mean()))
    mean, low, high = mean_interval(shares)
    known = f"{'icon and ' if icons else ''}{k_shot} photo{'s' if k_shot > 1 else ''} a class known"
    return row(
        f"GroceryStore fine top-1, {known}, {chosen.draws} draws, {told(chosen)}",
        mean,
        "%",
        interval=[round(low, 2), round(high, 2)],
        deviation=round(float(np.std(shares, ddof=1)), 2),
        seed=chosen.seed,
    )


def told(chosen: argparse.Namespace) -> str:
    how = "fine-tuned" if chosen.fine_tuned else "as they come"
    return f"weights {Path(chosen.weights).name} {how}, {chosen.score} score"


def measured(chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the rows of some weights."""
    embedder = load_embedder(chosen.weights)
    score = episode_score(chosen.score, chosen.weights, embedder)
    names, coarse = classes()
    icons, train = (photos(embedder, split, names) for split in ("iconic", "train"))
    if chosen.choose:
        yield from icon_rows(icons, joined(train, photos(embedder, "val", names)), coarse, score, chosen)
        return
    test = photos(embedder, "test", names)
    yield from icon_rows(icons, test, coarse, score, chosen)
    for k_shot in (1, 5):
        for beside in (None, icons):
            yield photo_row(k_shot, train, test, score, chosen, icons=beside)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--weights", nargs="+", default=BUNDLED)
    arguments.add_argument("--fine-tuned", action="store_true", help="the weights have learnt from the train photos")
    arguments.add_argument("--choose", action="store_true", help="ask for train and validation photos, keep nothing")
    arguments.add_argument("--score", choices=("cosine", "learned"), default="cosine")
    arguments.add_argument("--draws", type=int, default=10)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--keep", help="file under results/; the bundled weights' run is kept as grocery")
    chosen = arguments.parse_args()
    rows: list[dict[str, Any]] = []
    for weights in chosen.weights:
        rows += measured(argparse.Namespace(**{**vars(chosen), "weights": weights}))
    bundled = chosen.weights == BUNDLED and chosen.score == "cosine" and not chosen.choose
    report(chosen.keep or "grocery", rows, keep=bool(chosen.keep) or bundled)


if __name__ == "__main__":
    main()
