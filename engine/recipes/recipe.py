"""The shape that all recipes share: which rows make a batch, what it costs, how alike two things are."""

from __future__ import annotations

from torch import Tensor, nn

from engine.batches import Batch, Sampler


class Recipe(nn.Module):
    """Teaches an embedder. Own parameters are the module's own: the optimiser takes them with the embedder's."""

    sampler: Sampler

    def loss(self, embedder: nn.Module, batch: Batch) -> Tensor:
        """Return what ``batch`` costs, a scalar that reaches the embedder's weights."""
        raise NotImplementedError

    def score(self, queries: Tensor, support: Tensor) -> Tensor:
        """Return how alike each query ``(n_query, dim)`` is to each support ``(n_way, dim)``: ``(n_query, n_way)``.

        Cosine, unless a recipe has learned something else; on unit vectors Euclidean distance orders alike.
        """
        return queries @ support.T
