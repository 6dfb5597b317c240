from __future__ import annotations

import io
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import engine
from engine.answers import matches_from
from engine.embedder import Embedder
from engine.preprocessing import Preprocessing
from engine.recognizer import Recognizer, index_folder
from indexer.errors import (
    ArgumentError,
    ClassExists,
    EmbedderMismatch,
    FirstsightError,
    GalleryExists,
    GalleryMissing,
    ImageError,
    SourceError,
    WeightsError,
)
from indexer.search import ClassHits


@pytest.fixture
def recognizer(photos, weights, tmp_path):
    with Recognizer.create(tmp_path / "g.gallery", weights=weights, device="cpu") as made:
        made.index(photos)
        yield made


def paths(photos):
    return [str(path) for path in sorted(photos.glob("*/*.png"))]


def test_the_public_names_are_one_reviewed_list():
    assert engine.__all__ == sorted(engine.__all__)
    assert all(hasattr(engine, name) for name in engine.__all__)
    assert set(engine._HOMES) == set(engine.__all__)
    assert not hasattr(engine, "recogniser")


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_answers_are_the_nearest_prototypes_by_brute_force(recognizer, photos, metric):
    known = {folder.name: recognizer.embedder.embed(sorted(folder.iterdir())) for folder in sorted(photos.iterdir())}
    prototypes = {name: v.mean(0) / np.linalg.norm(v.mean(0)) for name, v in known.items()}

    for path in paths(photos):
        query = recognizer.embedder.embed(path)[0]
        cosine = {name: float(query @ prototype) for name, prototype in prototypes.items()}
        apart = {name: float(np.linalg.norm(query - prototype)) for name, prototype in prototypes.items()}
        answer = recognizer.recognize(path, k=3, metric=metric)

        assert [match.name for match in answer.matches] == sorted(cosine, key=cosine.get, reverse=True)[:3]
        assert answer.name == answer.matches[0].name
        for match in answer.matches:
            distance = 1 - cosine[match.name] if metric == "cosine" else apart[match.name]
            score = cosine[match.name] if metric == "cosine" else -apart[match.name]
            assert match.distance == pytest.approx(distance, abs=1e-5)
            assert match.score == pytest.approx(score, abs=1e-5)
            best = (known[match.name] @ query).argmax()
            assert match.reference == str(photos / match.name / f"{best}.png")


def test_the_nearest_references_are_those_of_brute_force(recognizer, photos):
    everything = paths(photos)
    known = recognizer.embedder.embed(everything)
    query = Image.open(everything[5]).rotate(7)

    hits = recognizer.search(query, k=6)

    scores = known @ recognizer.embedder.embed(query)[0]
    order = np.argsort(-scores)[:6]
    assert [hit.reference for hit in hits] == [everything[i] for i in order]
    np.testing.assert_allclose([hit.score for hit in hits], scores[order], atol=1e-5)


def test_a_reference_finds_itself(recognizer, photos):
    for path in paths(photos):
        best = recognizer.search(path, k=1)[0]
        assert best.reference == path
        assert best.score == pytest.approx(1, abs=1e-5)


def test_probabilities_add_up_over_all_classes_and_fall_with_the_rank(recognizer, photos):
    answer = recognizer.recognize(paths(photos)[0], k=10)

    shares = [match.probability for match in answer.matches]
    assert sum(shares) == pytest.approx(1)
    assert shares == sorted(shares, reverse=True)


def test_a_probability_does_not_depend_on_how_many_classes_are_asked_for(recognizer, photos):
    few, many = (recognizer.recognize(paths(photos)[0], k=k).matches[0].probability for k in (1, 4))

    assert few == pytest.approx(many, rel=1e-5)  # the cosines beyond k are FAISS's, in float32


def test_an_empty_list_of_hits_gives_no_matches():
    assert matches_from(ClassHits([], np.empty(0, np.float32))) == []


def test_one_image_gives_one_answer_and_a_list_a_list(recognizer, photos):
    path = paths(photos)[0]
    image = Image.open(path)
    ways = [path, image, np.array(image), (photos / path).read_bytes(), io.BytesIO((photos / path).read_bytes())]

    single = [recognizer.recognize(way) for way in ways]
    listed = recognizer.recognize(ways[:2])

    assert len({answer.name for answer in [*single, *listed]}) == 1
    assert single[0].image == path
    assert single[1].image is None
    assert recognizer.recognize([]) == []
    assert len(recognizer.search([path, path], k=2)) == 2


def test_a_long_list_is_answered_in_order(recognizer, photos):
    many = paths(photos) * 6

    assert [answer.image for answer in recognizer.recognize(many)] == many


def test_a_bad_image_in_a_list_raises_or_stands_in_its_place(recognizer, photos, tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no image")
    images = [paths(photos)[0], str(bad), paths(photos)[5]]

    with pytest.raises(ImageError, match=r"bad\.jpg"):
        recognizer.recognize(images)
    first, error, last = recognizer.recognize_each(images)

    assert isinstance(error, ImageError)
    assert (first.image, last.image) == (images[0], images[2])
    assert all(isinstance(one, ImageError) for one in recognizer.search_each([str(bad)]))


def test_a_class_is_learnt_from_one_image_renamed_and_forgotten(recognizer, tmp_path):
    Image.new("RGB", (40, 40), (255, 255, 0)).save(tmp_path / "sun.png")

    recognizer.learn("sun", str(tmp_path / "sun.png"))
    assert recognizer.recognize(str(tmp_path / "sun.png")).name == "sun"
    assert recognizer.recognize(str(tmp_path / "sun.png")).matches[0].reference == str(tmp_path / "sun.png")

    recognizer.rename("sun", "the sun")
    assert recognizer.recognize(str(tmp_path / "sun.png")).name == "the sun"

    recognizer.forget("the sun")
    assert "the sun" not in {match.name for match in recognizer.recognize(str(tmp_path / "sun.png"), k=99).matches}


def test_an_image_without_a_path_is_named_by_its_content(recognizer):
    yellow = Image.new("RGB", (40, 40), (255, 255, 0))

    recognizer.learn("sun", yellow)

    assert recognizer.search(yellow, k=1)[0].reference.startswith("sha256:")


def test_of_several_images_to_learn_one_bad_one_changes_nothing(recognizer, tmp_path):
    before = recognizer.gallery.revision

    with pytest.raises(ImageError):
        recognizer.learn("sun", [Image.new("RGB", (40, 40)), str(tmp_path / "missing.png")])

    assert recognizer.gallery.revision == before


def test_a_class_that_differs_only_by_case_is_refused(recognizer):
    with pytest.raises(ClassExists):
        recognizer.learn("RED", Image.new("RGB", (40, 40)))


@pytest.mark.parametrize("wrong", [{"k": 0}, {"k": -3}, {"metric": "manhattan"}])
def test_wrong_arguments_are_refused(recognizer, photos, wrong):
    with pytest.raises(ArgumentError):
        recognizer.recognize(paths(photos)[0], **wrong)


def test_a_gallery_answers_the_same_after_it_was_closed_and_opened_and_lost_its_views(recognizer, photos, tmp_path):
    before = recognizer.recognize(paths(photos), k=4)
    recognizer.close()

    def again():
        with Recognizer.open(tmp_path / "g.gallery") as opened:
            return opened.recognize(paths(photos), k=4)

    assert again() == before
    for view in (tmp_path / "g.gallery").glob("*.faiss"):
        view.write_bytes(view.read_bytes()[:100])
    assert again() == before
    for view in (tmp_path / "g.gallery").glob("*.faiss"):
        view.unlink()
    assert again() == before


def test_a_gallery_refuses_another_embedder(recognizer, tmp_path):
    torch.manual_seed(9)
    other = Embedder("tiny", preprocessing=Preprocessing.whole(32)).eval()

    with pytest.raises(EmbedderMismatch):
        Recognizer.open(tmp_path / "g.gallery", weights=other)


def test_weights_that_moved_are_found_where_the_user_says(recognizer, weights, tmp_path, photos):
    recognizer.close()
    moved = weights.rename(tmp_path / "moved.safetensors")

    with pytest.raises(WeightsError):
        Recognizer.open(tmp_path / "g.gallery")
    with Recognizer.open(tmp_path / "g.gallery", weights=moved) as opened:
        assert opened.recognize(paths(photos)[0]).name == "blue"


def test_a_gallery_finds_its_weights_again_with_the_size_they_are_shown_images_at(weights, tmp_path, photos):
    with Recognizer.create(tmp_path / "n.gallery", weights=f"{weights}@48", device="cpu") as made:
        made.index(photos)

    with Recognizer.open(tmp_path / "n.gallery") as opened:
        assert opened.embedder.preprocessing.size == 48
        assert opened.recognize(paths(photos)[0]).name == "blue"
    with pytest.raises(EmbedderMismatch):
        Recognizer.open(tmp_path / "n.gallery", weights=weights)


def test_creating_over_a_gallery_is_refused_and_opening_none_too(recognizer, weights, tmp_path):
    with pytest.raises(GalleryExists):
        Recognizer.create(tmp_path / "g.gallery", weights=weights)
    with pytest.raises(GalleryMissing):
        Recognizer.open(tmp_path / "none.gallery")


def test_indexing_a_folder_makes_the_gallery_if_there_is_none(photos, weights, tmp_path):
    first = index_folder(photos, tmp_path / "n.gallery", weights=weights)
    second = index_folder(photos, tmp_path / "n.gallery")

    assert (first.added, first.unchanged, first.classes, first.images) == (12, 0, 4, 12)
    assert (second.added, second.unchanged, second.revision) == (0, 12, first.revision)


@pytest.mark.parametrize("case", ["empty", "outside", "unreadable", "missing"])
def test_a_folder_that_cannot_be_indexed_leaves_no_gallery_behind(case, photos, weights, tmp_path):
    folder = {"missing": tmp_path / "nowhere"}.get(case, photos)
    if case in ("empty", "unreadable"):
        shutil.rmtree(photos)
        (photos / "red").mkdir(parents=True)
    if case == "unreadable":
        (photos / "red" / "a.jpg").write_bytes(b"no image")
    if case == "outside":
        Image.new("RGB", (8, 8)).save(photos / "outside.png")

    with pytest.raises(SourceError) as refused:
        index_folder(folder, tmp_path / "n.gallery", weights=weights)

    assert "\n" not in str(refused.value)
    assert not (tmp_path / "n.gallery").exists()


def test_a_folder_that_is_no_gallery_is_never_touched(photos, weights, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")

    with pytest.raises(GalleryExists):
        index_folder(photos, tmp_path / "thesis", weights=weights)
    with pytest.raises(GalleryExists):
        index_folder(photos, photos, weights=weights)

    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "years of work"
    assert len(list(photos.glob("*/*.png"))) == 12


def test_a_dry_run_makes_no_gallery(photos, weights, tmp_path):
    report = index_folder(photos, tmp_path / "n.gallery", weights=weights, dry_run=True)

    assert report.added == 12
    assert not (tmp_path / "n.gallery").exists()


def test_the_errors_are_one_tree():
    assert issubclass(ImageError, FirstsightError)
    assert issubclass(ArgumentError, ValueError)


def test_learning_keeps_a_thumbnail_when_asked(recognizer, photos):
    for number, thumbnails in enumerate((False, True)):
        recognizer.learn("new", str(photos / "red" / f"{number}.png"), thumbnails=thumbnails)

    kept = [recognizer.gallery.thumbnail(one.hash) for one in recognizer.gallery.describe("new").references]
    assert kept[0] is None
    assert kept[1].startswith(b"\xff\xd8")


def test_index_takes_pairs_of_a_name_and_an_image(embedder, photos, tmp_path):
    pairs = [(path.parent.name, Image.open(path)) for path in sorted(photos.glob("*/*.png"))]

    with Recognizer.create(tmp_path / "pairs.gallery", weights=embedder) as birds:
        report = birds.index(pairs)

        assert (report.added, report.classes) == (12, 4)
        assert birds.recognize(pairs[0][1]).name == pairs[0][0]
