from __future__ import annotations

import pytest
import torch

from engine import training
from engine.augment import Augment
from engine.batches import Balanced
from engine.training import train
from engine.weights import load_embedder, read_checkpoint
from indexer.errors import ArgumentError, SourceError, WeightsError

SMALL = {
    "weights": None,
    "backbone": "tiny",
    "size": 32,
    "sampler": Balanced(n_classes=4, n_images=3),
    "steps": 12,
    "device": "cpu",
}


def separation(embedder, photos):
    """Mean cosine within classes less that between them."""
    classes = [embedder.embed(sorted(folder.iterdir())) for folder in sorted(photos.iterdir())]
    within = torch.tensor([float((v @ v.T).mean()) for v in classes]).mean()
    between = torch.tensor([float((a @ b.T).mean()) for a in classes for b in classes if a is not b]).mean()
    return float(within - between)


def test_training_pulls_classes_apart_and_says_how_the_loss_fell(photos, tmp_path):
    few = train(photos, tmp_path / "few.safetensors", **{**SMALL, "steps": 1})
    many = train(photos, tmp_path / "many.safetensors", **{**SMALL, "steps": 150}, learning_rate=3e-3)

    assert many.losses[-1] < 0.8 * few.losses[0]
    before, after = (separation(load_embedder(report.out), photos) for report in (few, many))
    assert after > before + 0.1


def test_one_image_a_class_is_enough(photos, tmp_path):
    for folder in photos.iterdir():
        for image in sorted(folder.iterdir())[1:]:
            image.unlink()

    report = train(photos, tmp_path / "w.safetensors", **{**SMALL, "steps": 100}, learning_rate=3e-3)

    assert report.images == report.classes == 4
    assert report.losses[-1] < report.losses[0]


def test_the_same_seed_teaches_the_same_and_another_seed_something_else(photos, tmp_path):
    def fingerprint(name, seed):
        return load_embedder(train(photos, tmp_path / name, **SMALL, seed=seed).out).fingerprint

    assert fingerprint("a", 0) == fingerprint("b", 0)
    assert fingerprint("a", 0) != fingerprint("c", 1)


def test_an_interrupted_run_goes_on_and_ends_as_an_unbroken_one(photos, tmp_path):
    whole = train(photos, tmp_path / "whole.safetensors", **SMALL)

    def interrupt(step, steps, loss):
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(photos, tmp_path / "broken.safetensors", **SMALL, on_step=interrupt)
    assert not (tmp_path / "broken.safetensors").exists()
    seen = []
    broken = train(photos, tmp_path / "broken.safetensors", **SMALL, on_step=lambda step, *_: seen.append(step))

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
        train(photos, tmp_path / "w.safetensors", **SMALL, on_step=die)
    seen = []
    train(photos, tmp_path / "w.safetensors", **SMALL, on_step=lambda step, *_: seen.append(step))

    assert seen[0] == 8


def test_another_command_does_not_go_on_where_the_first_was(photos, tmp_path):
    def interrupt(*_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(photos, tmp_path / "w.safetensors", **SMALL, on_step=interrupt)

    with pytest.raises(ArgumentError, match="other settings"):
        train(photos, tmp_path / "w.safetensors", **SMALL, seed=9)


def test_a_damaged_state_is_refused_and_kept(photos, tmp_path):
    state = tmp_path / "w.safetensors.unfinished"
    state.write_bytes(b"damaged")

    with pytest.raises(WeightsError, match="delete it"):
        train(photos, tmp_path / "w.safetensors", **SMALL)

    assert state.read_bytes() == b"damaged"


def test_the_card_says_how_the_weights_came_to_be(photos, tmp_path):
    train(photos, tmp_path / "w.safetensors", **SMALL, seed=3, augment=Augment(flip=False))

    card, _ = read_checkpoint(tmp_path / "w.safetensors")

    assert card["recipe"] == "contrastive"
    assert card["training"]["seed"] == 3
    assert card["training"]["augment"]["flip"] is False
    assert card["training"]["data"] == {"images": 12, "classes": 4}
    assert card["training"]["sampler"] == {"kind": "Balanced", "n_classes": 4, "n_images": 3, "siblings": 0.0}


def test_training_starts_from_the_weights_it_is_given(photos, weights, tmp_path):
    start = load_embedder(weights)

    train(photos, tmp_path / "w.safetensors", weights=weights, sampler=SMALL["sampler"], steps=1, learning_rate=1e-9)

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
        train(photos, tmp_path / "w.safetensors", **{**SMALL, **wrong}, on_step=on_step)

    assert "\n" not in str(refused.value)


def test_a_folder_to_write_to_that_is_missing_is_refused(photos, tmp_path):
    with pytest.raises(ArgumentError, match="does not exist"):
        train(photos, tmp_path / "no" / "w.safetensors", **SMALL)
