"""The oracle is NumPy brute force in float64; among equals any order will do, unless the test says otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer.errors import ArgumentError
from indexer.gallery import Gallery
from indexer.history import Coming

EXACT = 1e-6


def wide(vectors):
    vectors = np.asarray(vectors, np.float64)
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def brute_force(vectors, query, metric):
    """{key: (score, distance)} of every vector."""
    points = wide(list(vectors.values())) if vectors else np.empty((0, len(query)))
    if metric == "cosine":
        scores = points @ wide(query)
        distances = 1 - scores
    else:
        distances = np.linalg.norm(points - wide(query), axis=1)
        scores = -distances
    return dict(zip(vectors, zip(scores.tolist(), distances.tolist(), strict=True), strict=True))


def means(classes):
    found = {}
    for name, vectors in classes.items():
        total = wide(vectors).sum(axis=0)
        found[name] = total if np.linalg.norm(total) > 1e-3 else vectors[0]
    return found


def assert_best(hits, expected, k):
    """The hits, (key, score, distance), are k of the best there are, in their order, as they are."""
    assert len({key for key, _, _ in hits}) == len(hits) == min(k, len(expected))
    for key, score, distance in hits:
        assert (score, distance) == pytest.approx(expected[key], abs=3e-4 if score < 0 else EXACT)
        assert distance >= 0
    scores = [score for _, score, _ in hits]
    assert scores == sorted(scores, reverse=True)
    left_out = [score for key, (score, _) in expected.items() if key not in {hit[0] for hit in hits}]
    assert max(left_out, default=-9) <= min(scores, default=9) + EXACT


@st.composite
def galleries(draw):
    """Classes of one to four references out of few vectors, so that many are the same."""
    pool = np.random.default_rng(draw(st.integers(0, 99))).normal(size=(draw(st.integers(1, 12)), 8))
    references = st.lists(st.integers(0, len(pool) - 1), min_size=1, max_size=4, unique=True)
    sizes = draw(st.lists(references, max_size=15))
    return {f"class {number}": [pool[row] for row in rows] for number, rows in enumerate(sizes)}, pool


@given(galleries(), st.sampled_from(["cosine", "euclidean"]), st.integers(1, 20), st.integers(0, 20))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_neighbours_are_those_of_brute_force(tmp_path_factory, made, metric, k, shortlist):
    classes, pool = made
    queries = np.concatenate([pool, np.random.default_rng(5).normal(size=(25, 8))])  # enough for FAISS to use BLAS
    with Gallery.create(tmp_path_factory.mktemp("made") / "gallery", dim=8, fingerprint="toy") as gallery:
        for name, vectors in classes.items():
            gallery.add(name, [(f"{name} {row}", f"{name}/{row}", vector) for row, vector in enumerate(vectors)])
        found = gallery.search_classes(queries, k=k, metric=metric, shortlist=shortlist)
        near = gallery.search_references(queries, k=k, metric=metric)

    every = {f"{name}/{row}": vector for name, vectors in classes.items() for row, vector in enumerate(vectors)}
    middles = means(classes)
    for query, answer, hits in zip(queries, found, near, strict=True):
        assert_best(
            [(hit.name, hit.score, hit.distance) for hit in answer.hits], brute_force(middles, query, metric), k
        )
        assert_best([(hit.reference, hit.score, hit.distance) for hit in hits], brute_force(every, query, metric), k)
        assert all(hit.name == hit.reference.split("/")[0] for hit in hits)
        cosines = sorted((cosine for cosine, _ in brute_force(middles, query, "cosine").values()), reverse=True)
        assert answer.scores.dtype == np.float32
        assert answer.scores.tolist() == pytest.approx(cosines[: max(k, shortlist)], abs=EXACT)
        if metric == "cosine":
            assert answer.scores[: len(answer.hits)].tolist() == [np.float32(hit.score) for hit in answer.hits]
        alike = brute_force(every, query, "cosine")
        for hit in answer.hits:
            shown = [alike[f"{hit.name}/{row}"][0] for row in range(len(classes[hit.name]))]
            assert alike[hit.reference][0] == pytest.approx(max(shown), abs=EXACT)


@pytest.fixture
def three(gallery, random_units):
    for name, vectors in zip(("egret", "heron", "stork"), np.split(random_units(6), 3), strict=True):
        gallery.add(name, [(f"{name}{row}", None, vector) for row, vector in enumerate(vectors)])
    return gallery


def test_scaling_a_query_changes_nothing(three, random_units):
    (query,) = random_units(1, seed=9)
    expected = three.search_classes(query, k=3)[0].hits, three.search_references(query, k=6)[0]

    for scale in (2.0, 1e-20, 1e20, 0.3):
        scaled = query * np.float64(scale)
        assert three.search_classes(scaled, k=3)[0].hits == expected[0]
        assert three.search_references(scaled, k=6)[0] == expected[1]


def test_a_query_stays_as_it_is(three):
    query = np.full(16, 3.0, np.float32)

    three.search_classes(query)
    three.search_references(query)

    assert query.tolist() == [3.0] * 16


def test_a_reference_finds_itself_with_score_one_and_distance_nought(three, random_units):
    for vector, name in zip(random_units(6), ["egret", "egret", "heron", "heron", "stork", "stork"], strict=True):
        for metric, score in (("cosine", 1.0), ("euclidean", 0.0)):
            (hit,) = three.search_references(vector, k=1, metric=metric)[0]
            assert hit.name == name
            assert (hit.score, hit.distance) == pytest.approx((score, 0.0), abs=1e-6)


def test_an_answer_does_not_depend_on_the_company_of_its_query(three, random_units):
    queries = random_units(60, seed=3)

    together = three.search_classes(queries, k=2), three.search_references(queries, k=4)

    assert [answer.hits for answer in together[0]] == [three.search_classes(one, k=2)[0].hits for one in queries]
    assert together[1] == [three.search_references(one, k=4)[0] for one in queries]
    for answer in together[0]:
        assert answer.scores[:2].tolist() == [np.float32(hit.score) for hit in answer.hits]


def test_among_equals_the_first_comes_first(gallery, random_units):
    (vector,) = random_units(1)
    gallery.stage(["same"], [vector])
    gallery.revise("index", "", leave=(), come=[Coming(f"class {row}", "same", None, str(row)) for row in range(300)])

    for queries in (vector, np.stack([vector] * 30)):  # FAISS goes another way for many queries
        for k in (1, 7, 150):
            names = [f"class {number}" for number in range(k)]
            for answer in gallery.search_classes(queries, k=k):
                assert [hit.name for hit in answer.hits] == names
            for hits in gallery.search_references(queries, k=k):
                assert [hit.name for hit in hits] == names


def test_the_first_of_equals_may_stand_last_in_the_index(gallery, random_units):
    (vector,) = random_units(1)
    gallery.stage(["same"], [vector])
    gallery.revise("index", "", leave=(), come=[Coming(f"class {row}", "same", None, str(row)) for row in range(300)])
    gallery.search_classes(vector)
    gallery.revise("index", "", leave=[1], come=[Coming("class 0", "same", None, "elsewhere")])

    (answer,) = gallery.search_classes(vector, k=2, shortlist=0)

    assert [(hit.name, hit.reference) for hit in answer.hits] == [("class 0", "elsewhere"), ("class 1", "1")]


def test_an_empty_gallery_knows_nothing(gallery):
    (answer,) = gallery.search_classes(np.ones(16))

    assert (answer.hits, answer.scores.tolist()) == ([], [])
    assert gallery.search_references(np.ones((2, 16))) == [[], []]


def test_no_queries_get_no_answers(three):
    assert three.search_classes(np.empty((0, 16))) == []
    assert three.search_references(np.empty((0, 16))) == []


def bent(query, prototypes):
    """A score that orders otherwise than the cosine does, and knows only a few values."""
    return np.round(3 * np.abs(prototypes.astype(np.float64)[:, 0] - query[0]))


@given(galleries(), st.sampled_from(["cosine", "euclidean"]), st.integers(1, 20))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_learned_score_orders_the_classes_as_it_does_over_all_prototypes(tmp_path_factory, made, metric, k):
    classes, pool = made
    with Gallery.create(tmp_path_factory.mktemp("made") / "gallery", dim=8, fingerprint="toy") as gallery:
        for name, vectors in classes.items():
            gallery.add(name, [(f"{name} {row}", f"{name}/{row}", vector) for row, vector in enumerate(vectors)])
        found = gallery.search_classes(pool, k=k, metric=metric, score=bent)
        plain = [{hit.name: hit for hit in answer.hits} for answer in gallery.search_classes(pool, k=20, metric=metric)]

    names, middles = list(classes), [wide(mean) for mean in means(classes).values()]
    for query, answer, known in zip(pool, found, plain, strict=True):
        learned = bent(wide(query), np.array(middles)) if names else np.empty(0)
        order = sorted(range(len(names)), key=lambda row: (-learned[row], row))  # among equals the first comes first
        assert [(hit.name, hit.score) for hit in answer.hits] == [(names[row], learned[row]) for row in order[:k]]
        assert answer.scores.tolist() == learned[order].tolist()
        for hit in answer.hits:
            assert (hit.distance, hit.reference) == (known[hit.name].distance, known[hit.name].reference)


@pytest.mark.parametrize(("k", "shortlist", "near"), [(2, 5, 5), (7, 5, 7), (2, 0, 2), (50, 5, 40)])
def test_a_learned_score_is_asked_once_a_query_and_only_for_the_shortlist(gallery, random_units, k, shortlist, near):
    vectors = random_units(40)
    for row, vector in enumerate(vectors):
        gallery.add(f"class {row}", [(str(row), None, vector)])
    queries, asked = random_units(3, seed=4), []

    def backwards(query, prototypes):
        asked.append((query, prototypes))
        return -prototypes @ query

    found = gallery.search_classes(queries, k=k, shortlist=shortlist, score=backwards)

    assert len(asked) == len(queries)
    for query, (point, prototypes), answer in zip(queries, asked, found, strict=True):
        nearest = np.argsort(-(vectors @ query))[:near]
        np.testing.assert_array_equal(point, query)
        np.testing.assert_array_equal(prototypes, vectors[nearest])
        assert [hit.name for hit in answer.hits] == [f"class {row}" for row in nearest[::-1][:k]]


def test_the_shortlist_of_equals_holds_the_first_of_them(gallery, random_units):
    (vector,) = random_units(1)
    gallery.stage(["same"], [vector])
    gallery.revise("index", "", leave=(), come=[Coming(f"class {row}", "same", None, str(row)) for row in range(300)])

    (answer,) = gallery.search_classes(vector, k=4, score=lambda query, prototypes: prototypes @ query)

    assert [hit.name for hit in answer.hits] == [f"class {row}" for row in range(4)]
    assert len(answer.scores) == 100


def test_a_score_is_not_asked_in_an_empty_gallery_and_may_not_change_the_vectors(gallery, random_units):
    def spoil(query, prototypes):
        scores = prototypes @ query
        prototypes[:] = 0
        return scores

    assert gallery.search_classes(random_units(1), score=spoil)[0].hits == []
    gallery.add("heron", [("heron", None, random_units(1)[0])])
    first, second = (gallery.search_classes(random_units(1), score=spoil)[0].hits for _ in range(2))
    assert first == second
    assert gallery.verify() == []


@pytest.mark.parametrize("wrong", [[np.nan, 0, 1], [np.inf, 0, 1], [1.0], [[1.0], [2.0], [3.0]], 1.0])
def test_a_score_that_gives_no_finite_number_a_prototype_is_refused(three, wrong):
    with pytest.raises(ArgumentError, match="one finite number a prototype"):
        three.search_classes(np.ones(16), score=lambda query, prototypes: np.array(wrong))
