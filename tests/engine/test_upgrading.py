from __future__ import annotations

import json
import sqlite3

import pytest
import torch

from engine.embedder import Embedder
from engine.preprocessing import Preprocessing
from engine.recognizer import Recognizer
from engine.upgrading import upgrade_gallery
from engine.weights import save_checkpoint
from indexer import folder
from indexer.errors import EmbedderMismatch, GalleryMissing, WeightsError


@pytest.fixture
def newer(tmp_path):
    torch.manual_seed(7)
    path = tmp_path / "newer.safetensors"
    embedder = Embedder("tiny", dim=12, preprocessing=Preprocessing.whole(36)).eval()
    save_checkpoint(path, embedder, torch.nn.Module(), {"recipe": "contrastive"})
    return path


@pytest.fixture
def birds(photos, weights, tmp_path):
    with Recognizer.create(tmp_path / "birds", weights=weights) as birds:
        birds.index(photos)
    return tmp_path / "birds"


def test_an_upgraded_gallery_answers_as_one_indexed_with_the_new_weights(birds, photos, newer, tmp_path):
    report = upgrade_gallery(birds, weights=newer)

    with Recognizer.create(tmp_path / "fresh", weights=newer) as fresh, Recognizer.open(birds) as upgraded:
        fresh.index(photos)
        assert report.embedded == len(fresh.gallery) == len(upgraded.gallery)
        assert upgraded.gallery.embedder == {"weights": str(newer)}
        for image in sorted(photos.rglob("*.*"))[::3]:
            expected = [(match.name, match.score) for match in fresh.recognize(image).matches]
            found = [(match.name, match.score) for match in upgraded.recognize(image).matches]
            assert [name for name, _ in found] == [name for name, _ in expected]
            assert [score for _, score in found] == pytest.approx([score for _, score in expected], abs=1e-5)


def test_the_command_does_what_the_library_does(run, birds, newer, weights):
    code, out, _ = run("upgrade", "-g", birds, "--weights", newer, "--json")
    told = json.loads(out)

    assert code == 0
    assert (told["embedded"], told["mapped"], told["dropped"], told["loss"], told["revision"]) == (12, 0, 0, None, 2)
    with Recognizer.open(birds) as upgraded:
        assert upgraded.embedder.dim == 12
        upgraded.gallery.undo()
    with Recognizer.open(birds) as old:
        assert old.gallery.embedder == {"weights": str(weights)}
    with pytest.raises(EmbedderMismatch):
        Recognizer.open(birds, weights=newer)


def test_what_was_mapped_is_marked_wherever_it_is_printed(run, birds, photos):
    image = sorted(photos.rglob("*.*"))[0]
    with sqlite3.connect(birds / "catalog.sqlite") as catalog:
        catalog.execute("UPDATE embeddings SET mapped = 1 WHERE image_id = 1")
    (birds / folder.KNOWN).unlink()
    with Recognizer.open(birds) as opened:
        marked = opened.gallery.references()[0].hash
        (reference,) = [
            one.reference
            for name in opened.gallery.classes()
            for one in opened.gallery.describe(name).references
            if one.hash == marked
        ]
        assert [hit.reference for hit in opened.search(image, k=99) if hit.mapped] == [reference]
        assert [match.reference for match in opened.recognize(reference).matches if match.mapped] == [reference]

    for command, key in (("search", "hits"), ("recognize", "matches")):
        found = json.loads(run(command, reference, "-g", birds, "--json")[1])[key]
        assert [one["reference"] for one in found if one.get("mapped")] == [reference]
        (told,) = (line for line in run(command, reference, "-g", birds)[1].splitlines() if "(mapped)" in line)
        assert f" {reference} (mapped)" in told


def test_what_embedded_the_images_is_told_of_each_and_of_all(run, birds, photos, newer, tmp_path):
    done = json.loads(run("index", photos, "-g", tmp_path / "again", "--weights", newer, "--json")[1])
    upgrade_gallery(birds, weights=newer)

    assert done["runtime"] == "torch-float32"
    for gallery in (tmp_path / "again", birds):
        assert json.loads(run("status", "-g", gallery, "--json")[1])["runtimes"] == [
            {"name": "torch-float32", "cosine": 1.0}
        ]
        with Recognizer.open(gallery) as opened:
            names = list(opened.gallery.classes())
        for name in names:
            found = json.loads(run("show", name, "-g", gallery, "--json")[1])["references"]
            assert {one["runtime"] for one in found} == {"torch-float32"}
            assert run("show", name, "-g", gallery)[1].count("torch-float32") == len(found)


def test_where_nobody_said_what_made_a_vector_nothing_is_told(birds):
    with sqlite3.connect(birds / "catalog.sqlite") as catalog:
        catalog.execute("UPDATE embeddings SET runtime_id = NULL WHERE id = 1")
    with Recognizer.open(birds) as opened:
        told = [one.runtime for name in opened.gallery.classes() for one in opened.gallery.describe(name).references]

    assert sorted(told, key=str) == [None] + ["torch-float32"] * 11


def test_what_cannot_be_is_told_in_one_line(run, birds, photos, newer, tmp_path):
    with pytest.raises(GalleryMissing):
        upgrade_gallery(tmp_path / "nowhere", weights=newer)
    with pytest.raises(WeightsError):
        upgrade_gallery(birds, weights=tmp_path / "nothing")
    next(photos.rglob("*.*")).unlink()

    code, out, line = run("upgrade", "--gallery", birds, "--weights", newer, "--json")

    assert (code, out, line.count("\n")) == (1, "", 1)
    assert "--drop-missing" in line
    assert upgrade_gallery(birds, weights=newer, drop_missing=True).dropped == 1
