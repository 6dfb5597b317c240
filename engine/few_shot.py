"""N-way K-shot episodes from embeddings computed once: how well a few images make a class known.

Protocol: Vinyals et al. 2016 (arXiv:1606.04080), figures as in Snell et al. 2017 (arXiv:1703.05175): the mean accuracy
of many random episodes and its 95 % interval.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from engine.statistics import mean_interval
from indexer.errors import ArgumentError
from indexer.vectors import check_count

EpisodeScore = Callable[[Tensor, Tensor, Tensor, int], Tensor]
"""Queries ``(n, dim)``, support ``(m, dim)``, its labels ``(m,)`` of 0..n_way-1, n_way -> ``(n, n_way)``."""

_Choices = list[list[NDArray[np.int64]]]
"""Of each group its classes, of each class its rows."""


@dataclass(frozen=True, slots=True, eq=False)
class FewShot:
    """The accuracy of each episode ``(episodes,)``, their mean, and the ends of its 95 % interval; all within 0..1."""

    accuracies: NDArray[np.float64]
    mean: float
    low: float
    high: float


def few_shot(
    vectors: NDArray[np.float32] | Tensor,
    labels: ArrayLike,
    *,
    n_way: int,
    k_shot: int,
    n_query: int = 15,
    episodes: int = 1000,
    seed: int = 0,
    score: EpisodeScore | None = None,
    groups: ArrayLike | None = None,
) -> FewShot:
    """Return how often queries find their class among ``n_way``, each known by ``k_shot`` images.

    Episode ``i`` depends on the seed, on ``i`` and on the labels alone: whatever scores it, it is the same, so that two
    methods can be compared episode by episode (``paired_test``).

    Args:
        vectors: embeddings ``(n, dim)`` of length 1.
        labels: the class of each, ``(n,)``, numbers or names.
        n_way: classes in an episode.
        k_shot: images that a class is known by.
        n_query: other images of each class to ask about.
        episodes: how many are drawn.
        seed: of the draws.
        score: a recipe's ``episode_scores``; if None, the cosine to the normalised mean of a class's support.
        groups: the group of each vector, ``(n,)``; an episode then draws one group, and its classes from it.

    Raises:
        ArgumentError: before anything is drawn, if there are too few classes or too few images in one; a score that
            gives no finite numbers.
    """
    for what, count, least in (("n_way", n_way, 2), ("k_shot", k_shot, 1), ("n_query", n_query, 1)):
        check_count(what, count, least=least)
    check_count("episodes", episodes, least=2)
    table = torch.as_tensor(vectors)
    choices = _choices(len(table), labels, groups, n_way, k_shot + n_query)
    known = torch.arange(n_way, device=table.device).repeat_interleave(k_shot)
    asked = torch.arange(n_way, device=table.device).repeat_interleave(n_query)
    accuracies = np.empty(episodes)
    for episode in range(episodes):
        draw = np.random.default_rng((seed, episode))
        rows = torch.from_numpy(_drawn(choices, n_way, k_shot + n_query, draw)).to(table.device)
        queries, support = table[rows[:, k_shot:].flatten()], table[rows[:, :k_shot].flatten()]
        with torch.inference_mode():
            answers = _scores(score or nearest_mean, queries, support, known, n_way).argmax(1)
        accuracies[episode] = (answers == asked).double().mean().item()
    return FewShot(accuracies, *mean_interval(accuracies))


def nearest_mean(queries: Tensor, support: Tensor, support_labels: Tensor, n_way: int) -> Tensor:
    """Return the cosines ``(n, n_way)`` of queries ``(n, dim)`` with the mean of each class's support."""
    sums = torch.zeros(n_way, support.shape[1], dtype=support.dtype, device=support.device)
    return queries @ torch.nn.functional.normalize(sums.index_add(0, support_labels, support), dim=1).T


def _choices(count: int, labels: ArrayLike, groups: ArrayLike | None, n_way: int, images: int) -> _Choices:
    classes = np.unique(np.asarray(labels), return_inverse=True)[1].ravel()
    named: NDArray[Any] = np.zeros(count) if groups is None else np.asarray(groups)
    if len(classes) != count or len(named) != count:
        raise ArgumentError(f"{count} vectors need as many labels (and groups), not {len(classes)} and {len(named)}")
    choices = [
        _rows_of(classes[inside], inside) for inside in (np.flatnonzero(named == group) for group in np.unique(named))
    ]
    if not choices or min(map(len, choices)) < n_way:
        fewest = min(map(len, choices), default=0)
        where = "there are" if groups is None else "a group holds"
        raise ArgumentError(f"{n_way} ways need {n_way} classes, {where} {fewest}: ask for fewer ways")
    fewest = min(len(rows) for group in choices for rows in group)
    if fewest < images:
        raise ArgumentError(
            f"support and queries need {images} images of each class, one has {fewest}: ask for fewer, or leave it out"
        )
    return choices


def _rows_of(classes: NDArray[np.int64], rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    order = np.argsort(classes, kind="stable")
    return np.split(rows[order], np.flatnonzero(np.diff(classes[order])) + 1)


def _drawn(choices: _Choices, n_way: int, images: int, draw: np.random.Generator) -> NDArray[np.int64]:
    """Return the rows of one episode, ``(n_way, images)``."""
    group = choices[draw.integers(len(choices))]
    chosen = draw.choice(len(group), n_way, replace=False)
    return np.stack([draw.choice(group[place], images, replace=False) for place in chosen])


def _scores(score: EpisodeScore, queries: Tensor, support: Tensor, labels: Tensor, n_way: int) -> Tensor:
    scores = score(queries, support, labels, n_way)
    if scores.shape != (len(queries), n_way) or not scores.isfinite().all():
        raise ArgumentError(f"a score gives {len(queries)} x {n_way} finite numbers here; the one given does not")
    return scores
