from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from indexer.errors import ArgumentError
from indexer.vectors import METRICS, as_queries, check_count, cosines, metric_named, prototype, unit

finite = st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False)
nonzero = arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 6)), elements=finite).filter(
    lambda a: (np.abs(a).max(axis=1) > 0).all()
)


@given(nonzero)
def test_any_vector_that_has_a_direction_gets_length_one_and_keeps_it(vectors):
    made = unit(vectors)

    assert made.dtype == np.float32
    assert made.flags.c_contiguous
    for before, after in zip(vectors, made, strict=True):
        biggest = max(abs(value) for value in before)
        length = math.sqrt(sum((value / biggest) ** 2 for value in before))
        assert after.tolist() == pytest.approx([value / biggest / length for value in before], abs=1e-6)


def test_the_arguments_stay_as_they_are():
    vectors = np.array([[3.0, 4.0]], np.float32)

    made = unit(vectors)
    made[:] = 7

    assert vectors.tolist() == [[3.0, 4.0]]


@pytest.mark.parametrize(
    "bad", [[0.0, 0.0], [np.nan, 1.0], [1.0, np.inf], [[1.0, 0.0], [0.0, 0.0]], [], "no", [[[1.0]]]]
)
def test_what_has_no_direction_is_refused(bad):
    with pytest.raises(ArgumentError):
        unit(bad)


def test_one_query_and_a_list_of_them_are_both_welcome():
    assert as_queries([3.0, 4.0], 2).tolist() == [pytest.approx([0.6, 0.8])]
    assert as_queries(np.ones((5, 2)), 2).shape == (5, 2)
    assert as_queries(np.empty((0, 2)), 2).shape == (0, 2)


@pytest.mark.parametrize("bad", [np.ones(3), np.ones((2, 3)), np.ones((1, 1, 2)), np.float64(1), np.empty((0, 3))])
def test_a_query_of_another_dim_is_refused(bad):
    with pytest.raises(ArgumentError, match="2 floats"):
        as_queries(bad, 2)


def test_a_prototype_is_the_normalised_mean(random_units):
    vectors = random_units(7)
    mean = [sum(float(v[i]) for v in vectors) / 7 for i in range(vectors.shape[1])]
    length = math.sqrt(sum(value * value for value in mean))

    assert prototype(vectors).tolist() == pytest.approx([value / length for value in mean], abs=1e-6)
    assert prototype(iter([vectors[:3], vectors[3:]])).tolist() == prototype(vectors).tolist()


def test_a_single_vector_is_its_own_prototype_to_the_bit(random_units):
    for vector in random_units(500, dim=2):
        made = prototype(vector[np.newaxis])

        assert made.tobytes() == vector.tobytes()
        assert not np.shares_memory(made, vector)


def test_the_first_vector_stands_for_those_that_cancel_out(random_units):
    (vector,) = random_units(1)

    assert prototype(np.stack([vector, -vector])).tolist() == vector.tolist()


def test_there_is_no_prototype_of_nothing():
    with pytest.raises(ArgumentError):
        prototype(np.empty((0, 3), np.float32))


def test_both_metrics_state_what_they_say_of_unit_vectors(random_units):
    (query,), others = random_units(1), random_units(20, seed=1)
    values = cosines(query, others)

    for place, other in enumerate(others):
        dot = sum(float(a) * float(b) for a, b in zip(query, other, strict=True))
        gap = math.sqrt(sum((float(a) - float(b)) ** 2 for a, b in zip(query, other, strict=True)))
        score, distance = (part[place] for part in METRICS["cosine"](values))
        assert (score, distance) == (pytest.approx(dot, abs=1e-6), pytest.approx(1 - dot, abs=1e-6))
        score, distance = (part[place] for part in METRICS["euclidean"](values))
        assert (score, distance) == (pytest.approx(-gap, abs=1e-6), pytest.approx(gap, abs=1e-6))


@pytest.mark.parametrize("dim", [2, 3, 16])
def test_no_distance_is_ever_negative_nor_nothing(random_units, dim):
    for vector in random_units(1000, dim=dim):
        alike = np.stack([vector, vector * np.float32(3), -vector])
        for metric in METRICS.values():
            distances = metric(cosines(vector, alike))[1]
            assert distances.min() >= 0
            assert distances.max() <= 2


def test_equal_rows_have_equal_cosines_wherever_they_stand(random_units):
    (query,), others = random_units(1, dim=67), random_units(50, seed=1, dim=67)
    repeated = others[[7] * 50]

    assert len(set(cosines(query, repeated).tolist())) == 1
    others[13] = others[42] = others[7]
    assert len({cosines(query, others)[row] for row in (7, 13, 42)}) == 1


@pytest.mark.parametrize("bad", ["cosin", "", None, 1])
def test_an_unknown_metric_is_refused_with_the_choices(bad):
    with pytest.raises(ArgumentError, match="cosine, euclidean"):
        metric_named(bad)


@pytest.mark.parametrize("bad", [0, -1, True, 1.0, "3", None])
def test_k_is_a_whole_number_from_one_up(bad):
    with pytest.raises(ArgumentError, match="k is a whole number, 1 or more"):
        check_count("k", bad)


def test_a_numpy_integer_counts_too():
    assert check_count("k", np.int64(3)) == 3
