"""What a gallery is measured by; the oracle is a loop over every query and every reference."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from engine import evaluation as evaluation_module
from engine.evaluation import evaluate, evaluate_folder
from engine.recognizer import Recognizer
from indexer.errors import ArgumentError, SourceError
from indexer.gallery import Gallery

torch.set_num_threads(1)
DIM = 6


def units(count, seed):
    vectors = np.random.default_rng(seed).normal(size=(count, DIM))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def learn(gallery, name, vectors):
    gallery.add(name, [(f"{name} {row}", None, vector) for row, vector in enumerate(vectors)])


@pytest.fixture
def gallery(tmp_path):
    with Gallery.create(tmp_path / "g.gallery", dim=DIM, fingerprint="toy") as made:
        yield made


@pytest.fixture
def known(gallery):
    """Seven classes of one to seven references."""
    known = {f"class {size}": units(size, size) for size in range(1, 8)}
    for name, vectors in known.items():
        learn(gallery, name, vectors)
    return known


QUERIES = units(40, 99)
NAMES = [f"class {1 + row % 7}" for row in range(40)]


def ranked_classes(known, query):
    means = {name: vectors.sum(0) / np.linalg.norm(vectors.sum(0)) for name, vectors in known.items()}
    return sorted(means, key=lambda name: -float(means[name] @ query))


def ranked_references(known, query):
    every = [(float(vector @ query), name) for name, vectors in known.items() for vector in vectors]
    return [name for _, name in sorted(every, reverse=True)]


def test_recall_at_k_is_the_share_of_queries_whose_class_is_among_the_first_k(gallery, known):
    found = evaluate(gallery, QUERIES, NAMES, ks=(1, 2, 5, 10))

    ranks = [ranked_classes(known, query).index(name) for query, name in zip(QUERIES, NAMES, strict=True)]
    assert found.queries == 40
    assert found.classes == 7
    assert list(found.recall_at_k) == [1, 2, 5, 10]
    for k, share in found.recall_at_k.items():
        assert share.share == pytest.approx(sum(rank < k for rank in ranks) / 40)
        assert share.low <= share.share <= share.high


def test_map_at_r_and_r_precision_are_musgraves(gallery, known):
    found = evaluate(gallery, QUERIES, NAMES)

    precisions, averages = [], []
    for query, name in zip(QUERIES, NAMES, strict=True):
        r, right, average = len(known[name]), 0, 0.0
        for place, other in enumerate(ranked_references(known, query)[:r], start=1):
            if other == name:
                right += 1
                average += right / place
        precisions.append(right / r)
        averages.append(average / r)
    assert 0 < found.map_at_r < found.r_precision < 1
    assert found.r_precision == pytest.approx(np.mean(precisions))
    assert found.map_at_r == pytest.approx(np.mean(averages))


def test_confusions_and_classes_add_up_to_the_queries(gallery, known):
    found = evaluate(gallery, QUERIES, NAMES)

    answers = [ranked_classes(known, query)[0] for query in QUERIES]
    pairs = [(true, answer) for true, answer in zip(NAMES, answers, strict=True) if true != answer]
    assert {(one.true, one.answered): one.count for one in found.confusions} == {
        pair: pairs.count(pair) for pair in pairs
    }
    counts = [one.count for one in found.confusions]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[-1]
    assert [one.name for one in found.per_class] == sorted(set(NAMES))
    for one in found.per_class:
        assert one.queries == NAMES.count(one.name)
        assert one.queries - one.right == sum(pair[0] == one.name for pair in pairs)


def test_figures_do_not_depend_on_how_many_queries_are_asked_at_once(gallery, known, monkeypatch):
    at_once = evaluate(gallery, QUERIES, NAMES)
    monkeypatch.setattr(evaluation_module, "HITS", 1)
    one_by_one = evaluate(gallery, QUERIES, NAMES)

    assert one_by_one.map_at_r == pytest.approx(at_once.map_at_r)
    assert one_by_one.recall_at_k == at_once.recall_at_k
    assert one_by_one.confusions == at_once.confusions


def test_a_learned_score_orders_the_classes_and_leaves_the_references(gallery, known):
    by_cosine = evaluate(gallery, QUERIES, NAMES)
    upside_down = evaluate(gallery, QUERIES, NAMES, score=lambda query, prototypes: -prototypes @ query)

    last = [ranked_classes(known, query)[-1] == name for query, name in zip(QUERIES, NAMES, strict=True)]
    assert upside_down.recall_at_k[1].share == pytest.approx(np.mean(last))
    assert upside_down.per_class != by_cosine.per_class
    assert upside_down.map_at_r == by_cosine.map_at_r


def test_queries_of_a_class_that_the_gallery_lacks_are_counted_apart(gallery, known):
    alone = evaluate(gallery, QUERIES[:20], NAMES[:20])
    among = evaluate(gallery, QUERIES, NAMES[:20] + ["owl"] * 13 + ["elk"] * 7)

    assert among.without_class == {"elk": 7, "owl": 13}
    assert (among.queries, among.recall_at_k, among.map_at_r) == (20, alone.recall_at_k, alone.map_at_r)


def test_queries_all_of_classes_that_the_gallery_lacks_are_refused(gallery, known):
    with pytest.raises(ArgumentError, match=r"none of the 2 classes .*'class 1'"):
        evaluate(gallery, QUERIES, ["owl", "elk"] * 20)


def test_an_empty_gallery_no_queries_and_missing_names_are_refused(gallery):
    with pytest.raises(ArgumentError, match="empty"):
        evaluate(gallery, QUERIES, NAMES)
    learn(gallery, "class 1", units(1, 1))
    with pytest.raises(ArgumentError):
        evaluate(gallery, QUERIES[:0], [])
    with pytest.raises(ArgumentError, match="39"):
        evaluate(gallery, QUERIES, NAMES[:39])
    with pytest.raises(ArgumentError, match="k is"):
        evaluate(gallery, QUERIES, NAMES, ks=(0,))


# -- folders -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def recognizer(photos, weights, tmp_path):
    with Recognizer.create(tmp_path / "photos.gallery", weights=weights, device="cpu") as made:
        made.index(photos)
        yield made


@pytest.fixture
def unseen(photos, tmp_path):
    """The photos turned a little: new contents of the same classes."""
    folder = tmp_path / "unseen"
    for path in photos.glob("*/*.png"):
        (folder / path.parent.name).mkdir(parents=True, exist_ok=True)
        Image.open(path).rotate(20).save(folder / path.parent.name / path.name)
    return folder


def test_a_folder_is_measured_as_its_embeddings_are(recognizer, unseen):
    files = sorted(unseen.glob("*/*.png"))
    steps = []

    found = evaluate_folder(recognizer, unseen, batch_size=5, progress=lambda *step: steps.append(step))

    expected = evaluate(recognizer.gallery, recognizer.embedder.embed(files), [path.parent.name for path in files])
    assert (found.queries, found.classes, found.known_already, found.failed) == (12, 4, 0, [])
    assert found.recall_at_k == expected.recall_at_k
    assert found.confusions == expected.confusions
    assert found.per_class == expected.per_class
    assert (found.map_at_r, found.r_precision) == pytest.approx((expected.map_at_r, expected.r_precision))
    assert steps[0] == ("evaluating", 0, 12)
    assert steps[-1] == ("evaluating", 12, 12)


def test_images_that_are_references_themselves_are_not_asked(recognizer, unseen, photos):
    before = evaluate_folder(recognizer, unseen)
    shutil.copy(photos / "red" / "0.png", unseen / "red" / "a copy.png")
    shutil.copy(photos / "red" / "1.png", unseen / "blue" / "of another class.png")

    after = evaluate_folder(recognizer, unseen)

    assert after.known_already == 2
    assert (after.queries, after.recall_at_k, after.map_at_r) == (before.queries, before.recall_at_k, before.map_at_r)


def test_what_cannot_be_asked_is_listed(recognizer, unseen):
    (unseen / "red" / "broken.png").write_bytes(b"no image")
    shutil.copytree(unseen / "grey", unseen / "owl")

    found = evaluate_folder(recognizer, unseen)

    assert [failure.path for failure in found.failed] == ["red/broken.png"]
    assert found.without_class == {"owl": 3}
    assert found.queries == 12


def test_a_recognizers_learned_score_decides(recognizer, unseen):
    cosine = evaluate_folder(recognizer, unseen)
    recognizer.score = lambda query, prototypes: -prototypes @ query

    learned = evaluate_folder(recognizer, unseen)

    assert cosine.recall_at_k[1].share > 0.9
    assert learned.recall_at_k[1].share < 0.1


@pytest.mark.parametrize("case", ["references", "strangers", "unreadable", "empty gallery"])
def test_a_folder_that_measures_nothing_is_refused(case, recognizer, unseen, photos):
    folder = photos if case == "references" else unseen
    if case == "strangers":
        for path in list(unseen.iterdir()):
            path.rename(unseen / f"other {path.name}")
    if case == "unreadable":
        for path in unseen.glob("*/*.png"):
            path.write_bytes(b"no image")
    if case == "empty gallery":
        for name in recognizer.gallery.classes():
            recognizer.forget(name)

    with pytest.raises(SourceError, match=case.split()[0] if case in ("references", "empty gallery") else "other|read"):
        evaluate_folder(recognizer, folder)
