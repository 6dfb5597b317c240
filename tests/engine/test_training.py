from __future__ import annotations

import json
import shutil
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from PIL import Image

from engine import training_run
from engine.augment import Augment
from engine.batches import Balanced, read_folder
from engine.preprocessing import Preprocessing
from engine.recipes import RECIPES
from engine.training import choose_sampler, train
from engine.training_run import Run
from engine.training_set import Mixture, TrainingSet, read_sets
from engine.validation import Validation
from engine.weights import load_embedder, read_checkpoint
from indexer.errors import ArgumentError, SourceError, WeightsError

SMALL = {
    "backbone": "tiny",
    "size": 32,
    "steps": 12,
}

FEW = Balanced(n_classes=4, n_images=3)


def learn(photos, out, *, weights=None, sampler=FEW, **how):
    """Train on ``photos`` in small batches; arguments of a ``TrainingSet`` go to it."""
    of_the_set = {name: how.pop(name) for name in ("class_depth", "quarter_turns", "augment", "cutmix") if name in how}
    settings = {"device": "cpu", **({} if weights else SMALL), **how}
    return train(TrainingSet(photos, sampler=sampler, **of_the_set), out, weights=weights, **settings)


def separation(embedder, photos):
    """Mean cosine within classes less that between them."""
    classes = [embedder.embed(sorted(folder.iterdir())) for folder in sorted(photos.iterdir())]
    within = torch.tensor([float((v @ v.T).mean()) for v in classes]).mean()
    between = torch.tensor([float((a @ b.T).mean()) for a in classes for b in classes if a is not b]).mean()
    return float(within - between)


def test_training_pulls_classes_apart_and_says_how_the_loss_fell(photos, tmp_path):
    few = learn(photos, tmp_path / "few.safetensors", steps=1)
    many = learn(photos, tmp_path / "many.safetensors", steps=150, learning_rate=3e-3)

    assert many.losses[-1] < 0.8 * few.losses[0]
    before, after = (separation(load_embedder(report.out), photos) for report in (few, many))
    assert after > before + 0.1


def test_class_means_are_means_of_the_embeddings_of_so_many_images_of_each_class_turned_ones_too(photos, embedder):
    sets = [TrainingSet(photos), TrainingSet(photos, quarter_turns=True)]
    mixture = read_sets(sets, embedder.preprocessing, FEW)
    embedder.train()
    few = min(len(rows) for rows in mixture.images[0].rows_of) - 1

    whole, some = mixture.class_means(embedder, 1000), mixture.class_means(embedder, few)

    assert embedder.training
    embedder.eval()
    label = 0
    with torch.no_grad():
        for images in mixture.images:
            for rows in images.rows_of:
                all_of_it = embedder(images.batch(rows.tolist(), embedder.device).images)
                torch.testing.assert_close(whole[label], all_of_it.sum(0) / len(rows))
                without_one = [(all_of_it.sum(0) - one) / few for one in all_of_it]
                if few == len(rows) - 1:
                    assert any(torch.allclose(some[label], mean, atol=1e-5) for mean in without_one)
                label += 1
    assert label == len(whole) == 5 * len(mixture.images[0].rows_of)


def test_one_image_a_class_is_enough(photos, tmp_path):
    for folder in photos.iterdir():
        for image in sorted(folder.iterdir())[1:]:
            image.unlink()

    report = learn(photos, tmp_path / "w.safetensors", steps=100, learning_rate=3e-3)

    assert report.images == report.classes == 4
    assert report.losses[-1] < report.losses[0]


def test_the_same_seed_teaches_the_same_and_another_seed_something_else(photos, tmp_path):
    def fingerprint(name, seed):
        return load_embedder(learn(photos, tmp_path / name, seed=seed).out).fingerprint

    assert fingerprint("a", 0) == fingerprint("b", 0)
    assert fingerprint("a", 0) != fingerprint("c", 1)


def test_an_interrupted_run_goes_on_and_ends_as_an_unbroken_one(photos, tmp_path):
    whole = learn(photos, tmp_path / "whole.safetensors")

    def interrupt(step, steps, loss):
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn(photos, tmp_path / "broken.safetensors", on_step=interrupt)
    assert not (tmp_path / "broken.safetensors").exists()
    seen = []
    broken = learn(photos, tmp_path / "broken.safetensors", on_step=lambda step, *_: seen.append(step))

    assert seen == list(range(6, 13))
    assert broken.losses == whole.losses
    assert load_embedder(broken.out).fingerprint == load_embedder(whole.out).fingerprint
    assert sorted(path.name for path in tmp_path.glob("*.unfinished*")) == []


def test_a_killed_run_loses_at_most_the_time_between_two_saves(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(training_run, "SAVE_SECONDS", -1.0)  # save after each step

    def die(step, steps, loss):
        if step == 8:
            raise SystemExit

    with pytest.raises(SystemExit):
        learn(photos, tmp_path / "w.safetensors", on_step=die)
    seen = []
    learn(photos, tmp_path / "w.safetensors", on_step=lambda step, *_: seen.append(step))

    assert seen[0] == 8


def test_another_command_does_not_go_on_where_the_first_was(photos, tmp_path):
    def interrupt(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn(photos, tmp_path / "w.safetensors", on_step=interrupt)

    with pytest.raises(ArgumentError, match="other settings"):
        learn(photos, tmp_path / "w.safetensors", seed=9)


def test_a_damaged_state_is_refused_and_kept(photos, tmp_path):
    state = tmp_path / "w.safetensors.unfinished"
    state.write_bytes(b"damaged")

    with pytest.raises(WeightsError, match="delete it"):
        learn(photos, tmp_path / "w.safetensors")

    assert state.read_bytes() == b"damaged"


def test_the_card_says_how_the_weights_came_to_be(photos, tmp_path):
    learn(photos, tmp_path / "w.safetensors", seed=3, augment=Augment(flip=False))

    card, _ = read_checkpoint(tmp_path / "w.safetensors")

    assert card["recipe"] == "contrastive"
    assert card["training"]["seed"] == 3
    (data,) = card["training"]["data"]
    assert data["augment"]["flip"] is False
    assert (data["images"], data["classes"]) == (12, 4)
    assert data["sampler"] == {"kind": "Balanced", "n_classes": 4, "n_images": 3, "siblings": 0.0}


def test_training_starts_from_the_weights_it_is_given(photos, weights, tmp_path):
    start = load_embedder(weights)

    learn(photos, tmp_path / "w.safetensors", weights=weights, steps=1, learning_rate=1e-9)

    after = load_embedder(tmp_path / "w.safetensors")
    torch.testing.assert_close(after.backbone.convolution.weight, start.backbone.convolution.weight)


def draw(colour, seed):
    """Noise around a colour."""
    noise = np.random.default_rng(seed).integers(-20, 20, (40, 40, 3))
    return Image.fromarray((np.array(colour) + noise).clip(0, 255).astype(np.uint8))


def others(folder):
    """A folder of other classes, to measure on."""
    for i, (name, colour) in enumerate({"white": (250, 250, 250), "pink": (240, 120, 180)}.items()):
        (folder / name).mkdir(parents=True)
        for j in range(3):
            draw(colour, 100 * i + j).save(folder / name / f"{j}.png")
    return folder


def test_the_weights_that_know_the_validation_classes_best_are_kept(photos, tmp_path, monkeypatch):
    """Told that the fourth measurement is the best, a run keeps the weights of that moment."""
    told = iter([0.1, 0.2, 0.3, 0.9, *[0.5] * 50])
    seen = []

    def accuracy(self, embedder, recipe):
        seen.append({name: tensor.clone() for name, tensor in embedder.state_dict().items()})
        return next(told)

    monkeypatch.setattr(Validation, "accuracy", accuracy)
    report = learn(photos, tmp_path / "w.safetensors", validation=others(tmp_path / "others"), steps=40, patience=3)

    assert report.accuracy == 0.9
    assert report.steps == 12  # measured before the first step and after every second: 0 2 4 [6] 8 10 12
    kept = load_embedder(report.out).state_dict()
    assert all(torch.equal(kept[name], tensor.half().float()) for name, tensor in seen[3].items() if tensor.ndim)


def test_validation_measures_episodes_of_classes_that_are_not_learnt_from(photos, tmp_path):
    report = learn(photos, tmp_path / "w.safetensors", validation=others(tmp_path / "others"), steps=20, patience=50)

    history = json.loads((tmp_path / "w.training.json").read_text())["history"]["validation"]
    assert [step for step, _ in history] == list(range(21))
    assert all(0 <= accuracy <= 1 for _, accuracy in history)
    assert report.accuracy == max(accuracy for _, accuracy in history)


def test_a_continued_run_with_validation_and_average_ends_as_an_unbroken_one(photos, tmp_path):
    how = {"validation": others(tmp_path / "others"), "average": 0.9, "patience": 50}
    whole = learn(photos, tmp_path / "whole.safetensors", **how)

    def interrupt(step, steps, loss):
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn(photos, tmp_path / "broken.safetensors", **how, on_step=interrupt)
    broken = learn(photos, tmp_path / "broken.safetensors", **how)

    assert load_embedder(broken.out).fingerprint == load_embedder(whole.out).fingerprint
    assert broken.accuracy == whole.accuracy


def test_a_validation_class_with_a_single_image_is_named(photos, tmp_path):
    folder = others(tmp_path / "others")
    (folder / "pink" / "1.png").unlink()
    (folder / "pink" / "2.png").unlink()

    with pytest.raises(ArgumentError, match="'pink' has one"):
        learn(photos, tmp_path / "w.safetensors", validation=folder)


def test_averaged_weights_are_the_moving_average_of_the_steps(photos, tmp_path, monkeypatch):
    steps = []
    taken = Run._take_step

    def spy(run):
        loss = taken(run)
        steps.append(run.embedder.backbone.convolution.weight.detach().clone())
        return loss

    monkeypatch.setattr(Run, "_take_step", spy)
    report = learn(photos, tmp_path / "w.safetensors", average=0.8, steps=6)

    expected = steps[0]
    for weight in steps[1:]:
        expected = 0.8 * expected + 0.2 * weight
    kept = load_embedder(report.out).backbone.convolution.weight
    torch.testing.assert_close(kept, expected, atol=1e-3, rtol=1e-3)  # a checkpoint is float16
    assert not torch.allclose(kept, steps[-1], atol=1e-3, rtol=1e-3)


def test_accumulated_batches_make_one_step_of_their_mean_gradient(photos, tmp_path, monkeypatch):
    drawn = []
    batch = Mixture.batch
    monkeypatch.setattr(Mixture, "batch", lambda *given: drawn.append(batch(*given)) or drawn[-1])

    learn(photos, tmp_path / "w.safetensors", accumulate=3, steps=2)

    assert len(drawn) == 6
    assert not torch.equal(drawn[0].images, drawn[1].images)


def test_several_sets_share_every_batch_and_their_classes_stay_apart(photos, tmp_path):
    sets = [TrainingSet(photos, sampler=FEW), TrainingSet(others(tmp_path / "others"), sampler=Balanced(2, 2))]

    mixture = read_sets(sets, Preprocessing.whole(32), FEW)
    batch = mixture.batch(Random(0), torch.device("cpu"))

    assert (mixture.count, mixture.classes) == (18, [4, 2])
    assert sorted(batch.labels.tolist()) == sorted([0, 1, 2, 3] * 3 + [4, 5] * 2)
    assert learn_from(sets, tmp_path / "w.safetensors").classes == 6


def learn_from(sets, out):
    return train(sets, out, weights=None, device="cpu", **SMALL)


def test_mixed_images_are_learnt_where_the_loss_allows_and_refused_elsewhere(photos, tmp_path):
    for recipe in ("contrastive", "classification"):
        assert learn(photos, tmp_path / f"{recipe}.safetensors", cutmix=1.0, recipe=recipe).steps == 12

    with pytest.raises(ArgumentError, match="leave out cutmix"):
        learn(photos, tmp_path / "x.safetensors", cutmix=0.5, recipe="siamese")


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_every_recipe_trains_from_one_image_a_class(photos, tmp_path, recipe, needed):
    for folder in photos.iterdir():
        for image in sorted(folder.iterdir())[1:]:
            image.unlink()

    sampler = choose_sampler(recipe, classes=4, images=3)

    how = {"recipe": recipe, "options": needed(recipe), "sampler": sampler}
    assert learn(photos, tmp_path / "w.safetensors", **how, steps=3).images == 4


def test_an_episodes_support_is_what_its_sampler_draws(photos, tmp_path):
    report = learn(
        photos,
        tmp_path / "w.safetensors",
        recipe="prototypical",
        sampler=choose_sampler("prototypical", classes=4, images=3, k_shot=2),
    )

    (data,) = read_checkpoint(report.out)[0]["training"]["data"]
    assert data["sampler"] == {"kind": "Episodes", "n_way": 4, "k_shot": 2, "n_query": 1, "siblings": 0.0}


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_a_folder_of_few_classes_is_learnt_by_the_recipes_own_choice_of_batches(photos, tmp_path, recipe, needed):
    how = {"recipe": recipe, "options": needed(recipe), "sampler": choose_sampler(recipe)}
    report = learn(photos, tmp_path / "w.safetensors", **how, steps=2)

    assert report.classes == 4


def test_a_support_is_refused_where_there_are_no_episodes():
    with pytest.raises(ArgumentError, match="leave out k_shot"):
        choose_sampler("contrastive", k_shot=1)


def test_the_record_tells_command_seed_versions_data_and_history_and_its_page_shows_the_curve(photos, tmp_path):
    report = learn(photos, tmp_path / "w.safetensors", seed=3)

    record = json.loads((tmp_path / "w.training.json").read_text())
    page = Path(report.record).read_text()
    assert record["settings"]["seed"] == 3
    assert len(record["history"]["loss"]) == 12
    assert len(record["settings"]["data"][0]["fingerprint"]) == 64
    assert {"python", "torch", "torchvision"} == record["versions"].keys()
    assert record["command"]
    assert str(tmp_path) not in record["command"]
    assert page.count("<polyline") == 1
    assert "12" in page


def test_the_fingerprint_of_the_data_changes_with_a_pixel_and_not_with_the_place(photos, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(photos, moved)

    def fingerprint(folder):
        return read_folder(folder, Preprocessing.whole(32)).fingerprint

    assert fingerprint(moved) == fingerprint(photos)
    draw((1, 2, 3), 99).save(moved / "red" / "0.png")
    assert fingerprint(moved) != fingerprint(photos)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"recipe": "alchemy"}, ArgumentError),
        ({"options": {"colour": 3}}, ArgumentError),
        ({"options": {"temperature": -1}}, ArgumentError),
        ({"steps": 0}, ArgumentError),
        ({"accumulate": 0}, ArgumentError),
        ({"patience": 0}, ArgumentError),
        ({"average": 1.0}, ArgumentError),
        ({"cutmix": 2.0}, ArgumentError),
        ({"size": 8}, ArgumentError),
        ({"backbone": "none"}, ArgumentError),
        ({"device": "abacus"}, ArgumentError),
        ({"sampler": Balanced(n_classes=5)}, ArgumentError),
        ({"weights": "missing.safetensors"}, WeightsError),
        ({"class_depth": 3}, SourceError),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_learnt(photos, tmp_path, wrong, error):
    def on_step(*_):
        raise AssertionError("a step was taken")

    with pytest.raises(error) as refused:
        learn(photos, tmp_path / "w.safetensors", **wrong, on_step=on_step)

    assert "\n" not in str(refused.value)


def test_a_folder_to_write_to_that_is_missing_is_refused(photos, tmp_path):
    with pytest.raises(ArgumentError, match="does not exist"):
        learn(photos, tmp_path / "no" / "w.safetensors")
