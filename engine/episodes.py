"""Episodes: a few classes, a few images of each to know them by (the support), and more of them to ask about.

Training that looks like the task itself: Vinyals et al. 2016, "Matching Networks for One Shot Learning"
(arXiv:1606.04080).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import cycle, islice
from random import Random

import torch
from torch import Tensor

from engine.batches import Balanced, LabelledImages
from indexer.errors import ArgumentError


@dataclass(frozen=True, slots=True)
class Episodes:
    """Batches of ``n_way`` classes, ``k_shot + n_query`` images of each: the first ``k_shot`` are the support.

    A class with too few images shows some more than once. Its support repeats none while it has ``k_shot``, and its
    queries show other images than its support while it has more than ``k_shot``.

    Attributes:
        n_way: classes in an episode.
        k_shot: images of each in the support.
        n_query: images of each to ask about.
        siblings: share of the episodes whose classes lie in one parent folder, or few: the ones hardest to tell apart.
    """

    n_way: int = 20
    k_shot: int = 1
    n_query: int = 5
    siblings: float = 0.0

    def __post_init__(self) -> None:
        if self.n_way < 2 or self.k_shot < 1 or self.n_query < 1:
            raise ArgumentError("an episode needs at least 2 classes, 1 image of each to know it by and 1 to ask about")
        if not 0 <= self.siblings <= 1:
            raise ArgumentError("siblings is a share of the episodes: give a number from 0 to 1")

    def check(self, images: LabelledImages) -> None:
        """Refuse a folder with fewer classes than an episode holds."""
        if len(images.rows_of) < self.n_way:
            raise ArgumentError(
                f"an episode asks for {self.n_way} classes, the folder holds {len(images.rows_of)}: "
                f"use at most {len(images.rows_of)} ways"
            )

    def fitting(self, images: LabelledImages) -> Episodes:
        """Return the same, of all classes if there are fewer than an episode holds."""
        return replace(self, n_way=min(self.n_way, len(images.rows_of)))

    def draw(self, images: LabelledImages, random: Random) -> list[int]:
        """Return ``n_way * (k_shot + n_query)`` row numbers, class by class, the support of a class first."""
        # Which classes meet is chosen in one place: a pair of each of them says which.
        pairs = Balanced(n_classes=self.n_way, n_images=2, siblings=self.siblings).draw(images, random)
        labels = dict.fromkeys(images.labels[pairs].tolist())
        return [row for label in labels for row in self._draw_rows(images.rows_of[label].tolist(), random)]

    def _draw_rows(self, rows: list[int], random: Random) -> list[int]:
        shuffled = random.sample(rows, len(rows))
        support = list(islice(cycle(shuffled), self.k_shot))
        return support + list(islice(cycle(shuffled[self.k_shot :] or shuffled), self.n_query))


@dataclass(frozen=True, slots=True)
class Episode:
    """Which rows of a batch are known and which are asked about.

    Attributes:
        n_way: classes with a support.
        support: rows ``(n_support,)`` of the images that the classes are known by.
        support_labels: their classes ``(n_support,)``, 0..n_way-1 in the order of the batch's labels.
        queries: rows ``(n_query,)`` of the images to ask about.
        query_labels: their classes ``(n_query,)``.
    """

    n_way: int
    support: Tensor
    support_labels: Tensor
    queries: Tensor
    query_labels: Tensor


def split(labels: Tensor, k_shot: int) -> Episode:
    """Return the episode of a batch with ``labels`` ``(n,)``: the first ``k_shot`` rows of each are its support.

    Labels may have any values in any order and any number of rows each; one without a row beyond its support is
    there to be told from, and has no query.

    Raises:
        ArgumentError: there is one label only, or no query at all.
    """
    if k_shot < 1:
        raise ArgumentError("k_shot must be at least 1")
    values, classes = labels.unique(return_inverse=True)
    if len(values) < 2:
        raise ArgumentError(f"an episode needs at least 2 classes, the batch holds {len(values)}: draw more classes")
    order = classes.argsort(stable=True)
    counts = classes.bincount()
    place = torch.arange(len(labels), device=labels.device) - (counts.cumsum(0) - counts)[classes[order]]
    support, queries = order[place < k_shot], order[place >= k_shot]
    if not len(queries):
        raise ArgumentError(
            f"no class of the batch has an image beyond its {k_shot} for the support: draw {k_shot + 1} or more of each"
        )
    return Episode(len(values), support, classes[support], queries, classes[queries])
