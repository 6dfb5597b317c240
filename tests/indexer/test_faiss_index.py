from __future__ import annotations

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.among import FEW
from indexer.faiss_index import BATCHED, FaissIndex


@pytest.fixture
def filled(random_units):
    return FaissIndex(16).adding([30, 10, 20], random_units(3))


def test_the_scores_are_the_cosines_best_first(filled, random_units):
    vectors, queries = random_units(3), random_units(5, seed=1)

    scores, ids = filled.search(queries, 3)

    for query, row_scores, row_ids in zip(queries, scores, ids, strict=True):
        expected = sorted(((float(vector @ query), id) for id, vector in zip([30, 10, 20], vectors, strict=True)))[::-1]
        assert row_ids.tolist() == [id for _, id in expected]
        assert row_scores.tolist() == pytest.approx([score for score, _ in expected], abs=1e-6)


def test_more_than_there_is_cannot_be_found(filled, random_units):
    scores, ids = filled.search(random_units(2), 10)

    assert scores.shape == ids.shape == (2, 3)
    assert FaissIndex(16).search(random_units(2), 10)[1].shape == (2, 0)
    assert filled.search(np.empty((0, 16), np.float32), 2)[1].shape == (0, 2)


def test_an_unknown_id_has_no_vector(filled):
    for unknown in (0, 15, 99):
        with pytest.raises(KeyError):
            filled.vectors([unknown])
    with pytest.raises(KeyError):
        FaissIndex(16).vectors([1])
    assert filled.vectors([]).shape == (0, 16)


def test_what_comes_out_is_a_copy(filled):
    before = filled.vectors([10])
    filled.vectors([10])[:] = 0

    assert filled.vectors([10]).tolist() == before.tolist()


changes = st.lists(st.tuples(st.booleans(), st.sets(st.integers(0, 30), max_size=6)), max_size=12)
vectors_of = np.random.default_rng(0).normal(size=(31, 4)).astype(np.float32)


def is_what_a_dictionary_would_be(index, held):
    return all(finds_what_a_dictionary_would(index, held, vectors_of[:count]) for count in (1, BATCHED, FEW + 1))


def finds_what_a_dictionary_would(index, held, queries):
    scores, ids = index.search(queries, 99)
    expected = queries @ np.array([vectors_of[id] for id in held] or np.empty((0, 4))).T
    return (
        len(index) == len(held)
        and sorted(index.ids.tolist()) == sorted(held)
        and np.array_equal(index.vectors(held), vectors_of[list(held)])
        and np.array_equal(index.all_vectors(), vectors_of[index.ids])
        and np.allclose(-np.sort(-expected, axis=1), scores, atol=1e-5)
        and np.allclose(queries[:, np.newaxis] @ vectors_of[ids].transpose(0, 2, 1), scores[:, np.newaxis], atol=1e-5)
    )


@given(st.lists(st.tuples(st.integers(0, 99), changes), max_size=4))
@settings(max_examples=40)
def test_after_any_changes_every_version_holds_what_a_dictionary_would(branches):
    """Also when versions branch: several are made from the same one."""
    versions = [(FaissIndex(4), frozenset())]
    for origin, steps in branches:
        index, held = versions[origin % len(versions)]
        for adding, ids in steps:
            if adding:
                fresh = sorted(ids - held, reverse=True)
                index, held = index.adding(fresh, vectors_of[fresh]), held | ids
            else:
                index, held = index.without(ids), held - ids
            versions.append((index, held))
            if len(held) % 5 == 4:
                versions.append((index.tightened(), held))

    assert all(is_what_a_dictionary_would_be(index, held) for index, held in versions)


@pytest.mark.parametrize("dim", [48, 200])
def test_few_queries_are_taken_one_by_one_and_more_as_matrices(dim):
    """Which of the two it was, the last digits of the scores tell."""
    draw = np.random.default_rng(dim)
    vectors, queries = (draw.standard_normal((count, dim), np.float32) for count in (1000, BATCHED))
    index = FaissIndex(dim).adding(range(1000), vectors)

    def digits(count, limit):
        faiss.cvar.distance_compute_blas_threshold = limit
        return faiss.knn(queries[:count], vectors, 1000, metric=faiss.METRIC_INNER_PRODUCT)[0].tobytes()

    one_by_one, as_matrices = 10**6, 0
    for count, way in ((1, one_by_one), (BATCHED - 1, one_by_one), (BATCHED, as_matrices)):
        assert digits(count, one_by_one) != digits(count, as_matrices)
        expected = digits(count, way)
        assert index.search(queries[:count], 1000)[0].tobytes() == expected
    assert BATCHED < FEW


def test_versions_share_their_memory(random_units):
    first = FaissIndex(16).adding(range(100), random_units(100))
    second = first.without([3]).adding([100], random_units(1, seed=1))

    assert np.shares_memory(first._buffer.vectors, second._buffer.vectors)
    assert not np.shares_memory(first._buffer.vectors, second.tightened()._buffer.vectors)


def test_growing_copies_the_vectors_only_now_and_then(random_units):
    index, places = FaissIndex(16), set()
    for id, vector in enumerate(random_units(2000)):
        index = index.adding([id], vector[np.newaxis])
        places.add(index._buffer.vectors.ctypes.data)

    assert len(places) < 20


def test_an_index_of_which_much_is_masked_is_wasteful_until_it_is_tightened():
    index = FaissIndex(1).adding(range(10_000), np.ones((10_000, 1), np.float32))

    assert not index.without(range(1200)).wasteful  # an eighth is not reached
    assert index.without(range(1300)).wasteful
    assert not index.without(range(1300)).tightened().wasteful
    assert not FaissIndex(1).adding(range(1000), np.ones((1000, 1), np.float32)).without(range(999)).wasteful
