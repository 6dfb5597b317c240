"""Gaussian prototypical networks: each image says how far it can be trusted, and prototypes listen to that.

Fort 2017, "Gaussian Prototypical Networks for Few-Shot Learning on Omniglot" (arXiv:1708.02735).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from engine.batches import Sampler
from engine.recipes.episodic import Episodic
from engine.recipes.recipe import membership
from indexer.errors import ArgumentError


class GaussianPrototypical(Episodic):
    """Precision-weighted prototypes, and distances weighted by the prototype's precision.

    The precision (inverse variance) of an image is read off its embedding, ``1 + softplus`` of a linear map as in the
    paper, so that it can be had for any vector of a gallery. It starts the same for all. A prototype's precision is the
    mean of its images', where the paper takes the sum: with as many images in each class the learned scale makes the
    two one, and with more in one class than in another the sum would push that class away.

    Args:
        dim: length of an embedding.
        precision: "radius", one number an image, or "diagonal", one for each dimension.
        scale: stands before the distances at the start, and is learned.
        k_shot: images of each class of a batch that are its support.
        sampler: which rows make a batch.
    """

    learned_score = True

    def __init__(
        self,
        *,
        dim: int,
        precision: str = "radius",
        scale: float = 10.0,
        k_shot: int | None = None,
        sampler: Sampler | None = None,
    ) -> None:
        super().__init__(k_shot=k_shot, sampler=sampler)
        if precision not in ("radius", "diagonal"):
            raise ArgumentError(f"unknown precision {precision!r}: choose radius or diagonal")
        if scale <= 0:
            raise ArgumentError("scale must be positive")
        self.raw_precision = nn.Linear(dim, 1 if precision == "radius" else dim)
        nn.init.zeros_(self.raw_precision.weight)
        nn.init.zeros_(self.raw_precision.bias)
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))

    def precision(self, embeddings: Tensor) -> Tensor:
        """Return the precision of each embedding ``(n, dim)``: ``(n, 1)``, or ``(n, dim)`` if diagonal."""
        return 1 + nn.functional.softplus(self.raw_precision(embeddings))

    def confidence(self, embeddings: Tensor) -> Tensor:
        """Return how far each embedding ``(n, dim)`` can be trusted: its precision ``(n,)``, the mean if diagonal."""
        return self.precision(embeddings).mean(1)

    def score(self, queries: Tensor, support: Tensor) -> Tensor:
        """Return the negative weighted squared distances ``(n_query, n_way)`` to ``support``, each a prototype."""
        return self._weighted(queries, support, self.precision(support))

    def episode_scores(self, queries: Tensor, support: Tensor, support_labels: Tensor, n_way: int) -> Tensor:
        """Return the negative weighted squared distances to each class's precision-weighted mean."""
        belongs = membership(support_labels, n_way)
        precision = self.precision(support)
        totals = belongs @ precision
        prototypes = belongs @ (precision * support) / totals
        return self._weighted(queries, prototypes, totals / belongs.sum(1, keepdim=True))

    def _weighted(self, queries: Tensor, prototypes: Tensor, precision: Tensor) -> Tensor:
        # The square of the difference, multiplied out: no (n_query, n_way, dim) is built.
        precision = precision.expand_as(prototypes)
        mixed = queries @ (precision * prototypes).T
        squared = queries.square() @ precision.T - 2 * mixed + (precision * prototypes.square()).sum(1)
        return -self.log_scale.exp() * squared
