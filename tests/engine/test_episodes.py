from __future__ import annotations

from collections import Counter
from random import Random

import pytest
import torch

from engine.episodes import Episodes, split
from indexer.errors import ArgumentError


@pytest.mark.parametrize("siblings", [0.0, 1.0])
def test_an_episode_has_n_way_classes_of_support_and_queries_each_and_asks_for_no_pixel(siblings, labelled):
    images = labelled({f"{letter}/{i}": 1 + i for letter in "abc" for i in range(6)})

    rows = Episodes(n_way=7, k_shot=2, n_query=3, siblings=siblings).draw(images, Random(0))

    counts = Counter(images.labels[rows].tolist())
    assert len(counts) == 7
    assert set(counts.values()) == {5}


def test_the_support_repeats_no_image_and_the_queries_show_others_as_far_as_a_class_goes(labelled):
    images = labelled({"one": 1, "two": 2, "three": 3, "four": 4, "nine": 9})

    for seed in range(50):
        rows = Episodes(n_way=5, k_shot=3, n_query=5).draw(images, Random(seed))
        for label, name in enumerate(images.names):
            drawn = [row for row in rows if images.labels[row] == label]
            support, queries = drawn[:3], drawn[3:]
            held = len(images.rows_of[label])
            assert len(set(support)) == min(3, held), name
            assert len(set(queries)) == min(5, held - 3 if held > 3 else held), name
            assert bool(set(support) & set(queries)) == (held <= 3), name


def test_every_image_is_in_the_support_of_some_episode_and_asked_about_in_another(labelled):
    images = labelled({"a": 4, "b": 4, "c": 4})
    known, asked = set(), set()

    for seed in range(100):
        rows = Episodes(n_way=2, k_shot=1, n_query=2).draw(images, Random(seed))
        known |= {rows[0], rows[3]}
        asked |= {*rows[1:3], *rows[4:]}

    assert known == asked == set(range(12))


def test_siblings_come_from_one_folder_as_far_as_it_goes(labelled):
    images = labelled({f"{letter}/{i}": 2 for letter in "abcdef" for i in range(5)}, quarter_turns=True)

    for seed in range(30):
        rows = Episodes(n_way=7, n_query=1, siblings=1.0).draw(images, Random(seed))
        labels = {int(label) for label in images.labels[rows]}
        assert len([group for group in images.siblings if labels & set(group)]) == 2


def test_the_same_seed_draws_the_same_rows(labelled):
    images = labelled({str(i): 4 for i in range(20)})
    sampler = Episodes(n_way=5)

    assert sampler.draw(images, Random(5)) == sampler.draw(images, Random(5))
    assert sampler.draw(images, Random(5)) != sampler.draw(images, Random(6))


def test_too_few_classes_are_refused_with_both_numbers(labelled):
    with pytest.raises(ArgumentError, match=r"asks for 20 classes, the folder holds 3: use at most 3 ways"):
        Episodes().check(labelled({"a": 4, "b": 4, "c": 4}))


@pytest.mark.parametrize("wrong", [{"n_way": 1}, {"k_shot": 0}, {"n_query": 0}, {"siblings": 1.5}, {"siblings": -0.1}])
def test_a_senseless_episode_is_refused_when_the_sampler_is_made(wrong):
    with pytest.raises(ArgumentError):
        Episodes(**wrong)


def split_naively(labels, k_shot):
    seen, support, queries = Counter(), [], []
    for row, label in enumerate(labels):
        (support if seen[label] < k_shot else queries).append((row, sorted(set(labels)).index(label)))
        seen[label] += 1
    return support, queries


@pytest.mark.parametrize("k_shot", [1, 2, 3])
@pytest.mark.parametrize(
    "labels",
    [[0, 0, 0, 0, 1, 1, 1, 1], [9, 2, 2, 9, 700, 9, 2, 9, 2], [5, -3, 5, 5, 5, 8], [2, 1, 2, 1, 2, 1, 2, 1, 0, 0, 0]],
)
def test_the_first_rows_of_each_label_are_its_support_and_the_rest_its_queries(labels, k_shot):
    support, queries = split_naively(labels, k_shot)

    episode = split(torch.tensor(labels), k_shot)

    assert episode.n_way == len(set(labels))
    pairs = zip(episode.support.tolist(), episode.support_labels.tolist(), strict=True)
    assert sorted(pairs) == support
    pairs = zip(episode.queries.tolist(), episode.query_labels.tolist(), strict=True)
    assert sorted(pairs) == queries


def test_what_a_sampler_draws_splits_into_what_it_promised(labelled):
    images = labelled({str(i): 1 + i for i in range(8)})
    rows = Episodes(n_way=6, k_shot=2, n_query=3).draw(images, Random(0))

    episode = split(torch.from_numpy(images.labels[rows]), 2)

    assert (episode.n_way, len(episode.support), len(episode.queries)) == (6, 12, 18)
    assert sorted(episode.support.tolist()) == [5 * i + j for i in range(6) for j in range(2)]


@pytest.mark.parametrize(
    ("labels", "k_shot", "said"),
    [
        ([4, 4, 4], 1, r"at least 2 classes, the batch holds 1"),
        ([], 1, r"at least 2 classes, the batch holds 0"),
        ([1, 2, 3], 1, r"draw 2 or more of each"),
        ([1, 2, 1, 2], 2, r"draw 3 or more of each"),
        ([1, 2, 1, 2], 0, r"k_shot must be at least 1"),
    ],
)
def test_a_batch_that_makes_no_episode_is_refused(labels, k_shot, said):
    with pytest.raises(ArgumentError, match=said):
        split(torch.tensor(labels, dtype=torch.int64), k_shot)
