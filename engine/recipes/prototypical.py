"""Prototypical networks: a class is the mean of its images, and a query belongs to the nearest mean.

Snell, Swersky, Zemel 2017, "Prototypical Networks for Few-shot Learning" (arXiv:1703.05175).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from engine.batches import Sampler
from engine.recipes.episodic import Episodic
from engine.recipes.recipe import class_means
from indexer.errors import ArgumentError


class Prototypical(Episodic):
    """Softmax over the negative distances from a query to the prototypes.

    Args:
        dim: length of an embedding; nothing here depends on it.
        metric: "euclidean", squared, to the mean itself; or "cosine" with it. Both order a gallery alike.
        scale: stands before the distances at the start, and is learned: unit vectors are at most 2 apart, too near
            for a softmax over many classes to become sure.
        k_shot: images of each class of a batch that are its support.
        sampler: which rows make a batch.
    """

    def __init__(
        self,
        *,
        dim: int | None = None,
        metric: str = "euclidean",
        scale: float = 10.0,
        k_shot: int | None = None,
        sampler: Sampler | None = None,
    ) -> None:
        super().__init__(k_shot=k_shot, sampler=sampler)
        if metric not in ("euclidean", "cosine"):
            raise ArgumentError(f"unknown metric {metric!r}: choose euclidean or cosine")
        if scale <= 0:
            raise ArgumentError("scale must be positive")
        self.metric = metric
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))

    def score(self, queries: Tensor, support: Tensor) -> Tensor:
        """Return the scaled cosines, or negative squared distances, ``(n_query, n_way)``."""
        cosines = queries @ support.T
        if self.metric == "cosine":
            return self.log_scale.exp() * cosines
        squared = queries.square().sum(1)[:, None] + support.square().sum(1) - 2 * cosines
        return -self.log_scale.exp() * squared

    def episode_scores(self, queries: Tensor, support: Tensor, support_labels: Tensor, n_way: int) -> Tensor:
        """Return the scores with each class's mean; the Euclidean one is measured to the mean as it is."""
        if self.metric == "cosine":
            return super().episode_scores(queries, support, support_labels, n_way)
        return self.score(queries, class_means(support, support_labels, n_way))
