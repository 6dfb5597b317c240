from __future__ import annotations

import faiss
import numpy as np
import pytest

from indexer import layout
from indexer.approximate import built, candidates, extend, ladder, rescored
from indexer.layout import gathered

GRAPHS = ["HNSW16,SQfp16", "HNSW32,SQ8", "PCA8,HNSW16,SQ8"]
COUNT, DIM = 3000, 16


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(layout, "LEAST", 1000)
    monkeypatch.setattr(layout, "CLUSTER", 30)


@pytest.fixture(scope="module")
def made():
    """Vectors of a hundred classes, in any order, and queries like them."""
    draw = np.random.default_rng(0)
    centres = draw.standard_normal((100, DIM))

    def some(count):
        vectors = centres[draw.integers(0, 100, count)] + 0.3 * draw.standard_normal((count, DIM))
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)

    return some(COUNT), some(60)


def found(index, factory, vectors, rows, queries):
    near = candidates(index, ladder(factory, len(vectors))[4], queries, 10)
    scores, places = rescored(queries, near, lambda some: vectors[rows[some]], 10)
    return scores, rows[places]


@pytest.mark.parametrize("factory", GRAPHS)
def test_a_graph_that_is_laid_out_anew_finds_what_it_found(factory, made):
    vectors, queries = made
    rows = np.arange(COUNT)[::-1]
    index = built(factory, vectors, rows)
    scores, ids = found(index, factory, vectors, rows, queries)

    order = gathered(index, rows)

    assert sorted(order.tolist()) == list(range(COUNT))
    assert not np.array_equal(order, rows)
    again, same = found(index, factory, vectors, order, queries)
    np.testing.assert_array_equal(again, scores)
    assert np.mean(same == ids) > 0.999  # of equals another one may come first


@pytest.mark.parametrize("factory", GRAPHS)
def test_near_vectors_then_lie_near_one_another(factory, made):
    vectors, _ = made
    nearest = (vectors @ vectors.T - 2 * np.eye(COUNT)).argmax(axis=1)

    order = gathered(built(factory, vectors, np.arange(COUNT)), np.arange(COUNT))

    place = np.empty(COUNT, np.int64)
    place[order] = np.arange(COUNT)
    assert np.median(np.abs(place - place[nearest])) < COUNT / 60  # a third of them, in any order


@pytest.mark.parametrize("factory", GRAPHS)
def test_what_is_added_afterwards_is_found_as_well(factory, made):
    vectors, _ = made
    index = built(factory, vectors, np.arange(2500))
    rows = gathered(index, np.arange(2500))
    extend(index, vectors, np.arange(2500, COUNT))
    rows = np.concatenate([rows, np.arange(2500, COUNT)])

    _, ids = found(index, factory, vectors, rows, vectors)

    assert np.mean(ids[:, 0] == np.arange(COUNT)) > 0.98


@pytest.mark.parametrize("factory", ["IVF32,SQ8", "PCA8,IVF32,SQ8", "IVF32_HNSW32,Flat"])
def test_lists_lie_together_already_and_stay_as_they_are(factory, made):
    index = built(factory, made[0], np.arange(COUNT))
    before = faiss.serialize_index(index)

    assert gathered(index, np.arange(COUNT)).tolist() == list(range(COUNT))
    assert np.array_equal(faiss.serialize_index(index), before)


def test_the_graph_of_few_vectors_stays_as_it_is(made):
    index = built(GRAPHS[0], made[0], np.arange(999))

    assert gathered(index, np.arange(999)).tolist() == list(range(999))


def test_the_order_is_the_same_each_time_and_kmeans_is_silent(made, capfd):
    one, other = (gathered(built(GRAPHS[2], made[0], np.arange(COUNT)), np.arange(COUNT), seed=3) for _ in range(2))

    assert np.array_equal(one, other)
    assert capfd.readouterr().err == ""


def test_laying_out_can_be_ended_and_then_all_stays_as_it_was(made):
    index = built(GRAPHS[2], made[0], np.arange(COUNT))
    before = faiss.serialize_index(index)

    def tell(done, total):
        assert (done, total) == (COUNT, COUNT)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gathered(index, np.arange(COUNT), tell=tell)
    assert np.array_equal(faiss.serialize_index(index), before)
