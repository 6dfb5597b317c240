"""What the recipes that learn from episodes share: the support is known, the queries are asked about."""

from __future__ import annotations

from torch import Tensor, nn

from engine.batches import Batch, Sampler
from engine.episodes import Episodes, split
from engine.recipes.recipe import Recipe, full_precision
from indexer.errors import ArgumentError


class Episodic(Recipe):
    """A batch is an episode; it costs what the scores of its queries miss of the truth.

    Args:
        k_shot: images of each class of a batch that are its support; the sampler's own number if None, else 1.
        sampler: which rows make a batch.
    """

    def __init__(self, *, k_shot: int | None = None, sampler: Sampler | None = None) -> None:
        super().__init__()
        if k_shot is not None and k_shot < 1:
            raise ArgumentError("k_shot must be at least 1")
        drawn = sampler.k_shot if isinstance(sampler, Episodes) else None
        if drawn and k_shot and drawn != k_shot:
            raise ArgumentError(f"the sampler draws a support of {drawn}, k_shot says {k_shot}: give one of them")
        self.k_shot = k_shot or drawn or 1
        self.sampler = sampler or Episodes(k_shot=self.k_shot)

    def loss(self, embedder: nn.Module, batch: Batch) -> Tensor:
        """Return the loss of ``batch``.

        Raises:
            ArgumentError: it holds one class only, or no image beyond the support.
        """
        episode = split(batch.labels, self.k_shot)
        embeddings = embedder(batch.images)
        queries, support = embeddings[episode.queries], embeddings[episode.support]
        with full_precision(embeddings):
            scores = self.episode_scores(queries, support, episode.support_labels, episode.n_way)
            return self.cost(scores, episode.query_labels)

    def cost(self, scores: Tensor, query_labels: Tensor) -> Tensor:
        """Return the mean negative log-probability of the right class, a softmax over ``scores (n_query, n_way)``."""
        return nn.functional.cross_entropy(scores, query_labels)
