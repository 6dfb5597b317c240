from __future__ import annotations

import math

import pytest
import torch

from engine.batches import Batch
from engine.recipes import GaussianPrototypical, Prototypical
from indexer.errors import ArgumentError

DIM = 5


class Given(torch.nn.Module):
    """An embedder that says what it was given: the images are the embeddings."""

    def forward(self, images):
        return torch.nn.functional.normalize(images, dim=1)


def batch(labels):
    generator = torch.Generator().manual_seed(len(labels))
    return Batch(torch.randn(len(labels), DIM, generator=generator), torch.tensor(labels))


def taught(precision, **options):
    recipe = GaussianPrototypical(dim=DIM, precision=precision, **options)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in recipe.raw_precision.parameters():
            parameter.copy_(2 * torch.randn(parameter.shape, generator=generator))
    return recipe


def precision_of(recipe, vector):
    """One plus softplus of the linear map, written out; as many numbers as the vector has."""
    raw = [
        sum(w * x for w, x in zip(row, vector, strict=True)) + b
        for row, b in zip(recipe.raw_precision.weight.tolist(), recipe.raw_precision.bias.tolist(), strict=True)
    ]
    numbers = [1 + math.log(1 + math.exp(number)) for number in raw]
    return numbers if len(numbers) == len(vector) else numbers * len(vector)


def scores_written_out(recipe, queries, support, scale):
    """For each query the score of each class of ``support`` (class: vectors)."""
    rows = []
    for query in queries:
        row = []
        for vectors in support.values():
            weights = [precision_of(recipe, vector) for vector in vectors]
            squared = 0.0
            for d in range(DIM):
                total = sum(weight[d] for weight in weights)
                mean = sum(weight[d] * vector[d] for weight, vector in zip(weights, vectors, strict=True)) / total
                squared += total / len(vectors) * (query[d] - mean) ** 2
            row.append(-scale * squared)
        rows.append(row)
    return rows


@pytest.mark.parametrize("precision", ["radius", "diagonal"])
@pytest.mark.parametrize("labels", [[0, 1, 1, 1, 2, 2], [1, 0, 2, 1, 0, 1, 1]])
def test_the_scores_of_an_episode_equal_the_sums_written_out(precision, labels):
    recipe = taught(precision, scale=3.0)
    vectors = Given()(batch(labels).images)
    support = {
        label: [v for v, other in zip(vectors.tolist(), labels, strict=True) if other == label] for label in (0, 1, 2)
    }

    scores = recipe.episode_scores(vectors, vectors, torch.tensor(labels), 3)

    expected = torch.tensor(scores_written_out(recipe, vectors.tolist(), support, 3.0))
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("precision", ["radius", "diagonal"])
@pytest.mark.parametrize("k_shot", [1, 2])
def test_the_loss_equals_the_sum_written_out(precision, k_shot):
    labels = [3, 3, 70, 3, 70, 70, 70, -2]
    recipe, given = taught(precision, scale=3.0, k_shot=k_shot), batch(labels)
    vectors = Given()(given.images).tolist()
    rows = {label: [i for i, other in enumerate(labels) if other == label] for label in labels}
    support = {label: [vectors[i] for i in of_label[:k_shot]] for label, of_label in rows.items()}
    queries = [(vectors[i], label) for label, of_label in rows.items() for i in of_label[k_shot:]]
    terms = []
    for query, label in queries:
        row = scores_written_out(recipe, [query], support, 3.0)[0]
        terms.append(math.log(sum(map(math.exp, row))) - row[list(support).index(label)])

    assert recipe.loss(Given(), given).item() == pytest.approx(sum(terms) / len(terms), rel=1e-4)


@pytest.mark.parametrize("precision", ["radius", "diagonal"])
def test_before_it_has_learned_it_trusts_all_images_alike_and_scores_as_prototypical_networks_do(precision):
    given = batch([0, 1, 1, 1, 2, 2])
    vectors = Given()(given.images)
    recipe = GaussianPrototypical(dim=DIM, precision=precision, scale=1.0)

    scores = recipe.episode_scores(vectors, vectors, given.labels, 3)

    assert recipe.confidence(vectors).tolist() == pytest.approx([1 + math.log(2)] * 6)
    plain = Prototypical(scale=1 + math.log(2)).episode_scores(vectors, vectors, given.labels, 3)
    torch.testing.assert_close(scores, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", ["radius", "diagonal"])
def test_each_image_has_a_confidence_the_mean_of_its_precision(precision):
    recipe = taught(precision)
    vectors = Given()(batch([0, 1, 1]).images)

    confidence = recipe.confidence(vectors)

    expected = [sum(precision_of(recipe, vector)) / DIM for vector in vectors.tolist()]
    assert confidence.tolist() == pytest.approx(expected, rel=1e-5)
    assert len({round(number, 3) for number in expected}) == 3


def test_a_class_known_by_the_same_image_twice_scores_as_known_by_it_once():
    vectors = Given()(batch([0, 1, 2]).images)
    recipe = taught("diagonal")

    once = recipe.episode_scores(vectors, vectors[:2], torch.tensor([0, 1]), 2)
    twice = recipe.episode_scores(vectors, vectors[[0, 0, 1]], torch.tensor([0, 0, 1]), 2)

    torch.testing.assert_close(once, twice)


@pytest.mark.parametrize("wrong", [{"precision": "full"}, {"scale": 0.0}, {"k_shot": 0}])
def test_a_senseless_option_is_refused(wrong):
    with pytest.raises(ArgumentError):
        GaussianPrototypical(dim=DIM, **wrong)
