"""Contrastive: images of one class are pulled together, images of different classes pushed apart.

Margin form: Hadsell, Chopra, LeCun 2006, "Dimensionality Reduction by Learning an Invariant Mapping".
Temperature form: Khosla et al. 2020, "Supervised Contrastive Learning" (arXiv:2004.11362).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from engine.batches import Balanced, Batch, Sampler
from engine.recipes.pairs import TEMPERATURE, contrast
from engine.recipes.recipe import Recipe
from indexer.errors import ArgumentError


class Contrastive(Recipe):
    """All pairs of a batch are compared.

    Args:
        temperature: of the softmax over the batch; it learns from scratch, and is used unless a margin is given.
        margin: if given, the margin form on Euclidean distances between unit vectors, similar and dissimilar pairs
            averaged apart so that the few similar ones count. Give it a warm start: from random weights all
            distances are near 0 and the two halves cancel.
        sampler: which rows make a batch.
    """

    takes_mixed = True

    def __init__(
        self,
        *,
        dim: int | None = None,
        temperature: float = TEMPERATURE,
        margin: float | None = None,
        sampler: Sampler | None = None,
    ) -> None:
        super().__init__()
        if temperature <= 0 or (margin is not None and margin <= 0):
            raise ArgumentError("temperature and margin must be positive")
        self.temperature = temperature
        self.margin = margin
        self.sampler = sampler or Balanced()

    def loss(self, embedder: nn.Module, batch: Batch) -> Tensor:
        """Return the loss of ``batch``; without a single similar pair in it, only the pushing apart counts."""
        embeddings = embedder(batch.images)
        same = batch.likeness()  # 0 or 1, or a share between where images are mixed: a pair then counts by it
        if self.margin is None:
            return contrast(embeddings, same, self.temperature)
        itself = torch.eye(len(same), dtype=torch.bool, device=same.device)
        return self._margin_loss(embeddings, same.masked_fill(itself, 0), (1 - same).masked_fill(itself, 0))

    def _margin_loss(self, embeddings: Tensor, similar: Tensor, different: Tensor) -> Tensor:
        # The squared distance of unit vectors; clamped since the root has no slope at 0.
        squared = (2 - 2 * embeddings @ embeddings.T).clamp(min=1e-8)
        pull = squared * similar
        push = ((self.margin or 0) - squared.sqrt()).clamp(min=0).square() * different
        return pull.sum() / similar.sum().clamp(min=1) + push.sum() / different.sum().clamp(min=1)
