"""Episodes from embeddings computed once; the oracle is a loop over each query and each class."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.few_shot import few_shot, nearest_mean
from indexer.errors import ArgumentError

torch.set_num_threads(1)
LABELS = np.repeat(np.array([3, 7, 8, 20, 21]), [6, 7, 8, 9, 10])
SHAPE = {"n_way": 3, "k_shot": 2, "n_query": 4, "episodes": 30}


def units(count, seed=0, dim=4):
    vectors = np.random.default_rng(seed).normal(size=(count, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


VECTORS = units(len(LABELS))


def recorded(vectors=VECTORS, labels=LABELS, **how):
    """Run episodes; return the result, and of each episode what was scored, and the scores."""
    seen = []

    def score(queries, support, support_labels, n_way):
        scores = nearest_mean(queries, support, support_labels, n_way)
        seen.append((queries.clone(), support.clone(), support_labels.clone(), scores))
        return scores

    return few_shot(vectors, labels, **{**SHAPE, **how}, score=score), seen


def row_of(vector, vectors=VECTORS):
    return int(np.flatnonzero((vectors == vector.numpy()).all(1))[0])


def test_an_episode_asks_for_other_images_of_its_own_classes():
    _, seen = recorded()

    for queries, support, support_labels, _ in seen:
        known, asked = [row_of(vector) for vector in support], [row_of(vector) for vector in queries]
        assert support_labels.tolist() == [0, 0, 1, 1, 2, 2]
        assert len(set(known + asked)) == 3 * (2 + 4)
        classes = [LABELS[row] for row in known[::2]]
        assert [LABELS[row] for row in known[1::2]] == classes
        assert len(set(classes)) == 3
        assert [LABELS[row] for row in asked] == [name for name in classes for _ in range(4)]


def test_the_default_score_is_the_cosine_to_the_normalised_mean_and_its_best_is_the_answer():
    found, seen = recorded()

    accuracies = []
    for queries, support, _, scores in seen:
        right = 0
        for row, query in enumerate(queries.numpy()):
            means = [support[first : first + 2].numpy().sum(0) for first in (0, 2, 4)]
            cosines = [float(query @ mean / np.linalg.norm(mean)) for mean in means]
            assert scores[row].tolist() == pytest.approx(cosines, abs=1e-5)
            right += int(np.argmax(cosines)) == row // 4
        accuracies.append(right / 12)
    assert found.accuracies.tolist() == pytest.approx(accuracies)
    assert 0.2 < found.mean < 0.6
    assert found.accuracies.tolist() == few_shot(VECTORS, LABELS, **SHAPE).accuracies.tolist()


def test_the_interval_is_1_96_standard_errors_around_the_mean():
    found, _ = recorded()

    mean = sum(found.accuracies) / 30
    deviation = (sum((one - mean) ** 2 for one in found.accuracies) / 29) ** 0.5
    assert found.mean == pytest.approx(mean)
    assert found.high - found.mean == pytest.approx(1.96 * deviation / 30**0.5, rel=1e-4)
    assert found.mean - found.low == pytest.approx(found.high - found.mean)


def test_all_scores_see_the_same_episodes_and_another_seed_others():
    _, first = recorded(seed=4)
    blind = []
    few_shot(VECTORS, LABELS, **SHAPE, seed=4, score=lambda q, *_: blind.append(q.clone()) or torch.zeros(len(q), 3))
    _, other = recorded(seed=5)

    assert all(torch.equal(one[0], seen) for one, seen in zip(first, blind, strict=True))
    assert not all(torch.equal(one[0], another[0]) for one, another in zip(first, other, strict=True))
    assert not torch.equal(first[0][0], first[1][0])


def test_more_episodes_begin_with_those_of_fewer():
    assert recorded(episodes=40)[0].accuracies[:30].tolist() == recorded()[0].accuracies.tolist()


def test_a_score_that_tells_nothing_is_right_by_chance():
    found = few_shot(VECTORS, LABELS, **SHAPE, score=lambda q, *_: torch.zeros(len(q), 3))

    assert found.accuracies.tolist() == pytest.approx([1 / 3] * 30)


def test_classes_that_lie_apart_are_always_told_apart():
    vectors = np.eye(5, dtype=np.float32)[np.unique(LABELS, return_inverse=True)[1]]

    assert few_shot(vectors, LABELS, **SHAPE).accuracies.min() == 1.0


def test_names_do_for_labels_and_their_order_in_the_rows_for_nothing_else():
    names = np.array([f"class {label:02}" for label in LABELS])

    assert recorded(labels=names)[0].accuracies.tolist() == recorded()[0].accuracies.tolist()


def test_an_episode_stays_within_one_group_and_all_groups_have_their_turn():
    labels = np.tile(np.repeat(np.arange(4), 6), 3)  # the same labels in each group
    groups = np.repeat(["a", "b", "c"], 24)
    vectors = units(72, seed=1)

    _, seen = recorded(vectors, labels, groups=groups)

    met = []
    for queries, support, *_ in seen:
        rows = [row_of(vector, vectors) for vector in torch.cat([queries, support])]
        met.append({groups[row] for row in rows})
        assert len({labels[row] for row in rows}) == 3
    assert all(len(names) == 1 for names in met)
    assert set.union(*met) == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"n_way": 6}, "6 ways need 6 classes, there are 5"),
        ({"n_way": 1}, "n_way"),
        ({"k_shot": 3}, "need 7 images of each class, one has 6"),
        ({"k_shot": 0}, "k_shot"),
        ({"n_query": 0}, "n_query"),
        ({"episodes": 1}, "episodes"),
        ({"labels": LABELS[1:]}, "40 vectors"),
        ({"groups": LABELS}, "a group holds 1"),
        ({"groups": LABELS[1:]}, "40 vectors"),
    ],
)
def test_what_no_episode_can_be_drawn_from_is_refused_before_anything_is_scored(wrong, told):
    def score(*_):
        raise AssertionError("was asked for a score")

    with pytest.raises(ArgumentError, match=told):
        few_shot(**{"vectors": VECTORS, "labels": LABELS, **SHAPE, **wrong}, score=score)


@pytest.mark.parametrize("broken", [torch.full((12, 3), float("nan")), torch.zeros(12, 2), torch.zeros(3, 12)])
def test_a_score_without_a_finite_number_for_each_class_is_refused(broken):
    with pytest.raises(ArgumentError, match="12 x 3 finite"):
        few_shot(VECTORS, LABELS, **SHAPE, score=lambda *_: broken)
