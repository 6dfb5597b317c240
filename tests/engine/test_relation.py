from __future__ import annotations

import math

import pytest
import torch

from engine.batches import Batch
from engine.recipes import Relation
from indexer.errors import ArgumentError

DIM = 5


class Given(torch.nn.Module):
    """An embedder that says what it was given: the images are the embeddings."""

    def forward(self, images):
        return torch.nn.functional.normalize(images, dim=1)


def batch(labels):
    generator = torch.Generator().manual_seed(len(labels))
    return Batch(torch.randn(len(labels), DIM, generator=generator), torch.tensor(labels))


def taught(**options):
    torch.manual_seed(0)
    recipe = Relation(dim=DIM, hidden=6, **options)
    with torch.no_grad():
        for parameter in recipe.parameters():
            parameter.copy_(torch.randn(parameter.shape))
    return recipe


def relation(recipe, query, support):
    """The relation score of one pair: the module on the two joined together."""
    total = [sum(numbers) for numbers in zip(*support, strict=True)]
    joined = [*query, *(x / math.hypot(*total) for x in total)]
    rows = torch.cat([recipe.query_half.weight, recipe.support_half.weight], 1).tolist()
    logit = recipe.output.bias.item()
    for row, bias, weight in zip(rows, recipe.query_half.bias.tolist(), recipe.output.weight[0].tolist(), strict=True):
        logit += weight * max(0.0, bias + sum(w * x for w, x in zip(row, joined, strict=True)))
    return 1 / (1 + math.exp(-logit))


@pytest.mark.parametrize("k_shot", [1, 2])
@pytest.mark.parametrize("labels", [[3, 3, 7, 7, 7, 100], [2, 9, 2, 9, 2, 4, 4, 4, 4, 4], [5, -1, 5, -1, 5, 5]])
def test_the_loss_equals_the_sum_written_out(labels, k_shot):
    recipe, given = taught(k_shot=k_shot), batch(labels)
    vectors = Given()(given.images).tolist()
    rows = {label: [i for i, other in enumerate(labels) if other == label] for label in labels}
    terms = [
        (relation(recipe, vectors[i], [vectors[j] for j in rows[other][:k_shot]]) - (label == other)) ** 2
        for label, of_label in rows.items()
        for i in of_label[k_shot:]
        for other in rows
    ]

    assert recipe.loss(Given(), given).item() == pytest.approx(sum(terms) / len(terms), rel=1e-4)


def test_the_scores_of_an_episode_are_relation_scores_before_their_sigmoid():
    labels = [0, 1, 1, 1, 2, 2]
    recipe = taught()
    vectors = Given()(batch(labels).images)

    scores = recipe.episode_scores(vectors, vectors, torch.tensor(labels), 3)

    expected = [
        [
            relation(recipe, query, [v for v, other in zip(vectors.tolist(), labels, strict=True) if other == label])
            for label in range(3)
        ]
        for query in vectors.tolist()
    ]
    torch.testing.assert_close(scores.sigmoid(), torch.tensor(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dim", [64, 2048])
def test_it_begins_as_a_distance(dim):
    torch.manual_seed(0)
    first = torch.nn.functional.normalize(torch.randn(1, dim), dim=1)
    other = torch.nn.functional.normalize(torch.randn(1, dim), dim=1)
    path = torch.nn.functional.normalize(torch.lerp(first, other, torch.linspace(0, 1, 9)[:, None]), dim=1)

    scores = Relation(dim=dim).score(first, path)[0]

    assert scores[0].item() == pytest.approx(2.0, abs=1e-4)
    assert (scores.diff() < 0).all()
    assert -8 < scores[-1] < -3  # far apart: a small chance of being the same, yet a slope to learn by


@pytest.mark.parametrize("wrong", [{"hidden": 0}, {"hidden": 7}, {"k_shot": 0}])
def test_a_senseless_option_is_refused(wrong):
    with pytest.raises(ArgumentError):
        Relation(dim=DIM, **wrong)
