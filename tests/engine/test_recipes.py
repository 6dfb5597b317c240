"""The contract that every recipe keeps: adding a line to RECIPES adds these tests."""

from __future__ import annotations

import copy
from random import Random

import numpy as np
import pytest
import torch

from engine.batches import Batch, LabelledImages, read_folder
from engine.embedder import Embedder
from engine.preprocessing import Preprocessing
from engine.recipes import RECIPES, Classification
from engine.recipes.episodic import Episodic
from indexer.errors import ArgumentError

DIM = 24 * 9  # of the embedder below


@pytest.fixture(params=sorted(RECIPES))
def recipe(request, needed):
    torch.manual_seed(0)
    recipe = RECIPES[request.param](dim=DIM, **needed(request.param))
    recipe.check(1)
    recipe.begin([32])
    return recipe


@pytest.fixture
def taught(recipe):
    """The recipe with parameters that have moved from where they start, as training moves them."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in recipe.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return recipe


def noisy_batch(counts):
    """A class for each count, labels with gaps, that many images of each: colours hardly apart, and much noise."""
    generator = torch.Generator().manual_seed(0)
    counts = torch.tensor(counts)
    colours = 0.1 * torch.rand(len(counts), 3, 1, 1, generator=generator).repeat_interleave(counts, 0)
    images = (colours + 0.9 * torch.rand(int(counts.sum()), 3, 32, 32, generator=generator)).clamp(0, 1)
    return Batch(images, torch.tensor([2, 7, 30, 31])[: len(counts)].repeat_interleave(counts))


@pytest.fixture
def batch():
    return noisy_batch([4, 4, 4, 4])


def unit_vectors(count, seed=0):
    return torch.nn.functional.normalize(torch.randn(count, DIM, generator=torch.Generator().manual_seed(seed)), dim=1)


def fresh_embedder():
    torch.manual_seed(0)
    return Embedder("tiny", preprocessing=Preprocessing.whole(32)).train()


def learn(recipe, batch, steps):
    embedder, recipe = fresh_embedder(), copy.deepcopy(recipe)
    optimizer = torch.optim.AdamW([*embedder.parameters(), *recipe.parameters()], lr=3e-3)
    losses = []
    for _ in range(steps):
        loss = recipe.loss(embedder, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("counts", [[4, 4, 4, 4], [2, 2], [5, 1, 3, 2]], ids=str)
def test_the_loss_is_a_finite_scalar_that_reaches_embedder_and_recipe_however_many_images_a_class(recipe, counts):
    embedder = fresh_embedder()

    loss = recipe.loss(embedder, noisy_batch(counts))
    loss.backward()

    assert loss.shape == ()
    assert torch.isfinite(loss)
    assert embedder.backbone.convolution.weight.grad.abs().sum() > 0
    for parameter in [*embedder.backbone.convolution.parameters(), *recipe.parameters()]:
        assert torch.isfinite(parameter.grad).all()


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


@pytest.mark.parametrize("rename", [lambda labels: labels * 1000 + 3, lambda labels: -labels], ids=["far", "reversed"])
def test_what_the_labels_are_called_does_not_matter_unless_each_class_has_a_vector(taught, batch, rename):
    if isinstance(taught, Classification):
        with pytest.raises(ArgumentError, match="labels of 32 classes are 0 to 31"):
            taught.loss(fresh_embedder(), Batch(batch.images, rename(batch.labels)))
        return
    renamed = Batch(batch.images, rename(batch.labels))

    torch.testing.assert_close(taught.loss(fresh_embedder(), batch), taught.loss(fresh_embedder(), renamed))


def test_the_order_of_the_rows_does_not_matter_while_each_class_keeps_its_first(taught, batch):
    firsts, rest = [8, 0, 12, 4], [15, 1, 9, 7, 2, 14, 11, 3, 5, 13, 10, 6]
    moved = Batch(batch.images[firsts + rest], batch.labels[firsts + rest])

    torch.testing.assert_close(taught.loss(fresh_embedder(), batch), taught.loss(fresh_embedder(), moved))


@pytest.mark.parametrize("counts", [[1, 1, 1, 1], [4]], ids=["nothing alike", "one class"])
def test_a_batch_that_lacks_one_side_costs_a_finite_number_or_is_refused_in_one_line(recipe, counts):
    embedder = fresh_embedder()
    if isinstance(recipe, Episodic):
        with pytest.raises(ArgumentError, match=r"^[^\n]+: draw [^\n]+$"):
            recipe.loss(embedder, noisy_batch(counts))
        return
    loss = recipe.loss(embedder, noisy_batch(counts))
    loss.backward()

    assert torch.isfinite(loss)
    assert torch.isfinite(embedder.backbone.convolution.weight.grad).all()


def test_too_few_classes_are_refused_before_the_first_batch(recipe, photos):
    images = read_folder(photos, Preprocessing.whole(32))

    with pytest.raises(ArgumentError, match=r"the folder holds 4: use at most 4"):
        recipe.sampler.check(images)


def test_one_image_a_class_is_enough_to_draw_and_cost_a_batch(recipe):
    names = [f"class {i}" for i in range(20)]
    pixels = np.random.default_rng(0).integers(0, 255, (20, 32, 32, 3), dtype=np.uint8)
    images = LabelledImages(pixels, names, quarter_turns=False)
    recipe.sampler.check(images)

    batch = images.batch(recipe.sampler.draw(images, Random(0)), torch.device("cpu"))

    assert torch.isfinite(recipe.loss(fresh_embedder(), batch))


def test_score_has_a_row_for_each_query_and_a_column_for_each_support_and_knows_the_same(recipe):
    vectors = unit_vectors(6)

    score = recipe.score(vectors[:4], vectors)

    assert score.shape == (4, 6)
    assert score.argmax(1).tolist() == [0, 1, 2, 3]


def test_a_score_depends_on_its_query_and_its_support_alone(taught):
    queries, support = unit_vectors(5), unit_vectors(7, seed=1)

    together = taught.score(queries, support)

    for i in range(5):
        for j in range(7):
            alone = taught.score(queries[i : i + 1], support[j : j + 1])
            torch.testing.assert_close(alone[0, 0], together[i, j], rtol=1e-4, atol=1e-4)


def test_a_score_orders_as_the_cosine_does_unless_it_says_that_it_learned_another(taught):
    queries, support = unit_vectors(20), unit_vectors(20, seed=1)

    order = taught.score(queries, support).argsort(1)

    assert torch.equal(order, (queries @ support.T).argsort(1)) == (not taught.learned_score)


def test_an_episode_of_one_image_a_class_is_scored_as_a_gallery_is(taught):
    queries, support = unit_vectors(5), unit_vectors(4, seed=1)

    scores = taught.episode_scores(queries, support, torch.arange(4), 4)

    torch.testing.assert_close(scores, taught.score(queries, support), rtol=1e-4, atol=1e-4)


def test_an_episode_is_scored_alike_in_any_order_of_its_support(taught):
    queries, support, labels = unit_vectors(5), unit_vectors(7, seed=1), torch.tensor([0, 1, 1, 2, 0, 1, 1])
    order = torch.tensor([6, 2, 0, 4, 1, 3, 5])

    scores = taught.episode_scores(queries, support, labels, 3)
    moved = taught.episode_scores(queries, support[order], labels[order], 3)

    assert scores.shape == (5, 3)
    torch.testing.assert_close(scores, moved, rtol=1e-4, atol=1e-4)


def test_the_classes_of_an_episode_are_its_columns(taught):
    queries, support, labels = unit_vectors(5), unit_vectors(7, seed=1), torch.tensor([0, 1, 1, 2, 0, 1, 1])
    new_place = torch.tensor([2, 0, 1])

    scores = taught.episode_scores(queries, support, labels, 3)
    moved = taught.episode_scores(queries, support, new_place[labels], 3)

    torch.testing.assert_close(moved[:, new_place], scores)


def test_a_class_without_a_support_is_refused(recipe):
    with pytest.raises(ArgumentError, match="no image in the support"):
        recipe.episode_scores(unit_vectors(2), unit_vectors(3), torch.tensor([0, 2, 2]), 3)
