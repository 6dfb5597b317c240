from __future__ import annotations

import numpy as np
import pytest

from indexer import alignment
from indexer.vectors import unit


def world(count, *, dim=12, new_dim=20, hidden=6, noise=0.0, seed=0):
    """Contents with few traits, seen by two embedders."""
    rng = np.random.default_rng(seed)
    traits = rng.normal(size=(count, hidden))
    old = traits @ rng.normal(size=(hidden, dim)) + noise * rng.normal(size=(count, dim))
    return unit(old), unit(traits @ rng.normal(size=(hidden, new_dim)))


def test_a_map_is_ridge_regression_by_the_textbook(monkeypatch):
    monkeypatch.setattr(alignment, "STRENGTHS", (0.1,))
    for count in (100, 9):  # more rows than floats, and fewer
        old, new = world(count, noise=0.3)
        map, _ = alignment.learn(old, new, np.arange(count))

        x, y = old.astype(float) - old.mean(0, dtype=float), new.astype(float) - new.mean(0, dtype=float)
        ridge = 0.1 * (x**2).sum() / x.shape[1] * np.eye(x.shape[1])
        weights = np.linalg.solve(x.T @ x + ridge, x.T @ y)
        expected = unit((old - old.mean(0, dtype=float)) @ weights + new.mean(0, dtype=float))
        assert np.abs(map(old) - expected).max() < 1e-5


@pytest.mark.parametrize("classes", [300, 30, 3])
def test_the_stated_loss_is_that_on_contents_never_seen(classes):
    old, new = world(600, noise=0.5)
    labels = np.arange(600) % classes
    known = labels < classes * 0.8 if classes > 10 else np.arange(600) < 480

    map, loss = alignment.learn(old[known], new[known], labels[known])

    unseen = float((map(old[~known]) * new[~known]).sum(axis=1).mean())
    assert loss.cosine == pytest.approx(unseen, abs=0.04)
    assert 0.5 < loss.cosine < 0.98
    assert loss.pairs == known.sum()


def test_spaces_that_have_nothing_in_common_lose_all():
    old, new = world(200)[0], world(200, seed=5)[1]

    _, loss = alignment.learn(old, new, np.arange(200))

    assert loss.cosine < 0.3
    assert loss.recall_at_1 < 0.1


def test_a_rotation_loses_nothing():
    old, _ = world(200, hidden=12)
    rotation, _ = np.linalg.qr(np.random.default_rng(3).normal(size=(12, 12)))

    map, loss = alignment.learn(old, unit(old @ rotation), np.arange(200))

    assert loss.cosine > 0.9999
    assert loss.recall_at_1 == 1.0
    assert np.abs(map(old) - old @ rotation).max() < 1e-3


def test_recall_at_1_is_what_a_loop_counts():
    rng = np.random.default_rng(0)
    true, labels = unit(rng.normal(size=(90, 8))), rng.integers(0, 30, 90)
    guess = unit(true + 0.6 * rng.normal(size=true.shape))
    means = {label: unit(guess[labels == label].sum(axis=0)) for label in set(labels.tolist())}

    right = sum(
        max(means, key=lambda label: float(one @ means[label])) == own for one, own in zip(true, labels, strict=True)
    )

    assert alignment._recall_at_1(guess, true, labels) == pytest.approx(right / 90)


def test_each_content_is_held_out_once_and_classes_as_a_whole():
    for labels in (np.arange(100) % 50, np.arange(100) % 3):
        folds = alignment._folds(labels)
        assert sorted(np.concatenate(folds).tolist()) == list(range(100))
    for held in alignment._folds(np.arange(100) % 50):
        assert not set((held % 50).tolist()) & set((np.setdiff1d(np.arange(100), held) % 50).tolist())
