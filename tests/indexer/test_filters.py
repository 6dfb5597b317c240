"""With conditions, a gallery answers as one that holds only what is like that. The oracle is NumPy brute force."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer.conditions import Conditions
from indexer.errors import ArgumentError
from indexer.gallery import Gallery
from indexer.history import Coming

EXACT = 1e-6
values = st.dictionaries(st.sampled_from("ab"), st.sampled_from([1, 2, 3, "x", "y"]), max_size=2)
wheres = st.sampled_from(
    [
        {},
        {"a": 1},
        {"a": [1, "x"]},
        {"a": None},
        {"a": {"!=": 1}},
        {"a": {"<": 3}, "b": {">=": 2}},
        {"a": {"!=": None}, "b": None},
        {"a": {">": "x"}},
        {"a": "nowhere"},
    ]
)


@st.composite
def galleries(draw):
    """Classes of one to four references out of few vectors, and attributes of some of both."""
    pool = np.random.default_rng(draw(st.integers(0, 99))).normal(size=(draw(st.integers(1, 12)), 8))
    references = st.lists(st.integers(0, len(pool) - 1), min_size=1, max_size=4, unique=True)
    sizes = draw(st.lists(references, max_size=10))
    classes = {f"class {number}": rows for number, rows in enumerate(sizes)}
    of_class = {name: draw(st.one_of(st.just({}), values)) for name in classes}
    own = {(name, row): draw(st.one_of(st.just({}), values)) for name, rows in classes.items() for row in rows}
    return pool, classes, of_class, own


def wide(vectors):
    vectors = np.asarray(vectors, np.float64)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def ranked(vectors, query):
    """[(key, cosine)], best first."""
    found = {key: float(wide(vector) @ wide(query)) for key, vector in vectors.items()}
    return sorted(found.items(), key=lambda item: -item[1])


def assert_best(hits, expected, k):
    """The hits, (key, score), are k of the best there are, in their order, as they are."""
    assert [score for _, score in hits] == pytest.approx([score for _, score in expected[:k]], abs=EXACT)
    known = dict(expected)
    assert [known.get(key, 9) for key, _ in hits] == pytest.approx([score for _, score in hits], abs=EXACT)
    assert len({key for key, _ in hits}) == len(hits)


def make(path, pool, classes, of_class, own):
    gallery = Gallery.create(path, dim=8, fingerprint="toy")
    for name, rows in classes.items():
        gallery.add(name, [(str(row), f"{name}/{row}", pool[row]) for row in rows])
    for name, changes in of_class.items():
        gallery.set(name, changes)
    for (name, row), changes in own.items():
        gallery.set(name, changes, hash=str(row))
    return gallery


@given(galleries(), wheres, st.integers(1, 12), st.booleans())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_neighbours_under_conditions_are_those_of_brute_force(tmp_path_factory, made, where, k, reopened):
    pool, classes, of_class, own = made
    queries = np.concatenate([pool, np.random.default_rng(5).normal(size=(9, 8))])
    path = tmp_path_factory.mktemp("made") / "gallery"
    gallery = make(path, *made)
    if reopened:  # attributes as they are loaded, beside attributes as they are caught up
        gallery.close()
        gallery = Gallery.open(path)
    with gallery:
        found = gallery.search_classes(queries, k=k, where=where)
        near = gallery.search_references(queries, k=k, where=where)
        alone = [gallery.search_classes(query, k=k, where=where)[0].hits for query in queries]
        assert [answer.hits for answer in found] == alone

    holds = Conditions(where)
    merged = {(name, row): {**of_class[name], **own[name, row]} for name, rows in classes.items() for row in rows}
    left = {place: pool[place[1]] for place, known in merged.items() if holds(known)}
    middles = {name: wide([pool[row] for row in classes[name]]).sum(axis=0) for name, _ in left}
    middles = {
        name: total if np.linalg.norm(total) > 1e-3 else pool[classes[name][0]] for name, total in middles.items()
    }
    for query, answer, hits in zip(queries, found, near, strict=True):
        assert_best([(hit.name, hit.score) for hit in answer.hits], ranked(middles, query), k)
        assert_best(
            [(hit.reference, hit.score) for hit in hits],
            ranked({f"{n}/{r}": v for (n, r), v in left.items()}, query),
            k,
        )
        assert answer.scores.tolist() == pytest.approx([s for _, s in ranked(middles, query)][: max(k, 100)], abs=EXACT)
        for hit in answer.hits:
            assert hit.attributes == of_class[hit.name]
            mine = {f"{name}/{row}": vector for (name, row), vector in left.items() if name == hit.name}
            best = ranked(mine, query)[0][1]
            assert ranked({0: mine[hit.reference]}, query)[0][1] == pytest.approx(best, abs=EXACT)
        for hit in hits:
            name, row = hit.reference.split("/")
            assert hit.attributes == merged[name, int(row)]


@pytest.fixture
def birds(gallery, random_units):
    vectors = random_units(6)
    for name, rows in {"egret": (0, 1), "heron": (2, 3), "stork": (4, 5)}.items():
        gallery.add(name, [(f"h{row}", f"{row}.jpg", vectors[row]) for row in rows])
    gallery.set("egret", {"site": "paris"})
    gallery.set("heron", {"site": "rome", "price": 3})
    return gallery


def names(gallery, where):
    return sorted(hit.name for hit in gallery.search_classes(np.ones(16), k=9, where=where)[0].hits)


def shown(gallery, where):
    return sorted(hit.reference for hit in gallery.search_references(np.ones(16), k=9, where=where)[0])


def test_a_class_is_found_by_any_reference_that_is_like_that_and_only_such_a_one_decides(birds, random_units):
    birds.set("heron", {"site": "paris"}, hash="h3")

    assert names(birds, {"site": "paris"}) == ["egret", "heron"]
    assert shown(birds, {"site": "paris"}) == ["0.jpg", "1.jpg", "3.jpg"]
    (answer,) = birds.search_classes(random_units(6)[2], k=1, where={"site": "paris"})
    assert (answer.hits[0].name, answer.hits[0].reference) == ("heron", "3.jpg")


def test_a_class_all_of_whose_references_say_otherwise_is_not_found(birds):
    birds.set("egret", {"site": "oslo"}, hash="h0")
    birds.set("egret", {"site": "oslo"}, hash="h1")

    assert names(birds, {"site": "paris"}) == []
    assert names(birds, {"site": "oslo"}) == ["egret"]


def test_the_score_of_a_class_is_the_same_with_conditions_as_without(birds):
    birds.set("heron", {"site": "paris"}, hash="h3")
    query = np.arange(16.0)

    every = {hit.name: hit.score for hit in birds.search_classes(query, k=9)[0].hits}
    for hit in birds.search_classes(query, k=9, where={"site": "paris"})[0].hits:
        assert hit.score == every[hit.name]


def test_a_condition_follows_every_change(birds):
    before = names(birds, {"site": "paris"}), shown(birds, {"site": "paris"})
    assert before == (["egret"], ["0.jpg", "1.jpg"])

    birds.set("stork", {"site": "paris"})
    assert names(birds, {"site": "paris"}) == ["egret", "stork"]
    birds.undo()
    assert (names(birds, {"site": "paris"}), shown(birds, {"site": "paris"})) == before
    birds.rename("egret", "great egret")
    assert names(birds, {"site": "paris"}) == ["great egret"]
    birds.add("great egret", [("new", "new.jpg", np.eye(16)[0])])
    assert shown(birds, {"site": "paris"}) == ["0.jpg", "1.jpg", "new.jpg"]
    birds.remove("great egret", hashes=["h0"])
    assert shown(birds, {"site": "paris"}) == ["1.jpg", "new.jpg"]
    birds.set("great egret", {"site": None})
    assert names(birds, {"site": "paris"}) == []
    assert names(birds, {"site": None}) == ["great egret", "stork"]
    birds.remove("great egret")
    birds.add("great egret", [("fresh", "0.jpg", np.eye(16)[0])])
    assert birds.search_references(np.eye(16)[0])[0][0].attributes == {}


def test_another_process_that_sets_an_attribute_is_noticed(birds):
    assert names(birds, {"site": "oslo"}) == []
    with Gallery.open(birds.path) as other:
        other.set("stork", {"site": "oslo"})
        other.set("egret", {"site": "oslo"}, hash="h1")

    assert names(birds, {"site": "oslo"}) == ["egret", "stork"]
    assert shown(birds, {"site": "oslo"}) == ["1.jpg", "4.jpg", "5.jpg"]


def test_a_reference_that_came_from_another_file_keeps_its_attributes_in_memory(birds):
    birds.set("egret", {"site": "oslo"}, hash="h1")
    assert shown(birds, {"site": "oslo"}) == ["1.jpg"]
    id = next(one.id for one in birds.references() if one.hash == "h1")

    birds.revise("index", "", leave=[id], come=[Coming("egret", "h1", "/photos", "moved.jpg")])

    assert shown(birds, {"site": "oslo"}) == ["/photos/moved.jpg"]


def test_conditions_are_asked_once_while_nothing_changes(birds, monkeypatch):
    assert names(birds, {"site": "paris"}) == ["egret"]
    monkeypatch.setattr(Conditions, "__call__", lambda *_: pytest.fail("asked again"))

    assert names(birds, {"site": {"==": ["paris"]}}) == ["egret"]
    assert shown(birds, {"site": "paris"}) == ["0.jpg", "1.jpg"]


def test_what_a_hit_says_may_be_changed_without_harm(birds):
    birds.set("egret", {"tags": ["a"]})
    for search in (birds.search_classes, birds.search_references):
        found = search(np.ones(16), where={"tags": "a"})[0]
        hit = found.hits[0] if hasattr(found, "hits") else found[0]
        hit.attributes["tags"].append("b")
        hit.attributes["site"] = "nowhere"

    assert names(birds, {"tags": "b"}) == names(birds, {"site": "nowhere"}) == []
    assert birds.search_classes(np.ones(16), where={"tags": "a"})[0].hits[0].attributes == birds.attributes("egret")


def test_a_learned_score_orders_only_the_classes_that_are_like_that(birds):
    asked = []

    def backwards(query, prototypes):
        asked.append(len(prototypes))
        return -prototypes @ query

    (answer,) = birds.search_classes(np.ones(16), where={"site": ["paris", "rome"]}, score=backwards)

    assert asked == [2]
    plain = birds.search_classes(np.ones(16), where={"site": ["paris", "rome"]})[0]
    assert [hit.name for hit in answer.hits] == [hit.name for hit in plain.hits][::-1]


def test_the_first_of_equals_comes_first_under_conditions_too(gallery, random_units):
    (vector,) = random_units(1)
    gallery.stage(["same"], [vector])
    gallery.revise("index", "", leave=(), come=[Coming(f"class {row}", "same", None, str(row)) for row in range(300)])
    for row in range(100, 300):
        gallery.set(f"class {row}", {"late": True})

    for queries in (vector, np.stack([vector] * 30)):
        for answer in gallery.search_classes(queries, k=7, where={"late": True}):
            assert [hit.name for hit in answer.hits] == [f"class {row}" for row in range(100, 107)]


def test_what_cannot_be_asked_is_refused_before_anything_is_searched(birds):
    for search in (birds.search_classes, birds.search_references):
        with pytest.raises(ArgumentError, match="compares nothing"):
            search(np.ones(16), where={"price": {"~": 3}})


def test_conditions_are_asked_of_the_attributes_as_they_were(birds):
    then = birds.revision
    birds.set("egret", {"site": "oslo"})
    birds.set("stork", {"site": "paris"}, hash="h4")

    (answer,) = birds.search_classes(np.ones(16), where={"site": "paris"}, as_of=then)
    assert [(hit.name, hit.attributes) for hit in answer.hits] == [("egret", {"site": "paris"})]
    found = birds.search_references(np.ones(16), where={"site": "paris"}, as_of=then)[0]
    assert sorted(hit.reference for hit in found) == ["0.jpg", "1.jpg"]
    assert shown(birds, {"site": "paris"}) == ["4.jpg"]


def test_what_a_reference_does_not_say_itself_its_class_says(birds):
    birds.set("egret", {"price": 5}, hash="h1")

    assert shown(birds, {"site": "paris"}) == ["0.jpg", "1.jpg"]
    assert shown(birds, {"site": "paris", "price": 5}) == ["1.jpg"]
    assert shown(birds, {"site": "paris", "price": None}) == ["0.jpg"]
