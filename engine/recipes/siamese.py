"""Siamese: two images are the same thing if a weighted distance of their embeddings says so.

Koch, Zemel, Salakhutdinov 2015, "Siamese Neural Networks for One-shot Image Recognition".
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from engine.batches import Balanced, Batch, Sampler
from engine.recipes.recipe import Recipe, full_precision
from indexer.errors import ArgumentError


class Siamese(Recipe):
    """A weighted L1 distance, a sigmoid, and cross-entropy over all pairs of a batch.

    Args:
        dim: length of an embedding.
        l2: weighs the squares of the distance's own weights in the loss (the paper's L2 regularisation); for the
            embedder's weights it is the optimiser's weight decay.
        sampler: which rows make a batch.
    """

    learned_score = True

    def __init__(self, *, dim: int, l2: float = 1e-4, sampler: Sampler | None = None) -> None:
        super().__init__()
        if l2 < 0:
            raise ArgumentError("l2 must not be negative")
        self.l2 = l2
        # Negative, so that it starts as a distance; the L1 distance of unit vectors grows as sqrt(dim), hence the size.
        self.weights = nn.Parameter(torch.full((dim,), -6 / math.sqrt(dim)))
        self.bias = nn.Parameter(torch.tensor(2.0))
        self.sampler = sampler or Balanced()

    def loss(self, embedder: nn.Module, batch: Batch) -> Tensor:
        """Return the loss of ``batch``, similar and dissimilar pairs averaged apart so that the few similar ones count.

        Without a single pair of the one kind only the other kind counts.
        """
        embeddings = embedder(batch.images)
        first, second = torch.triu_indices(len(embeddings), len(embeddings), 1, device=embeddings.device)
        with full_precision(embeddings):
            logits = self._logits(embeddings[first], embeddings[second])
            same = (batch.labels[first] == batch.labels[second]).to(logits.dtype)
            costs = nn.functional.binary_cross_entropy_with_logits(logits, same, reduction="none")
            pull = (costs * same).sum() / same.sum().clamp(min=1)
            push = (costs * (1 - same)).sum() / (1 - same).sum().clamp(min=1)
            return pull + push + self.l2 * self.weights.square().sum()

    def score(self, queries: Tensor, support: Tensor) -> Tensor:
        """Return the log-odds ``(n_query, n_way)`` that query and support are the same.

        Memory: n_query * n_way * dim numbers.
        """
        return self._logits(queries[:, None, :], support)

    def _logits(self, first: Tensor, second: Tensor) -> Tensor:
        return (first - second).abs() @ self.weights + self.bias
