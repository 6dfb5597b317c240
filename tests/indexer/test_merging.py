from __future__ import annotations

import numpy as np
import pytest

from indexer.errors import ClassExists, EmbedderMismatch, GalleryBusy
from indexer.gallery import Gallery
from indexer.lock import WriterLock
from indexer.merging import merge


@pytest.fixture
def made(tmp_path):
    """Make galleries of {class: {content: vector}}."""

    def make(name, classes, *, fingerprint="toy"):
        with Gallery.create(tmp_path / name, dim=16, fingerprint=fingerprint) as gallery:
            for label, contents in classes.items():
                gallery.add(label, [(hash, f"{name}/{hash}.png", vector) for hash, vector in contents.items()])
        return tmp_path / name

    return make


@pytest.fixture
def both(made, random_units):
    """Two galleries: a class of each alone, one of both, and a content that two classes have."""
    v = random_units(8)
    ours = made("ours", {"egret": {"0": v[0], "1": v[1]}, "heron": {"2": v[2]}})
    theirs = made("theirs", {"heron": {"3": v[3], "2": v[4], "0": v[5]}, "ibis": {"6": v[6]}})
    return ours, theirs, v


def test_classes_come_join_and_are_one_revision(both, catalog_of):
    ours, theirs, v = both
    before = catalog_of(theirs)

    change = merge(ours, theirs)

    assert (change.action, change.revision, change.added, change.removed) == ("merge", 3, 3, 0)
    assert change.summary == f"merge {theirs}: 3 references"
    # Known content keeps its vector: "2" in its own class, "0" also in another one.
    expected = {
        ("egret", "0", None, "ours/0.png"): v[0],
        ("egret", "1", None, "ours/1.png"): v[1],
        ("heron", "2", None, "ours/2.png"): v[2],
        ("heron", "3", None, "theirs/3.png"): v[3],
        ("heron", "0", None, "theirs/0.png"): v[0],
        ("ibis", "6", None, "theirs/6.png"): v[6],
    }
    assert catalog_of(ours) == {key: np.asarray(vector, "<f4").tobytes() for key, vector in expected.items()}
    assert catalog_of(theirs) == before
    with Gallery.open(ours) as gallery:
        assert gallery.verify() == []


def test_merging_again_or_with_itself_makes_no_revision(both):
    ours, theirs, _ = both
    merge(ours, theirs)

    for other in (theirs, ours):
        change = merge(ours, other)
        assert (change.added, change.revision) == (0, 3)


def test_a_merge_can_be_undone(both, catalog_of):
    ours, theirs, _ = both
    before = catalog_of(ours)
    merge(ours, theirs)

    with Gallery.open(ours) as gallery:
        gallery.undo()

    assert catalog_of(ours) == before


def test_answers_are_those_of_a_gallery_that_learnt_it_all(both, made, random_units):
    ours, theirs, v = both
    merge(ours, theirs)
    # Learnt in the same order, so that equal things stand in the same order too.
    whole = made(
        "whole", {"egret": {"0": v[0], "1": v[1]}, "heron": {"2": v[2], "3": v[3], "0": v[0]}, "ibis": {"6": v[6]}}
    )

    with Gallery.open(ours) as one, Gallery.open(whole) as other:
        for mine, learnt in zip(
            one.search_classes(random_units(9)), other.search_classes(random_units(9)), strict=True
        ):
            assert [(hit.name, hit.score) for hit in mine.hits] == [(hit.name, hit.score) for hit in learnt.hits]


def test_attributes_come_along_and_give_way_to_known_ones(both):
    ours, theirs, _ = both
    with Gallery.open(ours) as gallery:
        gallery.set("heron", {"site": "paris"})
        gallery.set("heron", {"sex": "male"}, hash="2")
    with Gallery.open(theirs) as gallery:
        gallery.set("heron", {"site": "rome", "price": 3})
        gallery.set("heron", {"sex": "female", "age": 2}, hash="2")
        gallery.set("heron", {"age": 1}, hash="3")
        gallery.set("ibis", {"tags": ["a", "b"]})

    merge(ours, theirs)

    with Gallery.open(ours) as gallery:
        assert gallery.attributes("heron") == {"site": "paris", "price": 3}
        assert gallery.attributes("ibis") == {"tags": ["a", "b"]}
        own = {one.hash: one.attributes for one in gallery.describe("heron").references}
        assert own == {"2": {"sex": "male", "age": 2}, "3": {"age": 1}, "0": {}}
        assert gallery.revision == 5


def test_attributes_alone_are_a_change_too(both):
    ours, theirs, _ = both
    merge(ours, theirs)
    with Gallery.open(theirs) as gallery:
        gallery.set("ibis", {"price": 3})

    assert merge(ours, theirs).revision == 4
    assert merge(ours, theirs).revision == 4


def test_names_that_differ_only_by_case_are_refused_and_nothing_is_changed(made, random_units, catalog_of):
    v = random_units(2)
    ours, theirs = made("ours", {"heron": {"0": v[0]}}), made("theirs", {"Heron": {"1": v[1]}})

    with pytest.raises(ClassExists, match="'Heron' and 'heron' differ only by case"):
        merge(ours, theirs)
    with Gallery.open(ours) as gallery:
        assert (gallery.revision, gallery.staged_or_known(["1"])) == (1, set())


def test_a_gallery_of_another_embedder_is_refused(made, random_units):
    v = random_units(2)
    ours, theirs = made("ours", {"a": {"0": v[0]}}), made("theirs", {"b": {"1": v[1]}}, fingerprint="other")

    with pytest.raises(EmbedderMismatch, match="upgrade"):
        merge(ours, theirs)


def test_a_writer_elsewhere_keeps_the_merge_out(both, monkeypatch):
    ours, theirs, _ = both
    monkeypatch.setattr("indexer.lock.LOCK_SECONDS", 0.05)

    with WriterLock(ours / "writer.lock").held(), pytest.raises(GalleryBusy):
        merge(ours, theirs)
