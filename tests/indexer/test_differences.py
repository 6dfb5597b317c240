"""What differs between two revisions is what differs between all that the gallery says as of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer.differences import ClassDiff
from indexer.errors import RevisionMissing
from indexer.gallery import Gallery
from indexer.history import Coming

POOL = np.random.default_rng(7).normal(size=(12, 16))
NAMES = ["egret", "heron", "stork"]
names, numbers = st.sampled_from(NAMES), st.sets(st.integers(0, 11), min_size=1, max_size=5)
steps = st.one_of(
    st.tuples(st.just("add"), names, numbers),
    st.tuples(st.just("forget"), names, names),
    st.tuples(st.just("rename"), names, names),
    st.tuples(st.just("undo"), names, names),
)


def change(gallery, kind, name, other):
    present = gallery.classes()
    if kind == "add":
        gallery.add(name, [(f"{number}", f"{number}.jpg", POOL[number]) for number in sorted(other)])
    elif kind == "undo" and gallery.revision:
        gallery.undo()
    elif kind == "rename" and name in present and other not in present:
        gallery.rename(name, other)
    elif kind == "forget" and name in present:
        gallery.remove(name, hashes=[one.hash for one in gallery.references() if one.name == name][:2])


def held(gallery, revision):
    found = {}
    for one in gallery.references(as_of=revision):
        found.setdefault(one.name, set()).add(one.path)
    return found


@given(st.lists(steps, min_size=3, max_size=9))
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_difference_turns_one_revision_into_the_other(tmp_path_factory, sequence):
    with Gallery.create(tmp_path_factory.mktemp("made") / "g", dim=16, fingerprint="toy") as gallery:
        for step in sequence:
            change(gallery, *step)
        states = [held(gallery, revision) for revision in range(gallery.revision + 1)]

        for before, old in enumerate(states):
            for after, new in enumerate(states):
                made = {name: set(paths) for name, paths in old.items()}
                found = gallery.diff(before, after).classes
                gone = {one.before: made.pop(one.before) for one in found if one.before is not None}
                for one in found:
                    paths = gone.get(one.before, set())
                    assert paths >= set(one.went)
                    assert not paths & set(one.came)
                    paths = paths - set(one.went) | set(one.came)
                    assert bool(paths) == (one.after is not None)
                    if one.after is not None:
                        made[one.after] = paths
                assert made == new
                if before == after:
                    assert found == []


def test_each_kind_of_difference_is_told(gallery):
    gallery.add("egret", [("0", "0.jpg", POOL[0]), ("1", "1.jpg", POOL[1])])
    gallery.add("heron", [("2", "2.jpg", POOL[2])])
    gallery.rename("egret", "white egret")
    first = gallery.references()[0]
    gallery.revise("index", "elsewhere", leave=[first.id], come=[Coming("white egret", "0", None, "new/0.jpg")])
    gallery.set("heron", {"site": "pond", "seen": True})
    gallery.set("heron", {"seen": 1})
    gallery.set("white egret", {"site": "shore"}, hash="1")
    gallery.remove("heron")
    gallery.add("stork", [("3", None, POOL[3])])

    assert gallery.diff(2).classes == [
        ClassDiff("heron", None, went=["2.jpg"]),
        ClassDiff(None, "stork", came=["sha256:3"]),
        ClassDiff("egret", "white egret", moved=[("0.jpg", "new/0.jpg")], described=["sha256:1"]),
    ]
    assert gallery.diff(5, 6).classes == [ClassDiff("heron", "heron", attributes={"seen": (True, 1)})]
    assert gallery.diff(6, 4).classes == [
        ClassDiff("heron", "heron", attributes={"seen": (1, None), "site": ("pond", None)})
    ]
    assert (gallery.diff(2).before, gallery.diff(2).after) == (2, 9)


def test_revisions_that_are_not_there_have_no_difference(gallery):
    for pair in ((0, 1), (1, 0), (1, None)):
        with pytest.raises(RevisionMissing):
            gallery.diff(*pair)
