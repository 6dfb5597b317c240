from __future__ import annotations

import math

import pytest
import torch

from engine.batches import Balanced, Batch
from engine.embedder import Embedder
from engine.preprocessing import Preprocessing
from engine.recipes import Contrastive, Distillation
from engine.recipes.distillation import divergence
from engine.training import train
from engine.training_set import TrainingSet
from engine.weights import load_embedder, read_checkpoint, save_checkpoint
from indexer.errors import ArgumentError, WeightsError


@pytest.fixture
def teachers(tmp_path):
    """Two embedders on disk that find different things alike; the second sees images half as large."""
    files = []
    for seed, size in ((1, 32), (2, 16)):
        torch.manual_seed(seed)
        files.append(str(tmp_path / f"teacher {seed}.safetensors"))
        embedder = Embedder("tiny", preprocessing=Preprocessing.whole(size))
        save_checkpoint(tmp_path / f"teacher {seed}.safetensors", embedder, torch.nn.Module(), {})
    return files


def student():
    torch.manual_seed(3)
    return Embedder("tiny", preprocessing=Preprocessing.whole(32)).eval()


def batch(labels):
    images = torch.rand(len(labels), 3, 32, 32, generator=torch.Generator().manual_seed(len(labels)))
    return Batch(images, torch.tensor(labels))


def written_out(student, teacher, temperature):
    """The mean divergence of the softmax over all other images, summed one by one."""

    def shares(vectors, image):
        weights = {
            other: math.exp(sum(a * b for a, b in zip(vectors[image], vectors[other], strict=True)) / temperature)
            for other in range(len(vectors))
            if other != image
        }
        return {other: weight / sum(weights.values()) for other, weight in weights.items()}

    student, teacher = student.tolist(), teacher.tolist()
    total = 0.0
    for image in range(len(student)):
        said, known = shares(student, image), shares(teacher, image)
        total += sum(known[other] * math.log(known[other] / said[other]) for other in known)
    return total / len(student)


def test_the_divergence_is_what_the_sum_written_out_says_whatever_the_lengths():
    generator = torch.Generator().manual_seed(0)
    one, other = (torch.nn.functional.normalize(torch.randn(6, dim, generator=generator), dim=1) for dim in (5, 9))

    assert divergence(one, other, 0.3).item() == pytest.approx(written_out(one, other, 0.3), rel=1e-4)
    assert divergence(one, one, 0.3).item() == pytest.approx(0, abs=1e-6)


def test_one_teacher_teaches_all_and_several_a_training_set_each(teachers):
    learner, given = student(), batch([0, 1, 2, 3, 4, 5, 6])
    alone, both = Distillation(teacher=teachers[0]), Distillation(teacher=teachers)
    for recipe in (alone, both):
        recipe.check(2)
        recipe.begin([3, 4])

    said = learner(given.images)
    first = load_embedder(teachers[0])(given.images)
    half = torch.nn.functional.interpolate(given.images, (16, 16), mode="bilinear", antialias=True)
    second = load_embedder(teachers[1])(half)

    assert alone.loss(learner, given).item() == pytest.approx(written_out(said, first, 0.05), rel=1e-3)
    expected = 3 / 7 * written_out(said[:3], first[:3], 0.05) + 4 / 7 * written_out(said[3:], second[3:], 0.05)
    assert both.loss(learner, given).item() == pytest.approx(expected, rel=1e-3)


def test_contrast_is_added_by_its_weight(teachers):
    learner, given = student(), batch([0, 0, 1, 1])
    losses = []
    for recipe in (Distillation(teacher=teachers[0]), Distillation(teacher=teachers[0], contrast=0.5), Contrastive()):
        recipe.begin([2])
        losses.append(recipe.loss(learner, given).item())

    assert losses[1] == pytest.approx(losses[0] + 0.5 * losses[2], rel=1e-5)


def test_a_student_comes_to_find_alike_what_its_teacher_does(photos, teachers, tmp_path):
    data = TrainingSet(photos, sampler=Balanced(n_classes=4, n_images=4))
    how = {"recipe": "distillation", "options": {"teacher": teachers[0]}, "backbone": "tiny", "size": 32}
    images = [path for folder in sorted(photos.iterdir()) for path in sorted(folder.iterdir())]
    known = torch.from_numpy(load_embedder(teachers[0]).embed(images))

    apart = []
    for steps in (1, 150):
        out = train(data, tmp_path / f"{steps}.safetensors", weights=None, steps=steps, learning_rate=3e-3, **how).out
        said = torch.from_numpy(load_embedder(out).embed(images))
        apart.append(divergence(said, known, 0.05).item())

    assert apart[1] < 0.5 * apart[0]


def test_the_weights_of_the_student_are_all_that_is_kept(photos, teachers, tmp_path):
    data = TrainingSet(photos, sampler=Balanced(n_classes=4, n_images=2))
    how = {"recipe": "distillation", "options": {"teacher": teachers[0]}, "backbone": "tiny", "size": 32}
    train(data, tmp_path / "student.safetensors", weights=None, steps=2, **how)

    assert read_checkpoint(tmp_path / "student.safetensors", prefix="recipe.")[1] == {}


@pytest.mark.parametrize(
    ("options", "refused", "told"),
    [
        ({}, ArgumentError, "learns from a teacher: give it weights, as teacher=FILE"),
        ({"teacher": ["bundled", "bundled"]}, ArgumentError, "2 teachers for 1 training set, give one for all"),
        ({"teacher": "none.safetensors"}, WeightsError, "no weights 'none.safetensors'"),
        ({"teacher": "bundled", "temperature": 0}, ArgumentError, "temperature must be positive"),
    ],
)
def test_what_cannot_teach_is_refused_before_an_image_is_read(photos, tmp_path, options, refused, told):
    read = []

    with pytest.raises(refused, match=told):
        train(
            TrainingSet(photos),
            tmp_path / "w.safetensors",
            recipe="distillation",
            options=options,
            weights=None,
            backbone="tiny",
            size=32,
            on_reading=lambda *progress: read.append(progress),
        )

    assert not read
