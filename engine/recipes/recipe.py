"""The shape that all recipes share: which rows make a batch, what it costs, how alike two things are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import ClassVar

import torch
from torch import Tensor, nn

from engine.batches import Batch, Sampler
from indexer.errors import ArgumentError

ClassMeans = Callable[[int], Tensor]
"""The mean embeddings ``(classes, dim)`` of so many images of each class, as they are before anything is learnt."""


class Recipe(nn.Module):
    """Teaches an embedder. Own parameters are the module's own: the optimiser takes them with the embedder's.

    Every recipe is made with ``dim``, the length of an embedding, as its parameters may depend on it.

    Attributes:
        sampler: which rows make a batch.
        learned_score: whether ``score`` orders otherwise than the cosine does, so that a shortlist found by cosine is
            to be ordered anew.
        takes_mixed: whether ``loss`` understands images that show two classes (``Batch.share``).
    """

    sampler: Sampler
    learned_score: ClassVar[bool] = False
    takes_mixed: ClassVar[bool] = False

    def check(self, sets: int) -> None:
        """Refuse, before anything is read, to learn from so many training sets, or without what that needs."""

    def begin(self, classes: Sequence[int], means: ClassMeans | None = None) -> None:
        """Be told how many classes each training set holds, before the first batch: labels go on from set to set.

        Args:
            classes: of each set, those that quarter turns make included.
            means: embeds images of all classes, for a recipe that begins with what the embedder already knows.
        """

    def end(self) -> None:
        """Let go of what only training needs, before the recipe is written beside its embedder."""

    def loss(self, embedder: nn.Module, batch: Batch) -> Tensor:
        """Return what ``batch`` costs, a scalar that reaches the embedder's weights."""
        raise NotImplementedError

    def score(self, queries: Tensor, support: Tensor) -> Tensor:
        """Return how alike each query ``(n_query, dim)`` is to each support ``(n_way, dim)``: ``(n_query, n_way)``.

        Cosine, unless a recipe has learned something else; on unit vectors Euclidean distance orders alike.
        """
        return queries @ support.T

    def episode_scores(self, queries: Tensor, support: Tensor, support_labels: Tensor, n_way: int) -> Tensor:
        """Return how alike each query is to each class of an episode: ``(n_query, n_way)``, higher is better.

        A class is the direction of its mean, as in a gallery, unless a recipe does more with several images of it.

        Args:
            queries: unit vectors ``(n_query, dim)``.
            support: unit vectors ``(n_support, dim)``, any number of them a class.
            support_labels: their classes ``(n_support,)``, each of 0..n_way-1 at least once.
            n_way: number of classes.

        Raises:
            ArgumentError: a class has no image in the support.
        """
        return self.score(queries, nn.functional.normalize(class_means(support, support_labels, n_way), dim=1))


def membership(support_labels: Tensor, n_way: int) -> Tensor:
    """Return which images of a support are of which class, 0 or 1: ``(n_way, n_support)``; each class has one."""
    belongs = torch.arange(n_way, device=support_labels.device)[:, None] == support_labels
    if not belongs.any(1).all():
        raise ArgumentError(f"a class of the episode has no image in the support: give labels 0 to {n_way - 1}")
    return belongs.float()


def class_means(support: Tensor, support_labels: Tensor, n_way: int) -> Tensor:
    """Return the mean ``(n_way, dim)`` of each class's vectors ``(n_support, dim)``."""
    belongs = membership(support_labels, n_way)
    return belongs @ support / belongs.sum(1, keepdim=True)


def full_precision(embeddings: Tensor) -> AbstractContextManager[object]:
    """Return a context without mixed precision: in bfloat16 cosines are 0.004 apart, more than many neighbours are."""
    return torch.autocast(embeddings.device.type, enabled=False)
