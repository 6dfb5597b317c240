from __future__ import annotations

from itertools import pairwise

import faiss
import numpy as np
import pytest

from indexer.approximate import Choice, built, candidates, factories, ladder, lists_of, rescored, size

KINDS = [*factories(600, 16), "PCA12,HNSW16,SQ8", "PCA12,IVF128,SQ8"]  # so few dimensions are not reduced by themselves


@pytest.mark.parametrize("factory", KINDS)
def test_each_kind_at_its_most_thorough_finds_nearly_all_neighbours(factory, random_units):
    vectors, queries, rows = random_units(600), random_units(50, seed=1), np.arange(600)[::-1]
    index = built(factory, vectors, rows)
    choice = ladder(factory, 600)[-1]

    scores, found = rescored(queries, candidates(index, choice, queries, 10), lambda some: vectors[rows[some]], 10)

    exact = np.argsort(-(queries @ vectors.T), axis=1)[:, :10]
    shared = [len(set(rows[few].tolist()) & set(known.tolist())) for few, known in zip(found, exact, strict=True)]
    assert np.mean(shared) > 9.8
    np.testing.assert_allclose(scores, np.take_along_axis(queries @ vectors.T, rows[found], 1), atol=1e-6)
    assert (np.diff(scores, axis=1) <= 0).all()


@pytest.mark.parametrize("factory", KINDS)
def test_what_a_selector_masks_is_not_found(factory, random_units):
    vectors = random_units(600)
    index = built(factory, vectors, np.arange(600))
    bits = np.packbits(np.arange(600) % 3 == 0, bitorder="little")

    found = candidates(index, ladder(factory, 600)[-1], vectors[:30], 10, faiss.IDSelectorBitmap(bits))

    assert (found[found >= 0] % 3 == 0).all()
    assert (found >= 0).mean() > 0.9


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("factory", KINDS)
def test_a_query_that_comes_alone_finds_what_it_finds_in_company(factory, masked, random_units):
    vectors, queries = random_units(600), random_units(60, seed=1)
    index, choice = built(factory, vectors, np.arange(600)), ladder(factory, 600)[2]
    bits = np.packbits(np.arange(600) % 3 == 0, bitorder="little")
    selector = faiss.IDSelectorBitmap(bits) if masked else None

    together = candidates(index, choice, queries, 10, selector)
    alone = [candidates(index, choice, queries[row : row + 1], 10, selector) for row in range(60)]

    assert {rows.shape for rows in alone} == {(1, together.shape[1])}
    # A projection rounds otherwise in company, so that two candidates as far may come the other way round.
    shared = [len(set(one[0].tolist()) & set(all_.tolist())) for one, all_ in zip(alone, together, strict=True)]
    distinct = [len(set(all_.tolist())) for all_ in together]
    assert sum(shared) >= 0.99 * sum(distinct)


def test_a_query_of_another_length_is_refused_before_faiss_reads_beyond_it(random_units):
    index = built("HNSW16,SQfp16", random_units(100), np.arange(100))

    with pytest.raises(ValueError, match="a query of 3 floats, the index holds vectors of 16"):
        candidates(index, Choice("HNSW16,SQfp16", 8), np.ones((1, 3), np.float32), 2)


@pytest.mark.parametrize("factory", KINDS)
def test_the_settings_of_a_kind_rise_from_quick_to_thorough(factory):
    choices = ladder(factory, 600)

    assert all((a.effort, a.depth) < (b.effort, b.depth) for a, b in pairwise(choices))
    assert lists_of(factory) is None or choices[-1].effort == lists_of(factory)


def test_more_vectors_get_more_lists():
    lists = [next(filter(None, map(lists_of, factories(10**power, 64)))) for power in range(3, 8)]

    assert lists == [128, 512, 1024, 4096, 16384]
    assert any("_HNSW" in kind for kind in factories(10**7, 64))


def test_many_dimensions_are_also_tried_reduced_to_some_of_them():
    reduced = [kind for kind in factories(1000, 512) if kind.startswith("PCA")]

    assert {kind.split(",")[0] for kind in reduced} == {"PCA64", "PCA128"}
    assert {lists_of(kind) for kind in reduced} == {None, 128}
    assert not any(kind.startswith("PCA") for kind in factories(1000, 32))


def test_a_reduced_kind_orders_by_distance_where_the_mean_is_far_from_the_origin(random_units):
    """Without its mean a vector has another inner product with a query, and not the same one as all others."""
    draw = np.random.default_rng(0)
    vectors = 5 + draw.normal(size=(2000, 32)) * np.repeat([1, 0], [8, 24]) * draw.uniform(0.2, 3, (2000, 1))
    vectors = (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    index = built("PCA8,IVF16,SQ8", vectors, np.arange(2000))

    found = candidates(index, Choice("PCA8,IVF16,SQ8", 16, 1), vectors[:100], 10)

    exact = np.argsort(-(vectors[:100] @ vectors.T), axis=1)[:, :10]
    assert np.mean([len(set(a) & set(b)) for a, b in zip(found.tolist(), exact.tolist(), strict=True)]) > 9


@pytest.mark.parametrize("queries", [1, 2])
@pytest.mark.parametrize(
    ("found", "best"), [([-1, 4, -1, 2], [4, 2, -1]), ([7, 4, 1, 2], [7, 4, 1]), ([-1, -1, -1], [-1, -1, -1]), ([], [])]
)
def test_what_is_not_there_comes_last(queries, found, best):
    asked, near = np.ones((queries, 2), np.float32), np.array([found] * queries, np.int64).reshape(queries, -1)

    scores, rows = rescored(asked, near, lambda some: np.ones((len(some), 2), np.float32), 3)

    assert rows.tolist() == [best] * queries
    assert scores.tolist() == [[-np.inf if row < 0 else 2 for row in best]] * queries


def test_training_is_silent_and_an_index_is_the_same_each_time(random_units, capfd):
    vectors = random_units(300)

    for factory in factories(300, 16):
        one, other = (built(factory, vectors, np.arange(300), seed=3) for _ in range(2))
        choice = Choice(factory, 8, 4)
        assert np.array_equal(candidates(one, choice, vectors, 3), candidates(other, choice, vectors, 3))
        assert size(one) == len(faiss.serialize_index(one))

    assert capfd.readouterr().err == ""


def test_a_graph_over_the_lists_files_vectors_where_they_belong(random_units):
    vectors = random_units(8000, dim=64)

    index = built("IVF2048_HNSW32,Flat", vectors, np.arange(len(vectors)))

    inverted = faiss.downcast_index(index)
    filed = np.empty(len(vectors), np.int64)
    for number in range(inverted.nlist):
        ids = faiss.rev_swig_ptr(inverted.invlists.get_ids(number), inverted.invlists.list_size(number))
        filed[ids] = number
    centroids = inverted.quantizer.reconstruct_n(0, inverted.nlist)
    assert (filed == (vectors @ centroids.T).argmax(axis=1)).mean() > 0.998
