"""Classes found by an approximate index of prototypes are those of the gallery as it is now, and scored exactly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer import folder, searched, serving, tuning
from indexer.approximate import Choice, built
from indexer.errors import ArgumentError
from indexer.faiss_index import FaissIndex
from indexer.gallery import Gallery
from indexer.history import Coming
from indexer.nearby import Base, Nearby
from indexer.reader import Stamp
from indexer.trials import Promise

DIM, CLASSES, SHOWN = 16, 1500, 20
TRIED = Promise(0.9, latency_ms=0)


@pytest.fixture(autouse=True)
def shortlisted(eager, monkeypatch):
    """Beside that, an answer has the cosines of 20 prototypes."""
    monkeypatch.setattr(searched, "SHORTLIST", SHOWN)


def unit(vectors):
    return np.ascontiguousarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True), np.float32)


def made(classes, each, seed=1):
    draw = np.random.default_rng(seed)
    return unit(draw.normal(size=(classes, 1, DIM)) + 0.4 * draw.normal(size=(classes, each, DIM)))


def photos(vectors, count, seed=2):
    """New pictures of random classes."""
    draw = np.random.default_rng(seed)
    return unit(vectors[draw.integers(0, len(vectors), count), 0] + 0.2 * draw.normal(size=(count, DIM)))


def name(number):
    return f"class {number:04}"


def fill(gallery, vectors, first=0):
    come = [
        Coming(name(first + number), f"{first + number:032x}{place:032x}", None, f"{first + number} {place}")
        for number in range(len(vectors))
        for place in range(vectors.shape[1])
    ]
    gallery.stage([one.hash for one in come], vectors.reshape(-1, DIM))
    gallery.revise("index", "", leave=[], come=come)


@pytest.fixture(params=[1, 3])
def each(request):
    """References of a class."""
    return request.param


@pytest.fixture
def birds(tmp_path, each):
    """A gallery of 1,500 classes whose prototypes are searched approximately."""
    with Gallery.create(tmp_path / "birds.gallery", dim=DIM, fingerprint="made") as gallery:
        fill(gallery, made(CLASSES, each))
        assert gallery.tune(TRIED, of="prototypes", apply=True).winner is not None
        yield gallery


@pytest.fixture
def asked(monkeypatch):
    """How many queries came to an approximate index, call by call."""
    asked = []
    search = Nearby.search_rows
    monkeypatch.setattr(Nearby, "search_rows", lambda *facts: asked.append(len(facts[1])) or search(*facts))
    return asked


def means(gallery):
    """The prototypes by class, from the catalog's references alone."""
    vectors = {}
    snapshot = gallery._views.ask(lambda snapshot: snapshot)
    for one in gallery.references():
        vectors.setdefault(one.name, []).append(snapshot.references.vectors([one.id])[0].astype(np.float64))
    return {name: unit(np.mean(some, axis=0)) for name, some in vectors.items()}


def recall(gallery, queries, k=5, **how):
    """The share of the true nearest classes that a gallery names; what it names must have its true score."""
    truth, shares = means(gallery), []
    names, vectors = list(truth), np.stack(list(truth.values())).astype(np.float64)
    for query, answer in zip(queries, gallery.search_classes(queries, k=k, shortlist=SHOWN, **how), strict=True):
        scores = vectors @ query.astype(np.float64)
        best = {names[row] for row in np.argsort(-scores)[:k]}
        assert len(answer.hits) == min(k, len(names))
        assert [hit.score for hit in answer.hits] == sorted((hit.score for hit in answer.hits), reverse=True)
        for hit in answer.hits:
            assert hit.score == pytest.approx(float(truth[hit.name].astype(np.float64) @ query), abs=1e-5)
        shares.append(np.mean([hit.name in best for hit in answer.hits]))
    return float(np.mean(shares))


def test_what_was_tuned_serves_queries_and_keeps_its_promise(birds, each, asked):
    assert recall(birds, photos(made(CLASSES, each), 200)) >= 0.9
    assert asked == [200]
    assert birds.serving("prototypes").kind != "Flat"
    assert birds.serving().kind == "Flat"


def test_the_cosines_of_the_shortlist_are_nearly_all_there(birds, each):
    queries = photos(made(CLASSES, each), 50)
    exact = -np.sort(-(queries @ np.stack(list(means(birds).values())).T), axis=1)[:, :SHOWN]

    shown = np.stack([answer.scores for answer in birds.search_classes(queries, k=3, shortlist=SHOWN)])

    assert shown.shape == exact.shape
    assert np.mean(shown >= exact[:, -1:] - 1e-5) >= 0.9
    assert (np.diff(shown, axis=1) <= 0).all()


def test_the_promise_is_about_a_shortlist_at_least(birds):
    assert birds.serving("prototypes").promise == replace(TRIED, k=SHOWN)


def moved(gallery, number=7):
    """Give a class references that draw its prototype far away; return where it is now."""
    there = unit(np.random.default_rng(77).normal(size=DIM))
    gallery.add(name(number), [(f"moved {n}", None, unit(there + 0.01 * n)) for n in range(9)])
    return means(gallery)[name(number)]


def test_a_class_that_has_learnt_is_found_where_its_prototype_is_now(birds, asked):
    before = means(birds)[name(7)]
    birds.search_classes(before, shortlist=SHOWN)

    after = moved(birds)

    assert before @ after < 0.9
    assert birds.search_classes(after, k=1, shortlist=SHOWN)[0].hits[0].name == name(7)
    assert birds.search_classes(before, k=1, shortlist=SHOWN)[0].hits[0].score < 0.99
    assert asked == [1, 1, 1]


def test_another_opening_finds_it_there_as_well_and_a_change_undone_leaves_it_where_it_was(birds, asked):
    before, after = means(birds)[name(7)], moved(birds)
    with Gallery.open(birds.path) as again:
        assert again.search_classes(after, k=1, shortlist=SHOWN)[0].hits[0].name == name(7)
        again.undo()
        assert again.search_classes(before, k=1, shortlist=SHOWN)[0].hits[0].name == name(7)
        assert again.search_classes(before, k=1, shortlist=SHOWN)[0].hits[0].score == pytest.approx(1, abs=1e-6)
    assert asked == [1, 1, 1]


def test_classes_that_come_and_go_are_seen_at_once(birds, each):
    fresh = made(100, each, seed=5)
    fill(birds, fresh, first=5000)
    birds.remove(name(3))
    birds.rename(name(4), "heron")

    answers = birds.search_classes(fresh[:, 0], k=1, shortlist=SHOWN)

    assert np.mean([one.hits[0].name == name(5000 + row) for row, one in enumerate(answers)]) >= 0.98
    assert recall(birds, photos(made(CLASSES, each), 100)) >= 0.9
    assert birds.verify() == []


def test_more_prototypes_than_were_promised_and_those_of_the_past_are_all_found(birds, each, asked):
    queries = photos(made(CLASSES, each), 20)

    assert recall(birds, queries, k=SHOWN + 5) == 1
    assert recall(birds, queries, as_of=birds.revision) == 1
    assert asked == []


def test_conditions_are_answered_exactly(birds, each, asked):
    birds.set_all([(name(number), None, {"number": number}) for number in range(CLASSES)])
    query = photos(made(CLASSES, each), 1)
    truth = means(birds)
    best = max((one for one in truth if int(one[6:]) < 700), key=lambda one: float(truth[one] @ query[0]))

    assert birds.search_classes(query, k=1, where={"number": {"<": 700}})[0].hits[0].name == best
    assert asked == []


def test_a_learned_score_orders_the_shortlist_that_was_found(birds, each, asked):
    queries = photos(made(CLASSES, each), 20)

    answers = birds.search_classes(queries, k=5, shortlist=SHOWN - 1, score=lambda query, some: -(some @ query))

    for answer in answers:
        assert [hit.score for hit in answer.hits] == sorted((hit.score for hit in answer.hits), reverse=True)
        assert len(answer.scores) == SHOWN - 1
    assert asked == [20]


def test_an_index_of_a_revision_that_was_forgotten_is_not_asked_but_built_anew(birds, each, asked):
    before = birds._nearest["prototypes"]._loaded()
    moved(birds)
    birds.compact(keep=1)

    with Gallery.open(birds.path) as again:
        assert recall(again, photos(made(CLASSES, each), 50)) == 1
        assert asked == []
        again._nearest["prototypes"]._builder.join()
        assert recall(again, photos(made(CLASSES, each), 50)) >= 0.9
        assert asked == [50]
        assert again._nearest["prototypes"]._loaded().stamp.revision == again.revision > before.stamp.revision


def test_when_a_tenth_of_the_classes_has_learnt_an_index_of_the_same_kind_is_built_anew(birds):
    before = birds._nearest["prototypes"]._loaded()
    with birds.writing():
        for number in range(160):
            birds.add(name(number), [(f"another {number}", None, made(1, 1, seed=number)[0, 0])])

    birds.search_classes(made(1, 1)[0], shortlist=SHOWN)
    birds._nearest["prototypes"]._builder.join()

    after = birds._nearest["prototypes"]._loaded()
    assert after.stamp.revision == birds.revision > before.stamp.revision
    assert after.choice.factory == before.choice.factory


def test_the_two_indexes_lie_beside_one_another(birds, each):
    alone = (birds.path / folder.NEARBY_PROTOTYPES).read_bytes()

    birds.tune(TRIED, apply=True)
    assert (birds.path / folder.NEARBY_PROTOTYPES).read_bytes() == alone
    birds.tune(Promise(latency_ms=1e9), of="prototypes", apply=True)

    assert not (birds.path / folder.NEARBY_PROTOTYPES).exists()
    assert (birds.path / folder.NEARBY).exists()
    assert recall(birds, photos(made(CLASSES, each), 20)) == 1


def test_what_is_searched_exactly_and_slowly_is_named_until_it_is_tuned(birds, monkeypatch):
    assert birds.slow() == {}  # so little is fast

    monkeypatch.setattr(serving, "SURELY_FAST", 0)
    monkeypatch.setattr(serving, "exact_trial", tuning.exact_trial)  # a second a query
    assert birds.slow() == {"references": 1e6}

    birds.tune(Promise(latency_ms=1e9), of="prototypes", apply=True)
    assert birds.slow() == {"references": 1e6, "prototypes": 1e6}


def test_there_is_no_third_index(birds):
    for ask in (birds.serving, lambda of: birds.tune(of=of)):
        with pytest.raises(ArgumentError, match="choose one of references, prototypes"):
            ask("classes")


def test_where_classes_have_several_references_these_are_queries_too(tmp_path, monkeypatch):
    """They are further from the prototypes than prototypes left out would tell; single ones are prototypes already."""
    taken = []
    monkeypatch.setattr(searched, "tune", lambda *_, photos, **__: taken.append(photos))
    monkeypatch.setattr(searched, "QUERIES", 30)
    with Gallery.create(tmp_path / "birds.gallery", dim=DIM, fingerprint="made") as gallery:
        fill(gallery, made(40, 1))
        gallery.tune(of="prototypes")
        fill(gallery, made(15, 2, seed=3), first=100)
        gallery.tune(of="prototypes")

        several = {one.id for one in gallery.references() if int(one.name[6:]) >= 100}
        known = gallery._views.ask(lambda snapshot: snapshot.references.vectors(sorted(several)))

    single, both = taken
    assert single is None
    assert {row.tobytes() for row in both} == {row.tobytes() for row in known}


@given(
    st.sets(st.integers(0, 299), max_size=299),
    st.sets(st.integers(0, 299), max_size=299),
    st.integers(1, 12),
    st.sampled_from(["HNSW16,SQfp16", "IVF16,SQ8"]),
)
@settings(max_examples=25)
def test_whatever_moved_what_is_found_is_where_it_is_now(gone, elsewhere, k, factory):
    vectors, places = made(300, 1)[:, 0], made(300, 1, seed=9)[:, 0]
    index = built(factory, vectors, np.arange(300))
    base = Base(Choice(factory, 16), index, np.arange(300), Stamp(1, ""), Promise(0.9, 10, 0), floor=-1.0)
    now = vectors.copy()
    now[list(elsewhere)] = places[list(elsewhere)]
    exact = FaissIndex(DIM).adding(range(300), vectors).without(gone | elsewhere)
    again = sorted(elsewhere - gone)
    exact = exact.adding(again, now[again])
    queries = photos(made(300, 1), 5)

    scores, rows = Nearby(base, exact, elsewhere).search_rows(queries, k)

    ids = exact.ids_at(rows)
    assert rows.shape == (5, min(k, 300 - len(gone)))
    assert not set(ids.ravel().tolist()) & gone
    assert all(len(set(one)) == len(one) for one in ids.tolist())
    np.testing.assert_allclose(scores, np.einsum("nkd,nd->nk", now[ids], queries) if ids.size else scores, atol=1e-5)
    if again:
        assert (scores[:, 0] >= (queries @ now[again].T).max(axis=1) - 1e-5).all()
