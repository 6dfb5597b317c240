"""The oracle goes query by query and class by class, in float64: answers of many at once are the same to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer import deciding
from indexer.gallery import Gallery
from indexer.history import Coming
from indexer.search import MORE, TIE, ClassHit, ReferenceHit
from indexer.vectors import METRICS, as_queries


def exact(query, vectors):
    """The cosines of one query with vectors ``(n, dim)``, in float64."""
    wide, point = vectors.astype(np.float64), query.astype(np.float64)
    values = np.einsum("ij,j->i", wide, point)
    return np.clip(values / np.sqrt(np.einsum("ij,ij->i", wide, wide) * np.einsum("j,j->", point, point)), -1.0, 1.0)


def nearest(index, query, scores, rows, k):
    """Return [(minus cosine, id)] of the k best candidates: those that stand before the border by more than a tie."""
    if len(rows) > k and scores[-1] > scores[k - 1] - TIE and len(rows) < len(index):
        (scores,), (rows,) = index.search_rows(query[np.newaxis], len(rows) + MORE)
    if len(rows) > k:
        rows = rows[(scores > scores[k - 1] - TIE) | (np.arange(len(rows)) < k)]
    return sorted(zip((-exact(query, index.at(rows))).tolist(), index.ids_at(rows).tolist(), strict=True))[:k]


def expected_classes(snapshot, points, *, k, metric, shortlist, score):
    found = []
    near = max(k, shortlist)
    exactly = k if score is None else near
    for query, scores, rows in zip(
        points, *snapshot.prototypes.search_rows(points, max(exactly + 1, near)), strict=True
    ):
        best = nearest(snapshot.prototypes, query, scores, rows, exactly)
        ids = [id for _, id in best]
        values, distances = (part.tolist() for part in METRICS[metric](np.array([-minus for minus, _ in best])))
        nears = np.minimum(scores[:near], np.float32(1))
        nears[: len(best)] = [-minus for minus, _ in best]
        lines = list(zip(ids, values, distances, strict=True))
        if score is not None:
            values = score(query, snapshot.prototypes.vectors(ids)).tolist() if ids else []
            lines = sorted(zip(ids, values, distances, strict=True), key=lambda line: (-line[1], line[0]))
            nears = np.array([value for _, value, _ in lines], np.float32)
        hits = []
        for id, value, distance in lines[:k]:
            members = snapshot.members[id]
            decided = members[int(exact(query, snapshot.references.vectors(members)).argmax())]
            hits.append(ClassHit(snapshot.names[id], value, distance, snapshot.known[decided].shown))
        found.append((hits, nears.tobytes()))
    return found


def expected_references(snapshot, points, *, k, metric):
    found = []
    for query, scores, rows in zip(points, *snapshot.references.search_rows(points, k + 1), strict=True):
        best = nearest(snapshot.references, query, scores, rows, k)
        numbers = zip(
            *(part.tolist() for part in METRICS[metric](np.array([-minus for minus, _ in best]))), strict=True
        )
        known = [snapshot.known[id] for _, id in best]
        found.append([ReferenceHit(snapshot.names[a], b, *two) for (a, b), two in zip(known, numbers, strict=True)])
    return found


def bent(query, prototypes):
    """A learned score that knows only a few values."""
    return np.round(3 * np.abs(prototypes.astype(np.float64)[:, 0] - query[0]))


@st.composite
def galleries(draw):
    """Classes out of few vectors, of which some are the same and others nearly: float32 cannot tell these apart."""
    random, dim = np.random.default_rng(draw(st.integers(0, 99))), draw(st.sampled_from([2, 8, 67]))
    pool = random.normal(size=(draw(st.integers(1, 6)), dim))
    pool = np.concatenate([pool, *(pool + 10.0**power * random.normal(size=pool.shape) for power in (-8, -7, -5))])
    picks = st.lists(st.integers(0, len(pool) - 1), min_size=1, max_size=6)
    return [pool[rows] for rows in draw(st.lists(picks, max_size=12))], pool


def fill(gallery, classes):
    """One revision with these classes; equal vectors are different contents."""
    come = [
        Coming(f"class {number}", f"{number} {row}", None, f"{number}/{row}")
        for number, vectors in enumerate(classes)
        for row in range(len(vectors))
    ]
    if come:
        gallery.stage([one.hash for one in come], np.concatenate(classes))
        gallery.revise("index", "", leave=(), come=come)


def assert_as_expected(gallery, queries, *, k, metric, shortlist, score):
    points = as_queries(queries, gallery.dim)
    with gallery._views.as_they_are() as snapshot:
        classes = expected_classes(snapshot, points, k=k, metric=metric, shortlist=shortlist, score=score)
        references = expected_references(snapshot, points, k=k, metric=metric)
    found = gallery.search_classes(queries, k=k, metric=metric, shortlist=shortlist, score=score)
    assert [(one.hits, one.scores.tobytes()) for one in found] == classes
    assert gallery.search_references(queries, k=k, metric=metric) == references


asked = st.fixed_dictionaries(
    {
        "k": st.integers(1, 9),
        "metric": st.sampled_from(sorted(METRICS)),
        "shortlist": st.integers(0, 20),
        "score": st.sampled_from([None, bent]),
    }
)


@given(galleries(), asked)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_answers_of_many_at_once_are_those_of_exact_arithmetic_one_by_one(tmp_path_factory, made, asked):
    classes, pool = made
    with (
        Gallery.create(tmp_path_factory.mktemp("made") / "gallery", dim=pool.shape[1], fingerprint="toy") as gallery,
        pytest.MonkeyPatch.context() as patch,
    ):
        fill(gallery, classes)
        gallery.search_classes(pool[0])
        for gathered, block in (
            (deciding.GATHERED, deciding.BLOCK),
            (7, 3 * pool.shape[1]),
        ):  # many small parts as well
            patch.setattr(deciding, "GATHERED", gathered)
            patch.setattr(deciding, "BLOCK", block)
            assert_as_expected(gallery, pool, **asked)
            assert_as_expected(gallery, pool[:1], **asked)


def test_a_huge_class_of_equals_and_near_equals_is_decided_as_by_exact_arithmetic(gallery, random_units):
    (vector,), noise = random_units(1), random_units(6000, seed=2)
    huge = np.concatenate([vector + 1e-7 * noise[:3000], [vector] * 3000, vector + noise])
    fill(gallery, [huge, vector[np.newaxis], huge[:50], huge[-50:]])
    gallery.search_classes(vector)

    for queries in (vector, huge[::500]):
        assert_as_expected(gallery, queries, k=4, metric="cosine", shortlist=5, score=None)


def test_rough_scores_leave_out_no_reference_that_exact_ones_could_choose(random_units):
    for dim in (1, 2, 16, 513, 2048):
        queries, others = random_units(40, dim=dim), random_units(40, seed=1, dim=dim)
        rough = np.array(
            [(query * other).cumsum(dtype=np.float32)[-1] for query, other in zip(queries, others, strict=True)]
        )
        truth = np.array([exact(query, other[np.newaxis])[0] for query, other in zip(queries, others, strict=True)])
        assert np.abs(rough - truth).max() <= deciding._rounding(dim)


def test_classes_of_one_reference_need_no_scores_to_be_decided(gallery, random_units, monkeypatch):
    fill(gallery, random_units(20)[:, np.newaxis])
    monkeypatch.setattr(deciding, "_nearest", None)

    assert [len(answer.hits) for answer in gallery.search_classes(random_units(3, seed=1))] == [5] * 3
