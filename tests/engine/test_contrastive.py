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
