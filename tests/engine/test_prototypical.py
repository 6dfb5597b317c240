from __future__ import annotations

import math

import pytest
import torch

from engine.batches import Balanced, Batch
from engine.episodes import Episodes
from engine.recipes import Prototypical
from indexer.errors import ArgumentError


class Given(torch.nn.Module):
    """An embedder that says what it was given: the images are the embeddings."""

    def forward(self, images):
        return torch.nn.functional.normalize(images, dim=1)


def batch(labels, dim=5):
    generator = torch.Generator().manual_seed(len(labels))
    return Batch(torch.randn(len(labels), dim, generator=generator), torch.tensor(labels))


def prototypes_and_queries(vectors, labels, k_shot):
    """The mean of the first ``k_shot`` vectors of each label, and (vector, label) of the others."""
    rows = {label: [i for i, other in enumerate(labels) if other == label] for label in labels}
    means = {}
    for label, of_label in rows.items():
        known = [vectors[i] for i in of_label[:k_shot]]
        means[label] = [sum(numbers) / len(known) for numbers in zip(*known, strict=True)]
    return means, [(vectors[i], label) for label, of_label in rows.items() for i in of_label[k_shot:]]


def cosine(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))


LABELS = [[0, 0, 1, 1], [3, 3, 7, 7, 7, 100], [2, 9, 2, 9, 2, 4, 4, 4, 4, 4], [5, -1, 5, -1, 5, 5]]


@pytest.mark.parametrize("k_shot", [1, 2])
@pytest.mark.parametrize("labels", LABELS[1:])
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_the_loss_equals_the_sum_written_out(labels, k_shot, metric):
    given, scale = batch(labels), 7.0
    means, queries = prototypes_and_queries(Given()(given.images).tolist(), labels, k_shot)
    terms = []
    for vector, label in queries:
        score = {
            other: scale * (cosine(vector, mean) if metric == "cosine" else -(math.dist(vector, mean) ** 2))
            for other, mean in means.items()
        }
        terms.append(math.log(sum(math.exp(s) for s in score.values())) - score[label])

    loss = Prototypical(metric=metric, scale=scale, k_shot=k_shot).loss(Given(), given)

    assert loss.item() == pytest.approx(sum(terms) / len(terms), rel=1e-4)


def test_the_support_may_be_of_any_size_and_the_scores_are_distances_to_the_means():
    given = batch([0, 1, 1, 1, 2, 2])
    vectors = Given()(given.images)
    means, _ = prototypes_and_queries(vectors.tolist(), given.labels.tolist(), 9)

    scores = Prototypical(scale=1.0).episode_scores(vectors, vectors, given.labels, 3)

    expected = [[-(math.dist(vector, means[label]) ** 2) for label in range(3)] for vector in vectors.tolist()]
    torch.testing.assert_close(scores, torch.tensor(expected), rtol=1e-4, atol=1e-5)


def test_the_support_of_a_batch_is_as_large_as_the_sampler_draws_it():
    given = batch([0] * 5 + [1] * 5)

    by_sampler = Prototypical(sampler=Episodes(n_way=2, k_shot=3)).loss(Given(), given)

    assert by_sampler == Prototypical(k_shot=3).loss(Given(), given)
    assert by_sampler != Prototypical(sampler=Balanced()).loss(Given(), given)
    assert Prototypical(k_shot=3).sampler.k_shot == 3


def test_distances_are_exact_where_the_network_computes_in_mixed_precision():
    given = batch([0, 0, 0, 1, 1, 1])
    recipe = Prototypical()

    with torch.autocast("cpu", torch.bfloat16):
        mixed = recipe.loss(Given(), given)

    assert mixed == recipe.loss(Given(), given)


@pytest.mark.parametrize(
    "wrong",
    [
        {"metric": "manhattan"},
        {"scale": 0.0},
        {"k_shot": 0},
        {"k_shot": 2, "sampler": Episodes(k_shot=1)},
        {"k_shot": 0, "sampler": Balanced()},
    ],
)
def test_a_senseless_option_is_refused(wrong):
    with pytest.raises(ArgumentError):
        Prototypical(**wrong)
