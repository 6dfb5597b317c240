from __future__ import annotations

import numpy as np
import pytest

from indexer.rehearsal import rehearsal


@pytest.fixture
def references(random_units):
    return random_units(200), np.repeat(np.arange(50), 4)


def test_what_is_asked_about_is_left_out_and_all_else_is_kept(references):
    made = rehearsal(*references, 25, 0)

    assert sorted([*made.held, *made.kept]) == list(range(200))
    assert len(made.held) == 25
    assert np.array_equal(made.queries[0], references[0][made.held])


def test_a_mixed_query_lies_between_a_reference_and_another_of_its_class(references):
    vectors, labels = references
    made = rehearsal(vectors, labels, 40, 0)

    others = 0
    for row, query in zip(made.held, made.queries[1], strict=True):
        own = [other for other in made.kept if labels[other] == labels[row]] or made.kept.tolist()
        # On the arc between two unit vectors the angles to both add up to the angle between them.
        angle = np.arccos(np.clip(vectors.astype(np.float64) @ query, -1, 1))
        between = np.arccos(np.clip(vectors[own].astype(np.float64) @ vectors[row], -1, 1))
        assert np.abs(angle[row] + angle[own] - between).min() < 1e-3
        others += angle[row] > 0.01
    assert others > 20
    np.testing.assert_allclose(np.linalg.norm(made.queries[1], axis=1), 1, atol=1e-6)


def test_a_class_of_one_borrows_from_another(random_units):
    made = rehearsal(random_units(50), np.arange(50), 10, 0)

    assert np.isfinite(made.queries[1]).all()
    assert not np.allclose(made.queries[0], made.queries[1])


def test_no_more_than_a_fifth_is_left_out_and_opposites_make_no_query_without_direction():
    vectors = np.array([[1, 0], [-1, 0]] * 50, np.float32)

    made = rehearsal(vectors, np.zeros(100, int), 1000, 0)

    assert len(made.held) == 20
    np.testing.assert_allclose(np.linalg.norm(made.queries[1], axis=1), 1, atol=1e-6)


def test_the_choice_depends_on_the_seed_alone(references):
    one, same, other = (rehearsal(*references, 20, seed) for seed in (0, 0, 1))

    assert np.array_equal(one.queries, same.queries)
    assert not np.array_equal(one.queries, other.queries)
