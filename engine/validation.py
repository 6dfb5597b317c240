"""Classes that a training run does not learn from: how well it would know them from one image each."""

from __future__ import annotations

from typing import Any

import torch

from engine.batches import LabelledImages
from engine.embedder import Embedder, in_batches
from engine.few_shot import few_shot
from engine.recipes import Recipe
from indexer.errors import ArgumentError

WAYS, QUERIES, EPISODES = 20, 5, 200


class Validation:
    """Episodes of up to 20 classes, one image each, from the images of a folder.

    Args:
        images: at least two classes, at least two images of each.
        seed: of the episodes, the same ones whenever they are measured.

    Raises:
        ArgumentError: a class has a single image, which leaves none to ask about.
    """

    def __init__(self, images: LabelledImages, seed: int) -> None:
        fewest = min(len(rows) for rows in images.rows_of)
        if fewest < 2:
            alone = next(images.names[label] for label, rows in enumerate(images.rows_of) if len(rows) < 2)
            raise ArgumentError(f"validation needs two images or more of each class, {alone!r} has one: leave it out")
        self.images, self.seed = images, seed
        self.n_way, self.n_query = min(WAYS, len(images.rows_of)), min(QUERIES, fewest - 1)

    def description(self) -> dict[str, Any]:
        """Return what is measured, ready for JSON."""
        return {"images": len(self.images.pixels), "n_way": self.n_way, "fingerprint": self.images.fingerprint}

    def accuracy(self, embedder: Embedder, recipe: Recipe) -> float:
        """Return the share of the queries that find their class, 0..1; leaves both in evaluation mode."""
        embedder.eval()
        recipe.eval()
        vectors = in_batches(embedder.embed_pixels, self.images.pixels, size=64)
        return few_shot(
            torch.from_numpy(vectors).to(embedder.device),
            self.images.labels,
            n_way=self.n_way,
            k_shot=1,
            n_query=self.n_query,
            episodes=EPISODES,
            seed=self.seed,
            score=recipe.episode_scores,
        ).mean
