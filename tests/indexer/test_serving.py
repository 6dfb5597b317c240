"""References searched by an approximate index are those of the gallery as it is now, and scored exactly."""

from __future__ import annotations

import logging
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer import folder, searched, serving
from indexer.approximate import Choice, built
from indexer.faiss_index import FaissIndex
from indexer.gallery import Gallery
from indexer.history import Coming
from indexer.nearby import Base, Nearby
from indexer.reader import Stamp
from indexer.trials import Promise

DIM = 16
TRIED = Promise(0.9, latency_ms=0)


pytestmark = pytest.mark.usefixtures("eager")


def unit(vectors):
    return np.ascontiguousarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def photos(count, seed):
    """Vectors of 100 classes, and their hashes."""
    draw = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(100, DIM))
    labels = draw.integers(0, 100, count)
    return unit(centres[labels] + 0.6 * draw.normal(size=(count, DIM))), labels


def learn(gallery, count, seed):
    vectors, labels = photos(count, seed)
    hashes = [f"{seed:032x}{row:032x}" for row in range(count)]
    gallery.stage(hashes, vectors)
    come = [Coming(f"class {label}", hash, None, hash) for label, hash in zip(labels, hashes, strict=True)]
    gallery.revise("index", "", leave=[], come=come)


@pytest.fixture
def birds(tmp_path):
    """A gallery of 2,000 references that are searched approximately."""
    with Gallery.create(tmp_path / "birds.gallery", dim=DIM, fingerprint="made") as gallery:
        learn(gallery, 2000, seed=1)
        assert gallery.tune(TRIED, apply=True).winner is not None
        yield gallery


def truth(gallery, queries, k):
    """What brute force over the catalog's vectors answers: (reference, score), best first."""
    snapshot = gallery._views.ask(lambda snapshot: snapshot)
    ids = snapshot.references.ids
    scores = queries.astype(np.float64) @ snapshot.references.all_vectors().T.astype(np.float64)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return [
        [(snapshot.known[ids[row]].shown, one[row]) for row in rows]
        for one, rows in zip(scores, best.tolist(), strict=True)
    ]


def recall(gallery, queries, k=10):
    """The share of the true neighbours that a gallery names; what it names must have its true score."""
    found, known = gallery.search_references(queries, k=k), truth(gallery, queries, k)
    shares = []
    for hits, best in zip(found, known, strict=True):
        scores = dict(best)
        assert len(hits) == len(best)
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        for hit in hits:
            if hit.reference in scores:
                assert hit.score == pytest.approx(scores[hit.reference], abs=1e-6)
        shares.append(np.mean([hit.reference in scores for hit in hits]))
    return float(np.mean(shares))


def approximate(gallery):
    return gallery.serving().kind != "Flat"


def test_what_was_tuned_serves_queries_and_keeps_its_promise(birds, monkeypatch):
    asked = []
    search = Nearby.search_rows
    monkeypatch.setattr(Nearby, "search_rows", lambda *facts: asked.append(len(facts[1])) or search(*facts))

    assert recall(birds, photos(200, seed=9)[0]) >= 0.9
    assert asked == [200]
    assert birds.serving().promise == TRIED


def test_what_comes_and_goes_is_seen_at_once(birds):
    queries, _ = photos(50, seed=8)
    learn(birds, 150, seed=2)
    birds.remove("class 3")
    birds.remove("class 5")
    birds.rename("class 7", "heron")

    found = birds.search_references(queries, k=10)

    assert not {hit.name for hits in found for hit in hits} & {"class 3", "class 5", "class 7"}
    assert recall(birds, queries) >= 0.9
    fresh, labels = photos(150, seed=2)
    for hits, row in zip(birds.search_references(fresh, k=1), range(150), strict=True):
        assert labels[row] in (3, 5) or hits[0].reference == f"{2:032x}{row:032x}"
    assert birds.verify() == []


def test_a_query_unlike_all_that_were_measured_is_answered_exactly(birds):
    far = unit(np.random.default_rng(0).normal(size=(300, DIM)))
    floor = birds._nearest["references"]._loaded().floor
    lonely = np.array([query for query, best in zip(far, truth(birds, far, 1), strict=True) if best[0][1] < floor])

    assert len(lonely) > 3
    assert recall(birds, lonely) == 1


def test_more_neighbours_than_were_promised_are_all_found(birds):
    assert recall(birds, photos(50, seed=7)[0], k=40) == 1


def test_another_opening_reads_the_index_when_it_is_worth_it(birds, monkeypatch):
    monkeypatch.setattr(serving, "PATIENCE", 5)
    read = []
    load = serving.nearby_file.load
    monkeypatch.setattr(serving.nearby_file, "load", lambda *a, **b: read.append(1) or load(*a, **b))
    with Gallery.open(birds.path) as again:
        assert (again.serving().kind, read) == (birds.serving().kind, [])
        for query in photos(5, seed=6)[0]:
            again.search_references(query)
        assert read == []
        assert recall(again, photos(100, seed=6)[0]) >= 0.9
        assert read == [1]


@pytest.mark.parametrize("place", [0, 0.3, 0.6, 0.95, 0.999])
def test_a_damaged_file_is_not_believed_and_search_is_exact(birds, place):
    path = birds.path / folder.NEARBY
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 1
    path.write_bytes(data)

    with Gallery.open(birds.path) as again:
        assert recall(again, photos(50, seed=5)[0]) == 1
        assert not approximate(again)


@pytest.mark.parametrize("keep", [0, 1, 40, 0.5, -1])
def test_a_file_that_is_cut_short_is_not_believed(birds, keep):
    path = birds.path / folder.NEARBY
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if isinstance(keep, float) else keep])

    with Gallery.open(birds.path) as again:
        assert recall(again, photos(50, seed=5)[0]) == 1


def test_the_index_of_another_gallery_is_not_believed(birds, tmp_path):
    with Gallery.create(tmp_path / "other.gallery", dim=DIM, fingerprint="made") as other:
        learn(other, 300, seed=4)
        (other.path / folder.NEARBY).write_bytes((birds.path / folder.NEARBY).read_bytes())

        assert recall(other, photos(50, seed=5)[0]) == 1
        assert not approximate(other)


def test_when_a_tenth_has_changed_an_index_of_the_same_kind_is_built_beside_the_queries(birds):
    before = birds._nearest["references"]._loaded()
    learn(birds, 400, seed=3)

    assert recall(birds, photos(50, seed=5)[0]) >= 0.85
    birds._nearest["references"]._builder.join()

    after = birds._nearest["references"]._loaded()
    assert after is not before
    assert after.choice.factory == before.choice.factory
    assert sorted(after.ids.tolist()) == list(range(1, 2401))
    with Gallery.open(birds.path) as again:
        assert recall(again, photos(50, seed=5)[0]) >= 0.9
        assert sorted(again._nearest["references"]._loaded().ids.tolist()) == sorted(after.ids.tolist())


def test_closing_ends_what_is_being_built(birds, monkeypatch):
    def endless(*_, progress, **__):
        while True:
            progress("", 0, 1)
            time.sleep(0.01)

    learn(birds, 400, seed=3)
    file = (birds.path / folder.NEARBY).read_bytes()
    monkeypatch.setattr(searched, "tune", endless)
    birds.search_references(photos(1, seed=5)[0])
    assert birds._nearest["references"]._builder.is_alive()

    birds.close()

    assert not birds._nearest["references"]._builder.is_alive()
    assert (birds.path / folder.NEARBY).read_bytes() == file


def test_live_queries_are_checked_and_a_broken_promise_ends_in_exact_search(birds, monkeypatch, caplog):
    monkeypatch.setattr(serving, "CHECKED_EACH", 1)
    monkeypatch.setattr(serving, "CHECKING_SHARE", 1e9)
    queries, _ = photos(60, seed=5)
    for query in queries[:20]:
        birds.search_references(query)
    assert birds.serving().checked == 20
    assert birds.serving().ann_recall >= 0.9

    blind = birds._nearest["references"]._loaded()
    hidden = Base(
        Choice(blind.choice.factory, 8), blind.index, blind.ids[::-1], blind.stamp, TRIED, -1.0
    )  # rows of other references
    birds._nearest["references"]._base = hidden
    with caplog.at_level(logging.WARNING):
        for query in queries:
            birds.search_references(query)

    assert "tune" in caplog.text
    assert not approximate(birds)
    assert recall(birds, queries) == 1


def test_checks_take_no_more_than_their_share_of_the_time(birds, monkeypatch):
    monkeypatch.setattr(serving, "CHECKED_EACH", 1)
    monkeypatch.setattr(serving, "CHECKING_SHARE", 0.0)
    for query in photos(30, seed=5)[0]:
        birds.search_references(query)

    assert birds.serving().checked <= 1


def test_a_tuning_that_nothing_wins_brings_exact_search_back(birds):
    assert approximate(birds)

    birds.tune(Promise(latency_ms=1e9), apply=True)

    assert not approximate(birds)
    assert not (birds.path / folder.NEARBY).exists()
    assert recall(birds, photos(50, seed=5)[0]) == 1


def test_an_emptied_gallery_finds_nothing_and_a_few_left_are_all_found(birds):
    *rest, last = birds.classes()
    for name in rest:
        birds.remove(name)
    queries, _ = photos(5, seed=5)
    assert recall(birds, queries, k=5) == 1
    birds.remove(last)
    assert birds.search_references(queries) == [[]] * 5


# -- one version -------------------------------------------------------------------------------------------------------


@given(
    st.sets(st.integers(0, 299), max_size=299),
    st.integers(0, 60),
    st.integers(1, 12),
    st.sampled_from(["HNSW16,SQfp16", "IVF16,SQ8", "IVF16,PQ4x4fs,Refine(SQ8)", "IVF16,RaBitQfs,Refine(SQ8)"]),
)
@settings(max_examples=25)
def test_whatever_came_and_went_what_is_found_is_alive_and_truly_scored(gone, came, k, factory):
    vectors, _ = photos(360, seed=1)
    index = built(factory, vectors, np.arange(300))
    base = Base(Choice(factory, 16, 16), index, np.arange(1000, 1300), Stamp(1, ""), Promise(0.9, 10, 0), floor=-1.0)
    exact = FaissIndex(DIM).adding(range(1000, 1300), vectors[:300]).without({1000 + id for id in gone})
    exact = exact.adding(range(2000, 2000 + came), vectors[300 : 300 + came])
    queries, _ = photos(5, seed=3)

    scores, rows = Nearby(base, exact).search_rows(queries, k)

    ids = exact.ids_at(rows)
    alive = set(range(1000, 1300)) - {1000 + id for id in gone} | set(range(2000, 2000 + came))
    assert rows.shape == (5, min(k, len(alive)))
    assert set(ids.ravel().tolist()) <= alive
    assert all(len(set(one)) == len(one) for one in ids.tolist())
    known = np.array([vectors[id - 1000] if id < 2000 else vectors[id - 1700] for id in ids.ravel()]).reshape(
        *ids.shape, -1
    )
    np.testing.assert_allclose(scores, np.einsum("nkd,nd->nk", known, queries) if ids.size else scores, atol=1e-5)
    assert (np.diff(scores, axis=1) <= 0).all()
    if came:
        best = (queries @ vectors[300 : 300 + came].T).max(axis=1)
        assert (scores[:, 0] >= best - 1e-5).all()
