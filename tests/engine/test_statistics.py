from __future__ import annotations

import numpy as np
import pytest

from engine.statistics import mean_interval, paired_test, wilson
from indexer.errors import ArgumentError


@pytest.mark.parametrize(("right", "low", "high"), [(368, 0.889, 0.943), (382, 0.930, 0.971), (392, 0.961, 0.990)])
def test_the_interval_of_a_share_is_wilsons(right, low, high):
    assert wilson(right, 400) == (pytest.approx(low, abs=6e-4), pytest.approx(high, abs=6e-4))


@pytest.mark.parametrize(("right", "trials"), [(0, 9), (1, 30), (7, 7), (50, 100)])
def test_the_ends_of_wilsons_interval_are_the_shares_that_the_figure_just_does_not_contradict(right, trials):
    for end in wilson(right, trials):
        distance = abs(right / trials - end)
        assert distance == pytest.approx(1.959964 * (end * (1 - end) / trials) ** 0.5, abs=1e-9)


@pytest.mark.parametrize(("right", "trials"), [(0, 0), (3, 2), (-1, 2)])
def test_a_share_that_cannot_be_has_no_interval(right, trials):
    with pytest.raises(ArgumentError):
        wilson(right, trials)


def test_95_of_100_intervals_of_a_mean_hold_the_truth():
    draws = np.random.default_rng(0).exponential(size=(2000, 200))
    held = sum(low <= 1 <= high for _, low, high in map(mean_interval, draws))

    assert held / 2000 == pytest.approx(0.95, abs=0.02)


def test_the_paired_test_sees_what_the_spread_of_the_tasks_hides():
    random = np.random.default_rng(0)
    tasks = random.normal(size=1000)
    first, second = tasks + 0.02 + random.normal(0, 0.05, 1000), tasks + random.normal(0, 0.05, 1000)

    found, reverse = paired_test(first, second), paired_test(second, first)

    assert found.difference == pytest.approx((first - second).mean())
    assert found.low < 0.02 < found.high
    assert found.p < 1e-9
    assert reverse.p == found.p
    assert (reverse.difference, reverse.low) == (-found.difference, -found.high)


def test_the_p_value_is_the_share_of_chances_that_differ_as_much():
    random = np.random.default_rng(1)
    p = [paired_test(random.normal(size=500), random.normal(size=500)).p for _ in range(2000)]

    for level in (0.05, 0.3, 0.7):
        assert np.mean(np.array(p) < level) == pytest.approx(level, abs=0.035)


def test_zero_lies_within_the_interval_just_when_p_is_above_5_per_cent():
    random = np.random.default_rng(2)
    tests = [paired_test(random.normal(0.1, size=300), random.normal(size=300)) for _ in range(200)]

    assert [one.low <= 0 <= one.high for one in tests] == [one.p >= 0.05 for one in tests]
    assert 0 < sum(one.p >= 0.05 for one in tests) < 200


def test_methods_that_always_differ_alike_leave_no_doubt():
    figures = np.array([0.5, 0.75, 0.25])

    assert paired_test(figures, figures).p == 1.0
    assert paired_test(figures + 0.125, figures).p == 0.0


@pytest.mark.parametrize(("first", "second"), [([1.0, 2.0], [1.0]), ([1.0], [1.0]), ([[1.0]], [[1.0]])])
def test_figures_that_make_no_pairs_are_refused(first, second):
    with pytest.raises(ArgumentError):
        paired_test(first, second)
