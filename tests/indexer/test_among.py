"""The oracle scores all rows and forgets those that may not be found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer import among
from indexer.among import search_among

VECTORS = np.random.default_rng(3).normal(size=(300, 8)).astype(np.float32)
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)


@given(st.sets(st.integers(0, 299)), st.integers(1, 40), st.sampled_from([0, 1, 7, 8, 30]))
@settings(max_examples=60)
def test_the_nearest_among_some_rows_are_those_of_brute_force(chosen, k, count):
    rows = np.array(sorted(chosen), np.int64)
    queries = np.random.default_rng(5).normal(size=(count, 8)).astype(np.float32)

    scores, found = search_among(VECTORS, rows, queries, k)

    assert scores.shape == found.shape == (count, min(k, len(rows)))
    for query, near, places in zip(queries, scores, found, strict=True):
        every = VECTORS[rows] @ query
        assert near.tolist() == pytest.approx(sorted(every.tolist(), reverse=True)[:k], abs=1e-5)
        assert near.tolist() == pytest.approx((VECTORS[places] @ query).tolist(), abs=1e-5)
        assert len(set(places.tolist())) == len(places)
        assert set(places.tolist()) <= chosen


def test_both_ways_and_any_blocks_find_the_same(monkeypatch):
    rows = np.arange(1, 300, 3)
    queries = VECTORS[:12]

    expected = [search_among(VECTORS, rows, query[np.newaxis], 9)[1][0].tolist() for query in queries]
    for block in (8, 80, 2**20):
        monkeypatch.setattr(among, "BLOCK", block)
        assert search_among(VECTORS, rows, queries, 9)[1].tolist() == expected


def test_rows_that_may_not_be_found_are_not_looked_at():
    poisoned = np.full_like(VECTORS, np.nan)
    rows = np.arange(0, 300, 7)
    poisoned[rows] = VECTORS[rows]

    for queries in (VECTORS[:1], VECTORS[:20]):
        assert np.isfinite(search_among(poisoned, rows, queries, 50)[0]).all()


def test_queries_and_rows_stay_as_they_are():
    rows, queries = np.arange(0, 300, 2), VECTORS[:20].copy()
    before = VECTORS.copy(), rows.copy(), queries.copy()

    search_among(VECTORS, rows, queries[::2], 5)
    search_among(VECTORS, rows, queries[:3], 5)

    for array, same in zip((VECTORS, rows, queries), before, strict=True):
        np.testing.assert_array_equal(array, same)
