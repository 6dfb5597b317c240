from __future__ import annotations

import math

import pytest
import torch

from engine.batches import Batch
from engine.recipes import Siamese
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
    recipe = Siamese(dim=DIM, **options)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        recipe.weights.copy_(torch.randn(DIM, generator=generator))
        recipe.bias.fill_(0.7)
    return recipe


def same_chance(recipe, first, second):
    weighted = [w * abs(a - b) for w, a, b in zip(recipe.weights.tolist(), first, second, strict=True)]
    return 1 / (1 + math.exp(-sum(weighted) - recipe.bias.item()))


@pytest.mark.parametrize("labels", [[0, 0, 1, 1], [3, 3, 7, 7, 7, 100], [2, 9, 2, 9, 2, 4, 4], [1, 2, 3], [5, 5, 5]])
def test_the_loss_equals_the_sum_written_out(labels):
    recipe, given = taught(l2=0.0), batch(labels)
    vectors = Given()(given.images).tolist()
    same, different = [], []
    for i, a in enumerate(labels):
        for j, b in enumerate(labels):
            chance = same_chance(recipe, vectors[i], vectors[j])
            if a == b and i != j:
                same.append(-math.log(chance))
            elif a != b:
                different.append(-math.log(1 - chance))
    expected = sum(same) / max(1, len(same)) + sum(different) / max(1, len(different))

    assert recipe.loss(Given(), given).item() == pytest.approx(expected, rel=1e-4)


def test_l2_adds_the_squares_of_the_distances_own_weights():
    given = batch([0, 0, 1, 1])

    plain, regularised = (taught(l2=l2).loss(Given(), given).item() for l2 in (0.0, 0.5))

    assert regularised - plain == pytest.approx(0.5 * sum(w * w for w in taught().weights.tolist()), rel=1e-4)


def test_the_score_is_the_log_odds_of_being_the_same():
    recipe = taught()
    vectors = Given()(batch([0] * 6).images)

    scores = recipe.score(vectors[:2], vectors)

    expected = [[same_chance(recipe, a, b) for b in vectors.tolist()] for a in vectors[:2].tolist()]
    torch.testing.assert_close(scores.sigmoid(), torch.tensor(expected), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dim", [64, 2048])
def test_it_begins_as_a_distance_of_the_same_size_at_any_dim(dim):
    torch.manual_seed(0)
    vectors = torch.nn.functional.normalize(torch.randn(2, dim), dim=1)

    scores = Siamese(dim=dim).score(vectors, vectors)

    assert scores.diagonal().tolist() == [2.0, 2.0]
    assert -8 < scores[0, 1] < -3  # far apart: a small chance of being the same, yet a slope to learn by


def test_two_equal_images_do_not_make_the_slope_infinite():
    images = torch.ones(4, DIM, requires_grad=True)

    Siamese(dim=DIM).loss(Given(), Batch(images, torch.tensor([0, 0, 1, 1]))).backward()

    assert torch.isfinite(images.grad).all()


def test_distances_are_exact_where_the_network_computes_in_mixed_precision():
    given = batch([0, 0, 0, 1, 1, 1])
    recipe = taught()

    with torch.autocast("cpu", torch.bfloat16):
        mixed = recipe.loss(Given(), given)

    assert mixed == recipe.loss(Given(), given)


def test_a_negative_l2_is_refused():
    with pytest.raises(ArgumentError):
        Siamese(dim=DIM, l2=-0.1)
