from __future__ import annotations

import math
from functools import partial

import pytest
import torch

from engine.augment import Augment
from engine.batches import Balanced, Batch
from engine.recipes import Classification, Contrastive
from engine.training import train
from engine.training_set import TrainingSet
from engine.weights import read_checkpoint
from indexer.errors import ArgumentError

PLAIN = Augment(rotation=0, translation=0, scale=0, flip=False, colour=0)


class Given(torch.nn.Module):
    """An embedder that says what it was given: the images are the embeddings."""

    def forward(self, images):
        return torch.nn.functional.normalize(images, dim=1)


def begun(classes, **options):
    torch.manual_seed(0)
    recipe = Classification(dim=5, **options)
    recipe.begin([classes])
    return recipe


def batch(labels, **mixed):
    generator = torch.Generator().manual_seed(len(labels))
    return Batch(torch.randn(len(labels), 5, generator=generator), torch.tensor(labels), **mixed)


def surprise(recipe, embedding, label):
    """The negative log-probability of a class, written out."""
    vectors = recipe.classes.tolist()
    cosines = [sum(a * b for a, b in zip(embedding, v, strict=True)) / math.hypot(*v) for v in vectors]
    shares = [math.exp(cosine / recipe.temperature) for cosine in cosines]
    return -math.log(shares[label] / sum(shares))


@pytest.mark.parametrize("labels", [[0, 0, 1, 1], [3, 3, 7, 7, 7, 10], [5, 5], [4]])
def test_the_loss_equals_the_sum_written_out(labels):
    recipe, given = begun(11, temperature=0.3), batch(labels)
    embeddings = Given()(given.images).tolist()

    expected = sum(surprise(recipe, one, label) for one, label in zip(embeddings, labels, strict=True)) / len(labels)

    assert recipe.loss(Given(), given).item() == pytest.approx(expected, rel=1e-5)


def test_an_image_of_two_classes_costs_each_by_its_share():
    recipe = begun(6, temperature=0.3)
    given = batch([0, 1, 2], share=torch.tensor([1.0, 0.25, 0.5]), others=torch.tensor([5, 4, 2]))
    embeddings = Given()(given.images).tolist()

    expected = [
        share * surprise(recipe, one, own) + (1 - share) * surprise(recipe, one, other)
        for one, own, other, share in zip(embeddings, [0, 1, 2], [5, 4, 2], [1.0, 0.25, 0.5], strict=True)
    ]

    assert recipe.loss(Given(), given).item() == pytest.approx(sum(expected) / 3, rel=1e-5)


def test_contrast_adds_that_much_of_the_contrastive_loss_of_the_batch():
    given = batch([0, 0, 1, 1, 1])

    plain, more = (begun(3, contrast=weight).loss(Given(), given).item() for weight in (0.0, 0.5))

    assert more - plain == pytest.approx(0.5 * Contrastive().loss(Given(), given).item(), rel=1e-5)


@pytest.mark.parametrize("dim", [16, 2048])
def test_class_vectors_turn_to_their_images_within_some_steps_of_any_network(dim):
    torch.manual_seed(0)
    recipe = Classification(dim=dim)
    recipe.begin([16])
    given = Batch(torch.eye(16, dim), torch.arange(16))
    optimizer = torch.optim.AdamW(recipe.parameters(), lr=1e-3)
    first = recipe.loss(Given(), given).item()

    for _ in range(200):
        optimizer.zero_grad()
        recipe.loss(Given(), given).backward()
        optimizer.step()

    assert recipe.loss(Given(), given).item() < 0.5 * first


def test_imprinted_class_vectors_begin_as_directions_of_what_the_embedder_sees_of_each_class():
    recipe = Classification(dim=5, imprint=3)
    seen, asked = torch.randn(4, 5, generator=torch.Generator().manual_seed(1)), []

    recipe.begin([1, 3], lambda count: asked.append(count) or seen)

    assert asked == [3]
    torch.testing.assert_close(recipe.classes.data, seen / seen.square().sum(1, keepdim=True).sqrt())
    assert recipe.classes.requires_grad


def test_without_imprint_no_image_is_looked_at():
    recipe = Classification(dim=5)

    recipe.begin([7], lambda _count: pytest.fail("looked at images"))

    assert recipe.classes.shape == (7, 5)


def test_imprinting_begins_with_a_lower_loss_than_any_directions_and_says_how_far_it_is(photos, tmp_path):
    start, told = tmp_path / "start.safetensors", []
    learn = partial(train, TrainingSet(photos, augment=PLAIN, sampler=Balanced(n_classes=4, n_images=3)), device="cpu")
    learn(start, recipe="contrastive", weights=None, backbone="tiny", size=32, steps=60, learning_rate=3e-3)

    drawn, imprinted = (
        learn(
            tmp_path / f"{count}.safetensors",
            recipe="classification",
            options={"imprint": count},
            weights=start,
            steps=1,
            on_reading=lambda *progress: told.append(progress),
        ).losses[0]
        for count in (0, 2)
    )

    assert imprinted < 0.7 * drawn
    classes = len(list(photos.iterdir()))
    assert [one for one in told if one[0] == "imprinting"] == [
        ("imprinting", done + 1, classes) for done in range(classes)
    ]


def test_the_class_vectors_are_left_behind_when_training_ends(photos, tmp_path):
    out = tmp_path / "w.safetensors"
    train(TrainingSet(photos), out, recipe="classification", weights=None, backbone="tiny", size=32, steps=2)

    card, state = read_checkpoint(out, prefix="recipe.")

    assert card["recipe"] == "classification"
    assert [tensor.numel() for tensor in state.values()] == [0]


def test_a_label_without_a_class_vector_is_refused_in_one_line():
    with pytest.raises(ArgumentError, match=r"^labels of 3 classes are 0 to 2: [^\n]+$"):
        begun(3).loss(Given(), batch([0, 3]))


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"contrast": -1.0}, {"imprint": -1}])
def test_a_senseless_number_is_refused_when_it_is_given(wrong):
    with pytest.raises(ArgumentError):
        Classification(dim=5, **wrong)
