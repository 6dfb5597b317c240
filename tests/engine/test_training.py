from __future__ import annotations

import pytest
import torch

from engine import training
from engine.augment import Augment
from engine.batches import Balanced
from engine.training import train
from engine.training_set import TrainingSet
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
    of_the_set = {name: how.pop(name) for name in ("class_depth", "quarter_turns", "augment") if name in how}
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
    monkeypatch.setattr(training, "SAVE_SECONDS", -1.0)  # save after each step

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


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"recipe": "alchemy"}, ArgumentError),
        ({"options": {"colour": 3}}, ArgumentError),
        ({"options": {"temperature": -1}}, ArgumentError),
        ({"steps": 0}, ArgumentError),
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
