from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.statistics import wilson
from indexer.promise import lower_bound, shares_found


@given(st.integers(1, 200), st.data())
def test_of_single_neighbours_it_is_the_interval_of_wilson(trials, data):
    right = data.draw(st.integers(0, trials))
    shares = np.repeat([1.0, 0.0], [right, trials - right])

    assert lower_bound(shares, 1) == pytest.approx(wilson(right, trials)[0], abs=0.02 if trials < 10 else 0.002)


def test_what_was_measured_lies_above_the_bound_in_hardly_more_than_one_of_forty_measurements():
    draw, k, wrong = np.random.default_rng(0), 10, 0
    for _ in range(2000):
        # Neighbours of one query are found or missed together: some queries are hard.
        hard = draw.random(500) < 0.05
        shares = draw.binomial(k, np.where(hard, 0.85, 0.999)) / k
        wrong += lower_bound(shares, k) > 0.05 * 0.85 + 0.95 * 0.999

    assert wrong / 2000 < 0.04


def test_neighbours_that_are_missed_together_count_as_one():
    together = np.repeat([1.0, 0.0], [90, 10])
    apart = np.full(100, 0.9) + np.tile([0.1, -0.1], 50)

    assert lower_bound(together, 10) == pytest.approx(wilson(90, 100)[0], abs=0.001)
    assert lower_bound(together, 10) < lower_bound(apart, 10) < 0.9


def test_nothing_missed_is_no_proof():
    assert lower_bound(np.ones(100), 10) == pytest.approx(wilson(100, 100)[0])


def test_any_of_equals_counts_as_found():
    exact = np.array([[0.9, 0.8, 0.8]])

    assert shares_found(np.array([[0.9, 0.8, 0.8]]), exact).tolist() == [1]
    assert shares_found(np.array([[0.8, 0.8, 0.7]]), exact).tolist() == [pytest.approx(2 / 3)]
    assert shares_found(np.array([[0.9, -np.inf, -np.inf]]), exact).tolist() == [pytest.approx(1 / 3)]
