"""`firstsight evaluate` has no behaviour of its own: the library call is the oracle."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
import torch
from PIL import Image

from engine.evaluation import evaluate_folder
from engine.recognizer import Recognizer

torch.set_num_threads(1)


@pytest.fixture
def gallery(photos, weights, tmp_path):
    path = tmp_path / "photos.gallery"
    with Recognizer.create(path, weights=weights, device="cpu") as made:
        made.index(photos)
    return path


@pytest.fixture
def unseen(photos, tmp_path):
    """Photos of the four classes, one of them in the wrong folder, and one of a class that nobody knows."""
    folder = tmp_path / "unseen"
    for name, shown in [("red", "red"), ("green", "green"), ("blue", "blue"), ("grey", "red"), ("owl", "grey")]:
        (folder / name).mkdir(parents=True)
        Image.open(photos / shown / "0.png").rotate(15).save(folder / name / "0.png")
    return folder


def test_json_is_one_object_that_says_what_the_library_says(run, gallery, unseen):
    code, out, err = run("evaluate", unseen, "--gallery", gallery, "--json")

    found = json.loads(out)
    with Recognizer.open(gallery) as recognizer:
        expected = asdict(evaluate_folder(recognizer, unseen))
    assert (code, err, out.count("\n")) == (0, "", 1)
    assert set(found) == set(expected)
    assert found["recall_at_k"] == {str(k): share for k, share in expected["recall_at_k"].items()}
    for key in set(expected) - {"recall_at_k", "seconds"}:
        assert found[key] == expected[key], key
    assert found["recall_at_k"]["1"]["share"] == 0.75
    assert found["confusions"] == [{"true": "grey", "answered": "red", "count": 1}]


def test_people_read_the_figures_the_worst_class_what_it_is_taken_for_and_what_was_not_asked(run, gallery, unseen):
    (unseen / "red" / "broken.png").write_bytes(b"no image")

    code, out, err = run("evaluate", unseen, "--gallery", gallery)

    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert code == 0
    assert "recall@1 75.0 % 30.1 % to 95.4 %" in lines
    assert "recall@5 100.0 % 51.0 % to 100.0 %" in lines
    assert any(line.startswith("mAP@R ") for line in lines)
    assert any(line.startswith("R-precision ") for line in lines)
    assert "grey 1 0 0.0 %" in lines
    assert "grey red 1" in lines
    assert "left out: red/broken.png: " in err
    assert "not asked: 1 images of owl" in err


def test_classes_several_folders_deep_are_named_as_they_were_indexed(run, photos, weights, unseen, tmp_path):
    deep = tmp_path / "deep"
    deep.mkdir()
    photos.rename(deep / "colours")
    (tmp_path / "asked").mkdir()
    unseen.rename(tmp_path / "asked" / "colours")
    with Recognizer.create(tmp_path / "d.gallery", weights=weights, device="cpu") as made:
        made.index(deep, class_depth=2)

    shallow = run("evaluate", tmp_path / "asked", "--gallery", tmp_path / "d.gallery")
    code, out, _ = run(
        "evaluate", tmp_path / "asked", "--gallery", tmp_path / "d.gallery", "--class-depth", 2, "--json"
    )

    assert code == 0
    assert [one["name"] for one in json.loads(out)["per_class"]] == [
        f"colours/{c}" for c in ("blue", "green", "grey", "red")
    ]
    assert (shallow[0], shallow[1], shallow[2].count("\n")) == (1, "", 1)


@pytest.mark.parametrize(
    ("folder", "gallery_path"),
    [("photos", "photos.gallery"), ("nowhere", "photos.gallery"), ("unseen", "none.gallery")],
)
@pytest.mark.usefixtures("gallery", "unseen")
def test_references_themselves_no_folder_and_no_gallery_are_refused_in_one_line(run, tmp_path, folder, gallery_path):
    code, out, err = run("evaluate", tmp_path / folder, "--gallery", tmp_path / gallery_path, "--json")

    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("firstsight: ")
