from __future__ import annotations

import math

import pytest
import torch

from engine.batches import Batch
from engine.recipes import Contrastive
from indexer.errors import ArgumentError


class Given(torch.nn.Module):
    """An embedder that says what it was given: the images are the embeddings."""

    def forward(self, images):
        return torch.nn.functional.normalize(images, dim=1)


def batch(labels, dim=5):
    generator = torch.Generator().manual_seed(len(labels))
    return Batch(torch.randn(len(labels), dim, generator=generator), torch.tensor(labels))


LABELS = [[0, 0, 1, 1], [3, 3, 7, 7, 7, 100], [5, 5, 5, 5], [2, 9, 2, 9, 2, 4, 4]]


@pytest.mark.parametrize("labels", LABELS)
def test_the_temperature_loss_equals_the_sum_written_out(labels):
    given, t = batch(labels), 0.2
    z = Given()(given.images).tolist()
    terms = []
    for i, label in enumerate(labels):
        similar = [j for j, other in enumerate(labels) if other == label and j != i]
        if similar:
            logit = [sum(a * b for a, b in zip(z[i], other, strict=True)) / t for other in z]
            total = sum(math.exp(logit[j]) for j in range(len(z)) if j != i)
            terms.append(-sum(logit[j] - math.log(total) for j in similar) / len(similar))

    loss = Contrastive(temperature=t).loss(Given(), given)

    assert loss.item() == pytest.approx(sum(terms) / len(terms), rel=1e-5)


@pytest.mark.parametrize("labels", LABELS)
def test_the_margin_loss_equals_the_sum_written_out(labels):
    given, margin = batch(labels), 1.2
    z = Given()(given.images).tolist()
    pull, push = [], []
    for i, a in enumerate(labels):
        for j, b in enumerate(labels):
            distance = math.dist(z[i], z[j])
            if a == b and i != j:
                pull.append(distance**2)
            elif a != b:
                push.append(max(0.0, margin - distance) ** 2)
    expected = sum(pull) / max(1, len(pull)) + sum(push) / max(1, len(push))

    assert Contrastive(margin=margin).loss(Given(), given).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("recipe", [Contrastive(), Contrastive(margin=0.5)])
@pytest.mark.parametrize("labels", [[1, 2, 3], [4, 4, 4]])
def test_a_batch_without_similar_or_without_different_pairs_has_a_finite_loss_and_slope(recipe, labels):
    given = batch(labels)
    given.images.requires_grad_()

    loss = recipe.loss(Given(), given)
    loss.backward()

    assert torch.isfinite(loss)
    assert torch.isfinite(given.images.grad).all()


def test_two_equal_images_do_not_make_the_slope_infinite():
    images = torch.ones(4, 5, requires_grad=True)

    Contrastive(margin=1.0).loss(Given(), Batch(images, torch.tensor([0, 0, 1, 1]))).backward()

    assert torch.isfinite(images.grad).all()


@pytest.mark.parametrize("wrong", [{"temperature": 0}, {"temperature": -1.0}, {"margin": 0.0}])
def test_a_senseless_option_is_refused(wrong):
    with pytest.raises(ArgumentError):
        Contrastive(**wrong)


@pytest.mark.parametrize("options", [{"temperature": 0.3}, {"margin": 0.8}])
def test_mixed_images_count_by_what_they_show(options):
    """Against loops over all pairs, each counted by the likeness of its two images."""
    vectors = torch.nn.functional.normalize(torch.randn(6, 5, generator=torch.Generator().manual_seed(0)), dim=1)
    batch = Batch(vectors, torch.tensor([0, 0, 1, 1, 2, 2]), torch.rand(6), torch.tensor([1, 2, 0, 1, 0, 2]))

    loss = Contrastive(**options).loss(torch.nn.Identity(), batch)

    like = batch.likeness().tolist()
    pairs = [(i, j) for i in range(6) for j in range(6) if i != j]
    if "margin" in options:
        gap = {(i, j): float((vectors[i] - vectors[j]).norm()) for i, j in pairs}
        pull = sum(like[i][j] * gap[i, j] ** 2 for i, j in pairs) / max(1, sum(like[i][j] for i, j in pairs))
        push = sum((1 - like[i][j]) * max(0, 0.8 - gap[i, j]) ** 2 for i, j in pairs)
        expected = pull + push / max(1, sum(1 - like[i][j] for i, j in pairs))
    else:
        share = {
            (i, j): math.log(
                math.exp(float(vectors[i] @ vectors[j]) / 0.3)
                / sum(math.exp(float(vectors[i] @ vectors[k]) / 0.3) for k in range(6) if k != i)
            )
            for i, j in pairs
        }
        rows = [
            -sum(like[i][j] * share[i, j] for j in range(6) if j != i) / sum(like[i][j] for j in range(6) if j != i)
            for i in range(6)
        ]
        expected = sum(rows) / 6
    assert loss.item() == pytest.approx(expected, rel=1e-4)
