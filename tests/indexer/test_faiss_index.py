from __future__ import annotations

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.faiss_index import FaissIndex


@pytest.fixture
def filled(random_units):
    index = FaissIndex(16)
    index.add([30, 10, 20], random_units(3))
    return index


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


def test_reserved_room_changes_nothing_else(filled):
    before = filled.vectors([10, 20, 30])

    filled.reserve(1000)
    filled.reserve(1)

    assert len(filled) == 3
    assert filled.vectors([10, 20, 30]).tolist() == before.tolist()
    assert len(faiss.serialize_index(filled.flat)) < 1000


changes = st.lists(st.tuples(st.booleans(), st.sets(st.integers(0, 30), max_size=6)), max_size=12)


@given(changes)
@settings(max_examples=50)
def test_after_any_changes_it_holds_what_a_dictionary_would(steps):
    index, held, random = FaissIndex(4), {}, np.random.default_rng(0)
    for adding, ids in steps:
        if adding:
            fresh = sorted(ids - held.keys(), reverse=True)
            vectors = random.normal(size=(len(fresh), 4)).astype(np.float32)
            index.add(fresh, vectors)
            held |= dict(zip(fresh, vectors, strict=True))
        else:
            index.remove(ids)
            held = {id: vector for id, vector in held.items() if id not in ids}

        assert len(index) == len(held)
        assert sorted(index.ids.tolist()) == sorted(held)
        assert np.array_equal(index.vectors(held), np.array(list(held.values())).reshape(-1, 4))
