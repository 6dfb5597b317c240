"""An approximate index keeps its promise on queries that it has not seen, or the search is exact."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer import layout, trials, tuning
from indexer.approximate import candidates, lists_of, rescored
from indexer.errors import ArgumentError
from indexer.faiss_index import FaissIndex
from indexer.nearby import Base, Nearby
from indexer.promise import lower_bound, shares_found
from indexer.reader import Stamp
from indexer.trials import Promise
from indexer.tuning import tune

SHAPES = {
    "classes": lambda draw, n, dim: np.repeat(draw.normal(size=(n // 8, dim)), 8, 0) + draw.normal(0, 0.5, (n, dim)),
    "one of each": lambda draw, n, dim: draw.normal(size=(n, dim)),
    "duplicates": lambda draw, n, dim: draw.normal(size=(n // 40, dim))[draw.integers(0, n // 40, n)],
    "all equal": lambda draw, n, dim: np.ones((n, dim)),
    "two opposite": lambda draw, n, dim: draw.choice([-1, 1], (n, 1)) * np.ones((n, dim)),
    "few directions": lambda draw, n, dim: draw.normal(size=(n, 2)) @ draw.normal(size=(2, dim)),
    "far from the middle": lambda draw, n, dim: 20 + draw.normal(size=(n, dim)),
    "one huge class": lambda draw, n, dim: 3.0 * (np.arange(n)[:, None] < 0.9 * n) + draw.normal(size=(n, dim)),
}
FRESH = 400  # queries
KINDS = 6


@dataclass(frozen=True)
class Case:
    """A gallery, the one kind of index that is tried, and what is promised."""

    shape: str
    dim: int
    count: int
    kind: int
    promise: Promise
    seed: int


cases = st.builds(
    Case,
    shape=st.sampled_from(sorted(SHAPES)),
    dim=st.sampled_from([2, 3, 8, 24, 128]),
    count=st.integers(50, 180).map(lambda eighth: 8 * eighth),
    kind=st.integers(0, KINDS + 3),  # of many dimensions, four more that keep few of them
    promise=st.builds(
        Promise, ann_recall=st.sampled_from([0.8, 0.9, 0.95]), k=st.integers(1, 12), latency_ms=st.just(0)
    ),
    seed=st.integers(0, 2**32 - 1),
)


def unit(vectors):
    return np.ascontiguousarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def made(case):
    """Queries and references of one kind."""
    draw = np.random.default_rng(case.seed)
    both = unit(draw.permutation(SHAPES[case.shape](draw, case.count + FRESH, case.dim)))
    return both[:FRESH], both[FRESH:]


def best_scores(vectors, queries, k):
    return -np.sort(-(queries.astype(np.float64) @ vectors.T.astype(np.float64)), axis=1)[:, :k]


def found_by(winner, vectors, queries, k):
    rows = candidates(winner.index, winner.choice, queries, k)
    return rescored(queries, rows, lambda some: vectors[winner.rows[some]], k)


def hasten(patch):
    exact = tuning.exact_trial
    patch.setattr(tuning, "exact_trial", lambda vectors: replace(exact(vectors), microseconds=1e9))
    patch.setattr(trials, "TIMED", 2)
    patch.setattr(trials, "ROUNDS", 1)
    patch.setattr(layout, "LEAST", 500)  # graphs are laid out anew, as large ones are
    patch.setattr(layout, "CLUSTER", 30)


@pytest.fixture
def hasty(monkeypatch):
    """Approximate search is faster than exact, as in a large gallery; little time is spent on timing."""
    hasten(monkeypatch)


@pytest.fixture(scope="module")
def classes():
    """1,600 references of 200 classes, and their labels."""
    vectors = unit(SHAPES["classes"](np.random.default_rng(0), 1600, 16))
    return vectors, np.repeat(np.arange(200), 8)


@pytest.fixture(scope="module")
def tuned(classes):
    """What tuning them to find nine tenths of the neighbours came to; their vectors as they were before."""
    before = classes[0].copy()
    with pytest.MonkeyPatch.context() as patch:
        hasten(patch)
        return tune(*classes, Promise(0.9, latency_ms=0)), before


@given(cases)
@settings(max_examples=30, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_promise_is_kept_or_the_search_is_exact(hasty, case):
    queries, vectors = made(case)
    kinds, k = tuning.factories, case.promise.k
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tuning, "factories", lambda *facts: [kinds(*facts)[case.kind % len(kinds(*facts))]])
        found = tune(vectors, np.arange(len(vectors)), case.promise, seed=case.seed)
    if found.winner is None:
        assert not any(trial.keeps for trial in found.trials)
        return
    assert found.trials[-1].keeps
    assert sorted(found.winner.rows.tolist()) == list(range(len(vectors)))

    scores, _ = found_by(found.winner, vectors, queries, k)
    shares = shares_found(scores, best_scores(vectors, queries, k))

    upper_end = 1 - lower_bound(1 - shares, k)
    assert upper_end >= case.promise.ann_recall


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["HNSW16,SQfp16", "IVF64,SQ8", "PCA16,HNSW16,SQ8", "PCA16,IVF64,SQ8"])
def test_a_query_far_from_all_that_was_measured_is_answered_exactly(hasty, shape, kind):
    draw, promise = np.random.default_rng(3), Promise(0.8, latency_ms=0)
    vectors = unit(draw.permutation(SHAPES[shape](draw, 800, 128)))
    winner = tune(vectors, np.arange(800), promise, kinds=[kind], seed=1).winner
    if winner is None:
        return
    ids = np.arange(800)
    base = Base(winner.choice, winner.index, ids[winner.rows], Stamp(1, ""), promise, winner.floor)
    served = Nearby(base, FaissIndex(128).adding(ids, vectors))
    away = draw.normal(size=(60, 128)) - 3 * np.sqrt(128) * vectors.mean(axis=0)
    queries = unit(np.concatenate([-vectors[:60], away]))
    nearest = best_scores(vectors, queries, 10)

    scores, _ = served.search_rows(queries, 10)

    far = nearest[:, 0] < winner.floor - 1e-5
    np.testing.assert_allclose(scores[far], nearest[far], atol=1e-5)
    assert far.any() or shape not in ("classes", "far from the middle")


def test_all_kinds_are_tried_and_the_fastest_that_keeps_the_promise_wins(tuned):
    found, _ = tuned
    last = {trial.choice.factory: trial for trial in found.trials}
    assert len(last) == KINDS
    keep = [trial for trial in last.values() if trial.keeps]
    assert len(keep) > 1
    assert found.winner.choice == min(keep, key=lambda trial: trial.microseconds).choice


def test_the_effort_rises_until_the_promise_is_kept_and_no_further(tuned):
    found, _ = tuned
    for factory in {trial.choice.factory for trial in found.trials}:
        own = [trial for trial in found.trials if trial.choice.factory == factory]
        efforts = [trial.choice.effort for trial in own]
        assert efforts == sorted(efforts)
        assert not any(trial.keeps for trial in own[:-1])
        assert all(trial.keeps == (trial.low >= 0.9) for trial in own)
        assert all(trial.low <= trial.ann_recall for trial in own)


def test_of_a_large_gallery_a_sample_names_the_best_graph_and_the_best_inverted_file(hasty, classes):
    vectors, labels = classes

    found = tune(vectors, labels, Promise(0.8, latency_ms=0), sample=700)

    on_sample = [trial for trial in found.trials if trial.vectors <= 700]
    on_all = [trial for trial in found.trials if trial.vectors > 700]
    assert len({trial.choice.factory for trial in on_sample}) == KINDS
    assert [lists_of(name) is None for name in dict.fromkeys(t.choice.factory for t in on_all)] == [True, False]
    assert found.winner.index.ntotal == len(vectors)
    assert found.winner.choice in [trial.choice for trial in on_all if trial.keeps]


def test_exact_search_stays_where_it_is_fast_enough_or_nothing_faster_keeps_the_promise(classes, hasty, monkeypatch):
    assert tune(*classes, Promise(latency_ms=1e9)).winner is None
    assert tune(*classes, Promise(latency_ms=1e9)).trials == []
    few = classes[0][:200], classes[1][:200]
    assert tune(*few, Promise(1.0, latency_ms=0)).winner is None  # certainty needs endlessly many queries
    exact = tuning.exact_trial
    monkeypatch.setattr(tuning, "exact_trial", lambda vectors: replace(exact(vectors), microseconds=0.01))
    assert tune(*few, Promise(0.5, latency_ms=0)).winner is None


def test_a_kind_that_takes_more_than_the_budget_does_not_win(hasty, classes):
    found = tune(*classes, Promise(0.8, latency_ms=0, bytes_a_vector=150))

    assert found.winner is not None
    for trial in found.trials:
        assert not trial.keeps or trial.bytes_a_vector <= 150
    assert any(trial.low >= 0.8 and not trial.keeps for trial in found.trials)


def test_the_floor_is_the_nearest_neighbour_of_the_loneliest_query(tuned, classes):
    winner, vectors = tuned[0].winner, classes[0]
    kept, held = np.split(winner.rows, [1280])
    lonely = best_scores(vectors[kept], unit(np.random.default_rng(1).normal(size=(500, 16))), 1)

    assert winner.floor <= best_scores(vectors[kept], vectors[held], 1).min() + 1e-6
    assert winner.floor > lonely.min()


def test_tuning_leaves_the_vectors_as_they_are(tuned, classes):
    assert np.array_equal(classes[0], tuned[1])


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_hardly_any_references_are_searched_exactly(hasty, count):
    assert tune(unit(np.ones((count, 4))), np.arange(count), Promise(latency_ms=0)).winner is None


@pytest.mark.parametrize(
    "wrong", [{"ann_recall": 0}, {"ann_recall": 1.1}, {"k": 0}, {"latency_ms": -1}, {"bytes_a_vector": 0}]
)
def test_a_promise_that_nobody_can_mean_is_refused(wrong):
    with pytest.raises(ArgumentError, match=next(iter(wrong))):
        Promise(**wrong)


def test_labels_of_another_number_are_refused(classes):
    with pytest.raises(ArgumentError, match="1600 vectors"):
        tune(classes[0], np.arange(3))


def test_who_takes_far_longer_than_one_that_keeps_the_promise_is_not_tried_harder(hasty, monkeypatch):
    limits, climb = {}, trials.Course.climb

    def remember(course, factory, limit, **how):
        limits[factory] = limit
        made, tried = climb(course, factory, limit, **how)
        return made, [replace(one, microseconds=100.0 * len(limits)) for one in tried]

    monkeypatch.setattr(trials.Course, "climb", remember)
    vectors = unit(np.random.default_rng(0).normal(size=(900, 32)))
    kinds = ["HNSW16,SQfp16", "HNSW32,SQ8", "IVF16,Flat", "IVF16,SQ8", "HNSW8,SQ8"]

    tuning = tune(vectors, np.arange(900), Promise(0.5, latency_ms=0), kinds=kinds)

    slow = limits["HNSW16,SQfp16"]
    assert slow > 1e6
    assert [limits[kind] for kind in kinds] == [slow, 200, slow, 600, 200]
    assert tuning.winner.choice.factory == "HNSW16,SQfp16"
