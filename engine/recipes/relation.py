"""Relation networks: how alike two things are is itself learned.

Sung et al. 2018, "Learning to Compare: Relation Network for Few-Shot Learning" (arXiv:1711.06025).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from engine.batches import Sampler
from engine.recipes.episodic import Episodic
from indexer.errors import ArgumentError


class Relation(Episodic):
    """A learned module looks at a query beside the sum of a class's support, and says 1 (the same) or 0.

    The paper compares feature maps by convolutions. Here both sides are unit vectors, since they are all that a gallery
    holds: what was learned can then order its shortlist. The sum of a support is scaled to length 1, so that any number
    of images makes a class, and a class is what it is in a gallery.

    Args:
        dim: length of an embedding.
        hidden: units of the module, an even number.
        k_shot: images of each class of a batch that are its support.
        sampler: which rows make a batch.
    """

    learned_score = True

    def __init__(
        self, *, dim: int, hidden: int = 256, k_shot: int | None = None, sampler: Sampler | None = None
    ) -> None:
        super().__init__(k_shot=k_shot, sampler=sampler)
        if hidden < 2 or hidden % 2:
            raise ArgumentError("hidden must be an even number, 2 or more")
        # One linear layer over the pair, in two halves: the pairs n_query x n_way x 2 dim are never built.
        self.query_half = nn.Linear(dim, hidden)
        self.support_half = nn.Linear(dim, hidden, bias=False)
        self.output = nn.Linear(hidden, 1)
        self._start_as_a_distance()

    @torch.no_grad()
    def _start_as_a_distance(self) -> None:
        """Let the module begin as 2 - 6 * mean |w (query - support)|, over random directions w.

        From random weights it would have to find out first that it is to compare at all, and by squared errors with
        one right class among many it settles on answering 0 instead. The directions are long, as a unit vector's
        numbers are of the size 1/sqrt(dim): short ones for inputs made larger are torn apart by an optimiser's first
        steps, which are as large for a short weight as for a long one.
        """
        hidden, dim = self.query_half.weight.shape
        directions = torch.randn(hidden // 2, dim)
        self.query_half.weight.copy_(torch.cat([directions, -directions]))
        self.support_half.weight.copy_(-self.query_half.weight)
        self.query_half.bias.zero_()
        self.output.weight.fill_(-6 / (hidden // 2))
        self.output.bias.fill_(2.0)

    def score(self, queries: Tensor, support: Tensor) -> Tensor:
        """Return the relation scores ``(n_query, n_way)`` before their sigmoid, which would make the sure ones equal.

        Memory: n_query * n_way * hidden numbers.
        """
        pairs = self.query_half(queries)[:, None, :] + self.support_half(support)
        return self.output(pairs.relu()).squeeze(2)

    def cost(self, scores: Tensor, query_labels: Tensor) -> Tensor:
        """Return the mean squared error of the relation scores against 1 for the right class and 0 for the others."""
        truth = nn.functional.one_hot(query_labels, scores.shape[1]).to(scores.dtype)
        return nn.functional.mse_loss(scores.sigmoid(), truth)
