"""The contract that every recipe keeps: adding a line to RECIPES adds these tests."""

from __future__ import annotations

import pytest
import torch

from engine.batches import Batch
from engine.embedder import Embedder
from engine.preprocessing import Preprocessing
from engine.recipes import RECIPES


@pytest.fixture(params=sorted(RECIPES))
def recipe(request):
    torch.manual_seed(0)
    return RECIPES[request.param]()


@pytest.fixture
def batch():
    """Four classes, whose labels have gaps, of four images each: colours hardly apart, and much noise."""
    generator = torch.Generator().manual_seed(0)
    colours = 0.1 * torch.rand(4, 3, 1, 1, generator=generator).repeat_interleave(4, 0)
    images = (colours + 0.9 * torch.rand(16, 3, 32, 32, generator=generator)).clamp(0, 1)
    return Batch(images, torch.tensor([2, 7, 30, 31]).repeat_interleave(4))


def fresh_embedder():
    torch.manual_seed(0)
    return Embedder("tiny", preprocessing=Preprocessing.whole(32)).train()


def learn(recipe, batch, steps):
    embedder = fresh_embedder()
    optimizer = torch.optim.AdamW([*embedder.parameters(), *recipe.parameters()], lr=3e-3)
    losses = []
    for _ in range(steps):
        loss = recipe.loss(embedder, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_the_loss_is_a_finite_scalar_that_reaches_the_embedder(recipe, batch):
    embedder = fresh_embedder()

    loss = recipe.loss(embedder, batch)
    loss.backward()

    assert loss.shape == ()
    assert torch.isfinite(loss)
    assert embedder.backbone.convolution.weight.grad.abs().sum() > 0


def test_sixty_steps_lower_the_loss(recipe, batch):
    losses = learn(recipe, batch, 60)

    assert losses[-1] < 0.9 * losses[0]


def test_the_same_seed_gives_the_same_history(recipe, batch):
    assert learn(recipe, batch, 5) == learn(recipe, batch, 5)


def test_a_batch_is_left_as_it_is(recipe, batch):
    images, labels = batch.images.clone(), batch.labels.clone()

    recipe.loss(fresh_embedder(), batch)

    assert torch.equal(batch.images, images)
    assert torch.equal(batch.labels, labels)


def test_what_the_labels_are_called_does_not_matter(recipe, batch):
    renamed = Batch(batch.images, batch.labels * 1000 + 3)

    torch.testing.assert_close(recipe.loss(fresh_embedder(), batch), recipe.loss(fresh_embedder(), renamed))


def test_score_has_a_row_for_each_query_and_a_column_for_each_support_and_knows_the_same(recipe):
    vectors = torch.nn.functional.normalize(torch.randn(6, 24, generator=torch.Generator().manual_seed(0)), dim=1)

    score = recipe.score(vectors[:4], vectors)

    assert score.shape == (4, 6)
    assert score.argmax(1).tolist() == [0, 1, 2, 3]
