"""Matching networks: a query takes the class of the support images it attends to.

Vinyals et al. 2016, "Matching Networks for One Shot Learning" (arXiv:1606.04080).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from engine.batches import Sampler
from engine.recipes.episodic import Episodic
from engine.recipes.recipe import membership
from indexer.errors import ArgumentError


class Matching(Episodic):
    """Cosine attention over the support: a softmax over its images, summed for each class.

    Args:
        dim: length of an embedding; the full context depends on it.
        scale: stands before the cosines at the start, and is learned: a softmax over bare cosines is never sure.
        full_context: whether each image is seen in the light of the whole support, in batches and in episodes. A
            gallery's shortlist differs from query to query and has no order, so ``score`` does without.
        reads: how often a query then reads the support.
        k_shot: images of each class of a batch that are its support.
        sampler: which rows make a batch.
    """

    def __init__(
        self,
        *,
        dim: int | None = None,
        scale: float = 10.0,
        full_context: bool = False,
        reads: int = 5,
        k_shot: int | None = None,
        sampler: Sampler | None = None,
    ) -> None:
        super().__init__(k_shot=k_shot, sampler=sampler)
        if scale <= 0 or reads < 1:
            raise ArgumentError("scale must be positive and reads at least 1")
        if full_context and dim is None:
            raise ArgumentError("the full context needs dim, the length of an embedding")
        self.log_scale = nn.Parameter(torch.tensor(math.log(scale)))
        self.context = FullContext(dim, reads) if full_context and dim else None

    def score(self, queries: Tensor, support: Tensor) -> Tensor:
        """Return the scaled cosines ``(n_query, n_way)``: the attention before its softmax, one image a class."""
        return self.log_scale.exp() * (queries @ support.T)

    def episode_scores(self, queries: Tensor, support: Tensor, support_labels: Tensor, n_way: int) -> Tensor:
        """Return the logarithm of the attention that each class receives, but for a number the same for all."""
        if self.context is not None:
            queries, support = self.context(queries, support)
        of_class = membership(support_labels, n_way).log()  # 0 or minus infinity: leaves out the other classes' images
        return (self.score(queries, support)[:, None, :] + of_class).logsumexp(2)


class FullContext(nn.Module):
    """Full-context embeddings, section 2.1.2 of the paper: what an image is depends on what it is compared with.

    The support goes through an LSTM in both directions; a query reads the support ``reads`` times, attending to what
    its state resembles. Both are added to the embedding, so that it can be left as it is.
    """

    def __init__(self, dim: int, reads: int) -> None:
        super().__init__()
        self.reads = reads
        self.along_support = nn.LSTM(dim, dim, bidirectional=True)
        self.reader = nn.LSTMCell(2 * dim, dim)

    def forward(self, queries: Tensor, support: Tensor) -> tuple[Tensor, Tensor]:
        """Return unit vectors ``(n_query, dim)`` and ``(n_support, dim)``, in the light of ``support``."""
        forward, backward = self.along_support(support)[0].chunk(2, dim=1)
        support = support + forward + backward
        hidden, read, cell = queries, torch.zeros_like(queries), torch.zeros_like(queries)
        for _ in range(self.reads):
            change, cell = self.reader(torch.cat([queries, read], 1), (hidden, cell))
            hidden = change + queries
            read = (hidden @ support.T).softmax(1) @ support
        return nn.functional.normalize(hidden, dim=1), nn.functional.normalize(support, dim=1)
