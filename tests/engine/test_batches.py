from __future__ import annotations

from collections import Counter
from random import Random

import numpy as np
import pytest
import torch
from PIL import Image

from engine.batches import Balanced, Batch, read_folder
from engine.preprocessing import Preprocessing
from indexer.errors import ArgumentError, SourceError

CPU = torch.device("cpu")


@pytest.mark.parametrize("siblings", [0.0, 1.0])
def test_a_balanced_batch_has_p_classes_of_k_images_and_asks_for_no_pixel(siblings, labelled):
    images = labelled({f"{letter}/{i}": 1 + i for letter in "abc" for i in range(6)})
    sampler = Balanced(n_classes=8, n_images=3, siblings=siblings)

    rows = sampler.draw(images, Random(0))

    counts = Counter(images.labels[rows].tolist())
    assert len(counts) == 8
    assert set(counts.values()) == {3}


def test_images_repeat_only_when_a_class_has_too_few(labelled):
    images = labelled({"many": 5, "few": 2, "one": 1})

    for seed in range(50):
        rows = Balanced(n_classes=3, n_images=4).draw(images, Random(seed))
        distinct = Counter(images.labels[list(set(rows))].tolist())
        assert {images.names[label]: count for label, count in distinct.items()} == {"many": 4, "few": 2, "one": 1}


def test_siblings_come_from_one_folder_as_far_as_it_goes(labelled):
    images = labelled({f"{letter}/{i}": 2 for letter in "abcdef" for i in range(5)}, quarter_turns=True)

    for seed in range(30):
        rows = Balanced(n_classes=7, n_images=2, siblings=1.0).draw(images, Random(seed))
        labels = {int(label) for label in images.labels[rows]}
        assert len([group for group in images.siblings if labels & set(group)]) == 2


def test_the_same_seed_draws_the_same_rows(labelled):
    images = labelled({str(i): 4 for i in range(20)})

    assert Balanced().draw(images, Random(5)) == Balanced().draw(images, Random(5))
    assert Balanced().draw(images, Random(5)) != Balanced().draw(images, Random(6))


def test_too_few_classes_are_refused_with_both_numbers(labelled):
    with pytest.raises(ArgumentError, match=r"asks for 8 classes, the folder holds 3"):
        Balanced().check(labelled({"a": 4, "b": 4, "c": 4}))


@pytest.mark.parametrize("wrong", [{"n_classes": 1}, {"n_images": 1}, {"siblings": 1.5}, {"siblings": -0.1}])
def test_a_senseless_batch_is_refused_when_the_sampler_is_made(wrong):
    with pytest.raises(ArgumentError):
        Balanced(**wrong)


def test_a_folder_gives_each_image_the_label_of_its_class(photos):
    images = read_folder(photos, Preprocessing.whole(32))

    assert images.names == ["blue", "green", "grey", "red"]
    batch = images.batch(range(12), CPU)
    assert batch.images.shape == (12, 3, 32, 32)
    brightest = batch.images[:, :, 12:18, 12:18].mean((2, 3)).argmax(1)
    shown = [images.names[label] for label in batch.labels]
    assert [("red", "green", "blue")[i] for i, name in zip(brightest, shown, strict=True) if name != "grey"] == [
        name for name in shown if name != "grey"
    ]


def test_quarter_turns_are_classes_of_their_own_that_show_the_image_turned(photos):
    plain = read_folder(photos, Preprocessing.whole(32))
    turned = read_folder(photos, Preprocessing.whole(32), quarter_turns=True)

    assert len(turned.rows_of) == 4 * len(plain.rows_of)
    assert len(turned.labels) == 48
    for row in (0, 5, 11):
        first = turned.batch([row], CPU).images[0]
        for turn in (1, 2, 3):
            batch = turned.batch([row + 12 * turn], CPU)
            assert torch.equal(batch.images[0], torch.rot90(first, turn, (1, 2)))
            assert batch.labels[0] == turned.labels[row] + 4 * turn


def test_what_cannot_be_read_is_listed_and_left_out(photos):
    (photos / "red" / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing more")

    images = read_folder(photos, Preprocessing.whole(32))

    assert [failure.path for failure in images.failed] == ["red/broken.jpg"]
    assert len(images.pixels) == 12


def test_one_class_is_not_enough_to_learn_from(tmp_path):
    (tmp_path / "only").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "only" / "a.png")

    with pytest.raises(SourceError, match="at least two classes, found 1"):
        read_folder(tmp_path, Preprocessing.whole(32))


def test_rows_of_lists_every_row_once(labelled):
    images = labelled({"a": 3, "b": 1, "c": 2}, quarter_turns=True)

    rows = np.concatenate(images.rows_of)

    assert sorted(rows.tolist()) == list(range(24))
    assert all(len(set(images.labels[rows])) == 1 for rows in images.rows_of)


def test_two_images_are_alike_by_the_share_that_they_show_of_the_same_class():
    labels, others = torch.tensor([5, 9, 5, 30]), torch.tensor([9, 30, 5, 5])
    share = torch.tensor([0.75, 1.0, 0.4, 0.5])

    likeness = Batch(torch.zeros(4, 3, 2, 2), labels, share, others).likeness()

    shows = [{5: 0.75, 9: 0.25}, {9: 1.0}, {5: 1.0}, {30: 0.5, 5: 0.5}]
    expected = [[sum(one[c] * other.get(c, 0) for c in one) for other in shows] for one in shows]
    torch.testing.assert_close(likeness, torch.tensor(expected))


def test_unmixed_images_are_alike_or_not():
    labels = torch.tensor([5, 9, 5])

    assert Batch(torch.zeros(3, 3, 2, 2), labels).likeness().tolist() == [[1, 0, 1], [0, 1, 0], [1, 0, 1]]


def test_batches_are_joined_with_an_unmixed_one_counting_whole():
    images = torch.rand(2, 3, 2, 2)
    mixed = Batch(images, torch.tensor([0, 1]), torch.tensor([0.5, 0.25]), torch.tensor([1, 0])).moved(10)
    plain = Batch(images, torch.tensor([3, 4]))

    joined = Batch.joined([mixed, plain])

    assert joined.labels.tolist() == [10, 11, 3, 4]
    assert joined.share.tolist() == [0.5, 0.25, 1, 1]
    assert joined.others.tolist() == [11, 10, 3, 4]
    assert Batch.joined([plain, plain]).share is None
