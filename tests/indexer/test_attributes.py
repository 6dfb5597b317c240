"""Attributes have a history like all else. The oracle is a dictionary by class and content."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer import build
from indexer.errors import ArgumentError, ClassMissing
from indexer.gallery import Gallery
from indexer.history import Coming

POOL = np.random.default_rng(7).normal(size=(6, 16))


def known(gallery):
    """{name: attributes} and {(name, hash): own attributes} of those that have some, as `describe` tells them."""
    described = [gallery.describe(name) for name in gallery.classes()]
    return (
        {one.name: one.attributes for one in described if one.attributes},
        {(one.name, ref.hash): ref.attributes for one in described for ref in one.references if ref.attributes},
    )


@pytest.fixture
def birds(gallery):
    gallery.add("heron", [("h0", "h0.jpg", POOL[0]), ("h1", "h1.jpg", POOL[1])])
    gallery.add("egret", [("e0", "e0.jpg", POOL[2])])
    return gallery


def test_attributes_are_kept_as_they_were_given(birds):
    values = {
        "text": "Orléans, \u2603",
        "whole": 3,
        "broken": 0.1,
        "yes": True,
        "large": 2**60,
        "list": ["a", 1, False],
    }

    change = birds.set("heron", values)
    birds.set("heron", {"site": "pond"}, hash="h1")

    assert (change.action, change.revision, change.added, change.removed) == ("set", 3, 0, 0)
    assert birds.attributes("heron") == values
    assert repr(birds.attributes("heron")) == repr(values)
    with Gallery.open(birds.path) as again:
        assert known(again) == ({"heron": values}, {("heron", "h1"): {"site": "pond"}})
        assert again.verify() == []


def test_one_key_is_changed_and_none_removes_it(birds):
    birds.set("heron", {"price": 3, "site": "paris"})
    birds.set("heron", {"price": 4})
    birds.set("heron", {"site": None, "missing": None})

    assert birds.attributes("heron") == {"price": 4}
    birds.set("heron", {"price": None})
    assert known(birds) == ({}, {})


def test_what_changes_nothing_makes_no_revision(birds):
    birds.set("heron", {"price": 1})
    before = birds.revision

    for changes in ({}, {"price": 1}, {"missing": None}):
        assert birds.set("heron", changes).revision == before
    assert birds.revision == before
    assert birds.set("heron", {"price": True}).revision == before + 1  # true is not 1


@pytest.mark.parametrize(
    "wrong",
    [
        *({"price": value} for value in (float("nan"), float("inf"), 2**63, {"a": 1}, [[1]], [None], b"x", "\ud800")),
        *({key: 1} for key in ("", " a", "a<b", "a=b", "a!", "a\nb", "\ud800", 3)),
        ["price"],
        "price",
    ],
)
def test_what_cannot_be_an_attribute_is_refused_in_one_line_and_changes_nothing(birds, wrong):
    before = birds.revision

    with pytest.raises(ArgumentError) as refused:
        birds.set("heron", wrong)

    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 200
    str(refused.value).encode()
    assert birds.revision == before


def test_numbers_of_numpy_become_numbers_and_text_is_composed(birds):
    birds.set("heron", {"price": np.float32(0.5), "count": np.int64(3), "cafe\u0301": "Orle\u0301ans"})

    assert repr(birds.attributes("heron")) == "{'price': 0.5, 'count': 3, 'café': 'Orléans'}"


def test_an_unknown_class_or_content_has_no_attributes_to_set(birds):
    for ask in (lambda: birds.set("stork", {"a": 1}), lambda: birds.attributes("stork"), lambda: birds.describe("x")):
        with pytest.raises(ClassMissing):
            ask()
    with pytest.raises(ArgumentError, match="no reference sha256:e0"):
        birds.set("heron", {"a": 1}, hash="e0")


def test_a_reference_is_found_by_its_path_its_hash_or_the_beginning_of_it(gallery, tmp_path, monkeypatch):
    hashes = ["abcdef00" + "0" * 56, "abcdef01" + "0" * 56]
    shown = [str(tmp_path / "a.jpg"), str(tmp_path / "b.jpg")]
    gallery.add("heron", [(hash, path, POOL[row]) for row, (hash, path) in enumerate(zip(hashes, shown, strict=True))])
    found = gallery.describe("heron")
    monkeypatch.chdir(tmp_path)

    for text in ("b.jpg", "./b.jpg", shown[1], hashes[1], "abcdef01", "SHA256:abcdef01".lower(), "ABCDEF01"):
        assert found.find(text) == hashes[1]
    for text in ("c.jpg", "abcdef", "abcde", "", "0" * 64):
        with pytest.raises(ArgumentError, match="firstsight show"):
            found.find(text)


def test_a_class_that_is_renamed_keeps_its_attributes_and_one_that_is_forgotten_does_not(birds):
    birds.set("heron", {"price": 3})
    birds.set("heron", {"site": "pond"}, hash="h1")
    birds.rename("heron", "grey heron")
    assert known(birds) == ({"grey heron": {"price": 3}}, {("grey heron", "h1"): {"site": "pond"}})

    birds.remove("grey heron")
    with closing(sqlite3.connect(birds.path / "catalog.sqlite")) as catalog:
        assert catalog.execute("SELECT count(*) FROM attributes WHERE went IS NULL").fetchone() == (0,)
    birds.add("grey heron", [("h1", None, POOL[1])])

    assert known(birds) == ({}, {})
    assert birds.verify() == []


def test_a_reference_that_is_forgotten_and_learnt_again_begins_anew(birds):
    birds.set("heron", {"price": 3})
    birds.set("heron", {"site": "pond"}, hash="h1")

    birds.remove("heron", hashes=["h1"])
    birds.add("heron", [("h1", None, POOL[1])])

    assert known(birds) == ({"heron": {"price": 3}}, {})


def test_a_file_that_moves_takes_the_attributes_of_its_content_along(gallery, model, photo, tmp_path):
    root = tmp_path / "photos"
    for row, place in enumerate(("heron/0.png", "heron/1.png", "egret/2.png")):
        photo(root / place, row)
    build.index(gallery, root, model)
    by_path = {Path(one.reference).name: one.hash for one in gallery.describe("heron").references}
    gallery.set("heron", {"price": 3})
    gallery.set("heron", {"site": "pond"}, hash=by_path["0.png"])

    (root / "heron/0.png").rename(root / "heron/other.png")  # within its class
    build.index(gallery, root, model)
    assert known(gallery) == ({"heron": {"price": 3}}, {("heron", by_path["0.png"]): {"site": "pond"}})

    (root / "heron/other.png").rename(root / "egret/other.png")  # to another class
    build.index(gallery, root, model)
    assert known(gallery) == ({"heron": {"price": 3}}, {("egret", by_path["0.png"]): {"site": "pond"}})

    gallery.undo()
    assert known(gallery) == ({"heron": {"price": 3}}, {("heron", by_path["0.png"]): {"site": "pond"}})
    assert gallery.verify() == []


def test_what_moves_to_a_class_that_had_the_content_already_changes_nothing_there(birds):
    birds.add("egret", [("h1", "egret.jpg", POOL[1])])
    birds.set("heron", {"site": "pond"}, hash="h1")
    birds.set("egret", {"site": "lake"}, hash="h1")
    ids = {(one.name, one.hash): one.id for one in birds.references()}

    birds.revise(
        "index", "", leave=[ids["heron", "h1"], ids["egret", "h1"]], come=[Coming("egret", "h1", None, "other.jpg")]
    )

    assert known(birds) == ({}, {("egret", "h1"): {"site": "lake"}})
    birds.undo()
    assert known(birds)[1] == {("heron", "h1"): {"site": "pond"}, ("egret", "h1"): {"site": "lake"}}


names = st.sampled_from(["heron", "egret", "stork"])
numbers = st.integers(0, 3)
values = st.dictionaries(st.sampled_from("ab"), st.sampled_from([None, 1, 2, "x"]), max_size=2)
steps = st.one_of(
    st.tuples(st.just("add"), names, numbers),
    st.tuples(st.just("set"), names, values),
    st.tuples(st.just("set"), names, values),
    st.tuples(st.just("set own"), names, numbers, values),
    st.tuples(st.just("forget"), names, numbers),
    st.tuples(st.just("remove"), names),
    st.tuples(st.just("move"), names, numbers, names),
    st.tuples(st.just("undo")),
)


class Dictionary:
    """What a gallery should be: {name: (attributes, {number: own})}, and how it was before."""

    def __init__(self):
        self.states = [{}]

    def apply(self, gallery, kind, name="", *rest):
        now = {key: (of_class, dict(own)) for key, (of_class, own) in self.states[-1].items()}
        if kind == "undo":
            if len(self.states) > 1:
                gallery.undo()
                self.states.append(self.states[-2])
            return
        if kind == "add":
            now.setdefault(name, ({}, {}))[1].setdefault(rest[0], {})
            gallery.add(name, [(str(rest[0]), None, POOL[rest[0]])])
        elif name not in now:
            return
        elif kind == "set":
            now[name] = changed(now[name][0], rest[0]), now[name][1]
            gallery.set(name, rest[0])
        elif kind == "remove":
            del now[name]
            gallery.remove(name)
        elif rest[0] in now[name][1]:
            self._of_reference(gallery, now, kind, name, *rest)
        now = {key: value for key, value in now.items() if value[1]}
        if now != self.states[-1]:
            self.states.append(now)

    def _of_reference(self, gallery, now, kind, name, number, *rest):
        own = now[name][1]
        if kind == "set own":
            own[number] = changed(own[number], rest[0])
            gallery.set(name, rest[0], hash=str(number))
        elif kind == "forget":
            del own[number]
            gallery.remove(name, hashes=[str(number)])
        elif name != rest[0]:
            moved = own.pop(number)
            ids = {(one.name, one.hash): one.id for one in gallery.references()}
            there = now.setdefault(rest[0], ({}, {}))[1]
            come = [] if number in there else [Coming(rest[0], str(number), None, None)]
            there.setdefault(number, moved)
            gallery.revise("index", "", leave=[ids[name, str(number)]], come=come)


def changed(old, changes):
    return {key: value for key, value in (old | changes).items() if value is not None}


@given(st.lists(steps, max_size=16))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_after_any_changes_the_attributes_are_what_a_dictionary_would_hold(tmp_path_factory, sequence):
    model = Dictionary()
    with Gallery.create(tmp_path_factory.mktemp("made") / "gallery", dim=16, fingerprint="toy") as gallery:
        for step in sequence:
            model.apply(gallery, *step)

        expected = model.states[-1]
        assert known(gallery) == (
            {name: of_class for name, (of_class, _) in expected.items() if of_class},
            {(name, str(n)): value for name, (_, own) in expected.items() for n, value in own.items() if value},
        )
        assert gallery.classes() == {name: len(own) for name, (_, own) in sorted(expected.items())}
        assert gallery.verify() == []


def test_a_description_can_be_written_as_json(birds):
    birds.set("heron", {"list": ["a", 1]})

    found = birds.describe("heron")

    assert [one.reference for one in found.references] == ["h0.jpg", "h1.jpg"]
    assert json.loads(json.dumps(found.attributes)) == {"list": ["a", 1]}


def test_many_are_set_in_one_revision_and_a_wrong_one_among_them_changes_nothing(birds):
    before = birds.revision

    wrong = [("heron", None, {"a": 1}), ("egret", "h0", {"a": 1})]
    with pytest.raises(ArgumentError, match="no reference sha256:h0"):
        birds.set_all(wrong)
    with pytest.raises(ClassMissing):
        birds.set_all([("heron", None, {"a": 1}), ("stork", None, {"a": 1})])
    assert (birds.revision, known(birds)) == (before, ({}, {}))

    birds.set_all(
        [("heron", None, {"a": 1}), ("heron", "h0", {"b": 2}), ("egret", None, {}), ("heron", None, {"c": 3})]
    )

    assert birds.revision == before + 1
    assert known(birds) == ({"heron": {"a": 1, "c": 3}}, {("heron", "h0"): {"b": 2}})
    assert birds.set_all([]).revision == before + 1
