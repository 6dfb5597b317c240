"""The command line has no behaviour of its own: the library call is the oracle."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from PIL import Image

from engine.recognizer import Recognizer
from indexer import gallery as gallery_module


@pytest.fixture
def birds(run, photos, weights, tmp_path):
    path = tmp_path / "birds.gallery"
    code, _, _ = run("index", photos, "--gallery", path, "--weights", weights)
    assert code == 0
    return path


def refused(result, status=1):
    """A refusal is one line on standard error, with nothing on standard output."""
    code, out, err = result
    assert code == status, err
    assert out == ""
    assert err.startswith("firstsight: ")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    return err


def test_index_json_is_one_object_with_the_agreed_keys(run, photos, weights, tmp_path):
    code, out, _ = run("index", photos, "--gallery", tmp_path / "g.gallery", "--weights", weights, "--json")

    report = json.loads(out)
    assert code == 0
    assert set(report) == {
        *("added", "changed", "moved", "renamed", "removed", "unchanged"),
        *("failed", "classes", "images", "revision", "seconds", "stations", "runtime"),
    }
    assert (report["added"], report["classes"], report["images"], report["failed"]) == (12, 4, 12, [])


def test_index_tells_once_what_a_query_waits_for(run, photos, weights, tmp_path, monkeypatch):
    path = tmp_path / "g.gallery"
    monkeypatch.setattr(gallery_module.Gallery, "slow", lambda _: {"references": 21.4, "prototypes": 9.6})
    told = "a query looks through all references in 21 ms and all prototypes in 10 ms: `firstsight tune --apply -g"

    assert told not in run("index", photos, "--gallery", path, "--weights", weights, "--dry-run")[1]
    assert f"{told} {path}`" in run("index", photos, "--gallery", path, "--weights", weights)[1]
    assert told not in run("index", photos, "--gallery", path)[1]


def test_version_is_that_of_the_project(run):
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert run("--version") == (0, f"firstsight {project['version']}\n", "")


def test_index_lists_what_it_left_out_and_goes_on(run, photos, weights, tmp_path):
    (photos / "red" / "broken.jpg").write_bytes(b"no image at all")

    code, out, err = run("index", photos, "--gallery", tmp_path / "g.gallery", "--weights", weights)
    _, again, _ = run("index", photos, "--gallery", tmp_path / "g.gallery", "--json")

    assert code == 0
    assert "12 added; 1 left out" in out
    assert "left out: red/broken.jpg: " in err
    assert [failure["path"] for failure in json.loads(again)["failed"]] == ["red/broken.jpg"]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_recognize_json_is_what_the_library_answers(run, birds, photos, metric):
    queries = [str(path) for path in sorted(photos.glob("*/0.png"))]

    code, out, _ = run("recognize", *queries, "--gallery", birds, "-k", 2, "--metric", metric, "--json")

    answers = [json.loads(line) for line in out.splitlines()]
    with Recognizer.open(birds) as recognizer:
        expected = recognizer.recognize(queries, k=2, metric=metric)
    assert code == 0
    assert [answer["image"] for answer in answers] == queries
    for answer, known in zip(answers, expected, strict=True):
        assert answer["name"] == known.name
        assert answer["metric"] == metric
        assert [m["name"] for m in answer["matches"]] == [m.name for m in known.matches]
        assert set(answer["matches"][0]) == {"name", "score", "distance", "probability", "reference"}
        assert answer["matches"][0]["score"] == pytest.approx(known.matches[0].score)


def test_an_image_that_cannot_be_read_gets_its_line_among_the_others(run, birds, photos, tmp_path):
    good = str(photos / "red" / "0.png")

    code, out, _ = run("recognize", good, tmp_path / "none.jpg", good, "--gallery", birds, "--json")

    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 1
    assert lines[0]["name"] == lines[2]["name"] == "red"
    assert set(lines[1]) == {"image", "error"}


def test_what_people_read_names_the_class_and_the_reference(run, birds, photos):
    code, out, _ = run("recognize", photos / "red" / "0.png", "--gallery", birds)

    assert code == 0
    assert "0.png: red" in out
    assert str(photos / "red" / "0.png") in out


def test_search_finds_the_image_itself(run, birds, photos):
    code, out, _ = run("search", photos / "red" / "0.png", "--gallery", birds, "-k", 3, "--json")

    hits = json.loads(out)["hits"]
    assert code == 0
    assert len(hits) == 3
    assert hits[0]["reference"] == str(photos / "red" / "0.png")
    assert run("search", photos / "red" / "0.png", "--gallery", birds)[0] == 0


def test_learn_rename_undo_forget_and_log(run, birds, tmp_path):
    Image.new("RGB", (40, 40), (255, 255, 0)).save(tmp_path / "sun.png")

    assert run("learn", "sun", tmp_path / "sun.png", "--gallery", birds)[0] == 0
    assert run("rename", "sun", "the sun", "--gallery", birds)[0] == 0
    assert json.loads(run("recognize", tmp_path / "sun.png", "-g", birds, "--json")[1])["name"] == "the sun"
    assert run("undo", "--gallery", birds)[0] == 0
    assert json.loads(run("recognize", tmp_path / "sun.png", "-g", birds, "--json")[1])["name"] == "sun"
    assert json.loads(run("forget", "sun", "--gallery", birds, "--json")[1])["removed"] == 1

    log = [json.loads(line) for line in run("log", "--gallery", birds, "--json")[1].splitlines()]
    assert [entry["action"] for entry in log] == ["forget", "undo", "rename", "learn", "index"]
    assert run("log", "--gallery", birds)[0] == 0


def test_status_and_verify_tell_of_a_sound_gallery(run, birds):
    status = json.loads(run("status", "--gallery", birds, "--json")[1])

    assert (status["classes"], status["images"], status["revision"]) == (4, 12, 1)
    assert status["runtimes"] == [{"name": "torch-float32", "cosine": 1.0}]
    told = run("status", "--gallery", birds)[1]
    assert "classes" in told
    assert "torch-float32 (cosine 1.0000 to float32)" in told
    assert run("verify", "--gallery", birds) == (0, "the gallery is sound\n", "")
    assert json.loads(run("verify", "--gallery", birds, "--json")[1]) == {"sound": True, "broken": []}


def test_status_of_a_folder_is_what_a_dry_run_says(run, birds, photos):
    (photos / "red").rename(photos / "crimson")
    for number in range(12):
        (photos / "blue" / f"new {number:02}.png").write_bytes(b"%d" % number)
    (photos / "grey" / "0.png").unlink()

    status = json.loads(run("status", photos, "--gallery", birds, "--json")[1])
    dry = json.loads(run("index", photos, "--gallery", birds, "--dry-run", "--json")[1])
    code, out, _ = run("status", photos, "--gallery", birds)

    assert {**status, "seconds": 0} == {**dry, "seconds": 0}
    assert status["renamed"] == [{"old": "red", "new": "crimson", "images": 3}]
    assert status["paths"] == {
        "added": [f"blue/new {number:02}.png" for number in range(12)],
        "changed": [],
        "moved": [],
        "removed": ["grey/0.png"],
    }
    assert code == 0
    assert out.splitlines() == [
        "would be renamed class red -> crimson, 12 added, 1 removed, 8 unchanged; 0 left out",
        *(f"added    blue/new {number:02}.png" for number in range(10)),
        "added    and 2 more",
        "removed  grey/0.png",
    ]
    assert run("index", photos, "--gallery", birds, "--dry-run")[1].splitlines() == out.splitlines()
    kept = json.loads(run("status", photos, "--gallery", birds, "--keep-removed", "--json")[1])
    assert (kept["removed"], kept["paths"]["removed"]) == (0, [])
    refused(run("status", photos / "none", "--gallery", birds))


def test_index_takes_archives_lists_and_urls_as_it_takes_folders(run, birds, photos, weights, tmp_path):
    fsspec = pytest.importorskip("fsspec")
    archive = shutil.make_archive(str(tmp_path / "packed"), "zip", photos)
    paths = sorted(path.relative_to(photos).as_posix() for path in photos.glob("*/*.png"))
    rows = [f"photos/{path},{path.split('/')[0]},{len(path)}" for path in paths]
    (tmp_path / "list.csv").write_text("\n".join(["path,class,price", *rows]))
    fsspec.filesystem("memory").put(f"{photos}/", "/cli/", recursive=True)

    for number, place in enumerate([archive, tmp_path / "list.csv", "memory://cli"]):
        into = tmp_path / f"{number}.gallery"
        report = json.loads(run("index", place, "--gallery", into, "--weights", weights, "--json")[1])
        assert (report["added"], report["classes"], report["failed"]) == (12, 4, [])
        assert json.loads(run("status", place, "--gallery", into, "--json")[1])["unchanged"] == 12
        assert json.loads(run("status", place, "--gallery", birds, "--json")[1])["unchanged"] == 12
    refused(run("index", tmp_path / "none.zip", "--gallery", birds))


def test_failures_lists_what_could_not_be_used(run, birds, photos):
    assert run("failures", "--gallery", birds)[1] == "no file failed\n"
    (photos / "red" / "broken.jpg").write_bytes(b"no image at all")
    assert run("index", photos, "--gallery", birds, "--keep-removed", "--paranoid", "--retry")[0] == 0

    (listed,) = map(json.loads, run("failures", "--gallery", birds, "--json")[1].splitlines())

    assert (listed["root"], listed["path"], listed["size"]) == (str(photos), "red/broken.jpg", 15)
    assert set(listed) == {"root", "path", "reason", "size", "hash"}
    assert run("failures", "--gallery", birds)[1] == f"{photos}/red/broken.jpg: {listed['reason']}\n"


def test_train_writes_weights_that_index_takes(run, photos, weights, tmp_path):
    small = ["--weights", weights, "--steps", 3, "--classes-per-batch", 4, "--device", "cpu", "-o", "margin=0.5"]

    code, out, _ = run("train", photos, "--out", tmp_path / "w.safetensors", *small)
    as_json = run("train", photos, "--out", tmp_path / "v.safetensors", *small, "--json")

    assert code == 0
    assert "3 batches from 12 images of 4 classes" in out
    assert json.loads(as_json[1])["classes"] == 4
    assert run("index", photos, "-g", tmp_path / "w.gallery", "--weights", tmp_path / "w.safetensors")[0] == 0


class TestRefusals:
    """One line each, exit status 1 or 2, nothing changed."""

    def test_a_missing_gallery(self, run, photos, tmp_path):
        refused(run("recognize", photos / "red" / "0.png", "--gallery", tmp_path / "none.gallery"))

    def test_a_gallery_of_another_embedder(self, run, birds, photos, tmp_path):
        other = tmp_path / "other.safetensors"
        train = ["train", photos, "--weights", tmp_path / "tiny.safetensors", "--steps", 1, "--classes-per-batch", 4]
        assert run(*train, "--out", other)[0] == 0

        refused(run("index", photos, "--gallery", birds, "--weights", other))

    def test_a_gallery_being_written_by_another_process(self, run, birds, photos, monkeypatch):
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLD.format(path=str(birds))], stdout=subprocess.PIPE, text=True
        )
        try:
            assert holder.stdout.readline() == "held\n"
            assert str(holder.pid) in refused(run("forget", "red", "--gallery", birds))
            assert run("recognize", photos / "red" / "0.png", "--gallery", birds)[0] == 0
        finally:
            holder.kill()
            holder.communicate()
        assert run("forget", "red", "--gallery", birds)[0] == 0

    def test_a_newer_gallery(self, run, birds, monkeypatch):
        import sqlite3

        with sqlite3.connect(birds / "catalog.sqlite") as catalog:
            catalog.execute("UPDATE meta SET value = '999' WHERE key = 'schema_version'")
        catalog.close()

        refused(run("status", "--gallery", birds))

    def test_k_0(self, run, birds, photos):
        refused(run("recognize", photos / "red" / "0.png", "--gallery", birds, "-k", 0), 2)

    def test_an_unknown_metric(self, run, birds, photos):
        refused(run("recognize", photos / "red" / "0.png", "--gallery", birds, "--metric", "taxi"), 2)

    def test_an_unknown_class(self, run, birds):
        refused(run("forget", "heron", "--gallery", birds))
        refused(run("rename", "heron", "stork", "--gallery", birds))
        refused(run("rename", "red", "blue", "--gallery", birds))

    def test_nothing_to_undo(self, run, birds):
        assert run("undo", "--gallery", birds)[0] == 0
        assert json.loads(run("status", "--gallery", birds, "--json")[1])["classes"] == 0

    def test_a_folder_with_no_images(self, run, tmp_path, weights):
        (tmp_path / "empty" / "class").mkdir(parents=True)

        refused(run("index", tmp_path / "empty", "--gallery", tmp_path / "e.gallery", "--weights", weights))

        assert not (tmp_path / "e.gallery").exists()

    def test_an_image_outside_a_class_folder(self, run, photos, birds):
        shutil.copy(photos / "red" / "0.png", photos / "pond.png")

        assert "pond.png" in refused(run("index", photos, "--gallery", birds))

    def test_classes_that_differ_only_by_case(self, run, photos, birds):
        (photos / "RED").mkdir()
        shutil.copy(photos / "red" / "0.png", photos / "RED")

        message = refused(run("index", photos, "--gallery", birds))

        assert "RED" in message
        assert json.loads(run("status", "--gallery", birds, "--json")[1])["revision"] == 1

    def test_an_unknown_command_or_option_or_missing_argument(self, run, birds):
        refused(run("fly"), 2)
        refused(run("status", "--gallery", birds, "--fly"), 2)
        refused(run("recognize", "--gallery", birds), 2)

    def test_an_option_of_a_recipe_that_is_no_number(self, run, photos, tmp_path, weights):
        refused(run("train", photos, "--out", tmp_path / "w", "--weights", weights, "-o", "margin=wide"), 2)

    def test_a_full_disk_or_a_closed_pipe(self, run, birds, monkeypatch):
        def fail(*_, **__):
            raise OSError(28, "No space left on device", str(birds))

        monkeypatch.setattr(gallery_module.Gallery, "remove", fail)

        assert "No space left" in refused(run("forget", "red", "--gallery", birds))

    def test_an_interruption(self, run, birds, monkeypatch):
        def interrupt(*_, **__):
            raise KeyboardInterrupt

        monkeypatch.setattr(gallery_module.Gallery, "remove", interrupt)

        refused(run("forget", "red", "--gallery", birds), 130)


HOLD = """
import sys, time
from indexer.gallery import Gallery
with Gallery.open({path!r}) as gallery, gallery.writing():
    print("held", flush=True)
    time.sleep(60)
"""


def test_looking_after_a_gallery_does_not_wait_for_torch():
    program = "import sys, engine.cli; engine.cli.command('status'); sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_the_module_is_the_command():
    done = subprocess.run([sys.executable, "-m", "engine", "--help"], capture_output=True, text=True, check=False)

    assert done.returncode == 0
    assert "recognize" in done.stdout
    assert done.stderr == ""


def test_the_installed_script_is_the_command():
    script = Path(sys.executable).with_name("firstsight")
    done = subprocess.run([script, "status"], capture_output=True, text=True, check=False, env=dict(os.environ))

    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
