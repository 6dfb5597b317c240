from __future__ import annotations

import sqlite3
import threading

import numpy as np
import pytest
from PIL import Image

from indexer import build, images, lock
from indexer.errors import ArgumentError, ClassExists, EmbedderMismatch, GalleryBusy, ImageError, SourceError
from indexer.gallery import Gallery


@pytest.fixture
def photos(tmp_path, photo):
    """Three classes of two pictures each."""
    for name, seed in (("egret", 0), ("heron", 10), ("stork", 20)):
        for number in range(2):
            photo(tmp_path / "photos" / name / f"{number}.png", seed + number)
    return tmp_path / "photos"


@pytest.fixture
def index(gallery, photos, model):
    def go(root=photos, **how):
        return build.index(gallery, root, model, **how)

    return go


def counts(report):
    """What changed, as far as something did."""
    every = {name: getattr(report, name) for name in ("added", "changed", "moved", "removed", "unchanged")}
    every["renamed"] = [(one.old, one.new, one.images) for one in report.renamed]
    return {name: count for name, count in every.items() if count}


def test_a_folder_becomes_a_gallery_in_one_revision(gallery, index, model, photos, catalog_of):
    report = index()

    assert counts(report) == {"added": 6}
    assert (report.classes, report.images, report.revision, report.failed) == (3, 6, 1, [])
    assert report.seconds > 0
    assert gallery.classes() == {"egret": 2, "heron": 2, "stork": 2}
    for (name, hash, root, path), vector in catalog_of(gallery.path).items():
        data = (photos / path).read_bytes()
        assert (name, hash, root) == (path.split("/")[0], images.identify(data), str(photos))
        expected = model.embed([model.prepare(images.decode(data, path=path))])[0]
        assert np.frombuffer(vector, "<f4").tolist() == pytest.approx(expected.tolist(), abs=1e-6)
    assert gallery.log()[0].summary == f"index {photos}: 6 added"


def test_a_query_shows_where_the_nearest_picture_lies(gallery, index, model, photos):
    index()
    query = model.embed([model.prepare(Image.open(photos / "heron" / "1.png"))])

    (hit,) = gallery.search_references(query, k=1)[0]

    assert (hit.name, hit.reference) == ("heron", str(photos / "heron" / "1.png"))


def test_indexing_again_embeds_nothing_and_makes_no_revision(index, model):
    index()
    report = index()

    assert (model.embedded, report.revision) == (6, 1)
    assert counts(report) == {"unchanged": 6}


def test_what_changed_is_reported_as_what_it_is(gallery, index, model, photos, photo):
    index()
    photo(photos / "egret" / "0.png", 99)
    (photos / "egret" / "1.png").unlink()
    (photos / "heron" / "1.png").rename(photos / "heron" / "one.png")
    photo(photos / "ibis" / "0.png", 98)

    report = index()

    assert counts(report) == {"added": 1, "changed": 1, "moved": 1, "removed": 1, "unchanged": 3}
    assert model.embedded == 6 + 2
    assert gallery.classes() == {"egret": 1, "heron": 2, "ibis": 1, "stork": 2}
    assert gallery.verify() == []


def test_moves_renamed_folders_and_copies_embed_nothing(gallery, index, model, photos, tmp_path):
    index()
    (photos / "heron").rename(photos / "grey heron")
    (photos / "egret" / "deeper").mkdir()
    (photos / "egret" / "0.png").rename(photos / "egret" / "deeper" / "0.png")
    (photos / "stork" / "copy.png").write_bytes((photos / "stork" / "0.png").read_bytes())
    assert counts(index()) == {"moved": 1, "renamed": [("heron", "grey heron", 2)], "unchanged": 4}
    (photos / "ibis").mkdir()
    (photos / "ibis" / "0.png").write_bytes((photos / "stork" / "0.png").read_bytes())
    assert counts(index()) == {"added": 1, "unchanged": 7}
    photos.rename(tmp_path / "pictures")
    assert counts(index(tmp_path / "pictures")) == {"moved": 7, "unchanged": 1}

    assert model.embedded == 6
    assert gallery.classes() == {"egret": 2, "grey heron": 2, "ibis": 1, "stork": 2}
    assert {one.root for one in gallery.references()} == {str(tmp_path / "pictures")}
    assert gallery.verify() == []


def test_what_was_embedded_once_is_never_embedded_again(gallery, index, model, photos):
    index()
    content = (photos / "heron" / "0.png").read_bytes()
    (photos / "heron" / "0.png").unlink()
    index()
    (photos / "heron" / "0.png").write_bytes(content)

    assert counts(index()) == {"added": 1, "unchanged": 5}
    assert model.embedded == 6


def test_bad_files_are_reported_and_the_rest_goes_in(gallery, index, photos):
    (photos / "heron" / "text.png").write_text("not a picture")
    (photos / "heron" / "empty.png").touch()
    whole = (photos / "heron" / "0.png").read_bytes()
    (photos / "heron" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (photos / "heron" / "link.png").symlink_to(photos / "nowhere")

    for expected in ({"added": 6}, {"unchanged": 6}):
        report = index()

        assert counts(report) == expected
        names = ["cut.png", "empty.png", "link.png", "text.png"]
        assert [failure.path for failure in report.failed] == [f"heron/{name}" for name in names]
        assert all(failure.reason and len(failure.reason.splitlines()) == 1 for failure in report.failed)
    assert gallery.verify() == []


def test_a_file_that_went_bad_keeps_its_reference(gallery, index, photos, catalog_of):
    index()
    before = catalog_of(gallery.path)
    (photos / "heron" / "0.png").write_text("overwritten with no picture")
    (photos / "heron" / "1.png").write_bytes(b"")

    report = index()

    assert [failure.path for failure in report.failed] == ["heron/0.png", "heron/1.png"]
    assert counts(report) == {"unchanged": 4}
    assert catalog_of(gallery.path) == before


def test_a_folder_without_one_good_file_is_refused_and_changes_nothing(gallery, index, photos, tmp_path):
    (tmp_path / "bad" / "heron").mkdir(parents=True)
    for number in range(3):
        (tmp_path / "bad" / "heron" / f"{number}.png").write_text("no picture")

    with pytest.raises(SourceError, match=r"none of its 3 files can be used; the first is heron/0\.png: "):
        index(tmp_path / "bad")
    for path in photos.glob("*/*.png"):
        path.write_bytes(b"")
    with pytest.raises(SourceError, match="none of its 6 files"):
        index()

    assert gallery.revision == 0


def test_learnt_references_and_other_folders_stay(gallery, index, photos, photo, random_units):
    gallery.add("heron", [("learnt", None, random_units(1)[0])])
    photo(photos.parent / "more" / "heron" / "0.png", 50)
    index(photos.parent / "more")
    index()
    for name in ("egret", "heron"):
        for path in (photos / name).iterdir():
            path.unlink()

    assert counts(index()) == {"removed": 4, "unchanged": 2}

    assert gallery.classes() == {"heron": 2, "stork": 2}


def test_the_first_levels_of_folders_name_the_class(gallery, index, photo, tmp_path):
    photo(tmp_path / "deep" / "waders" / "heron" / "0.png", 1)
    photo(tmp_path / "deep" / "waders" / "egret" / "x" / "0.png", 2)

    index(tmp_path / "deep", class_depth=2)
    assert gallery.classes() == {"waders/egret": 1, "waders/heron": 1}

    assert counts(index(tmp_path / "deep")) == {"moved": 2}
    assert gallery.classes() == {"waders": 2}


def test_a_class_that_differs_only_by_case_is_refused_before_anything_is_embedded(gallery, index, model, random_units):
    gallery.add("HERON", [("learnt", None, random_units(1)[0])])

    with pytest.raises(ClassExists, match="'HERON' and 'heron'"):
        index()

    assert (gallery.revision, model.embedded) == (1, 0)


def test_a_folder_may_change_the_case_of_its_name(gallery, index, photos):
    index()
    (photos / "heron").rename(photos / "Heron")

    assert counts(index()) == {"renamed": [("heron", "Heron", 2)], "unchanged": 4}
    assert gallery.classes() == {"Heron": 2, "egret": 2, "stork": 2}
    assert gallery.verify() == []


def test_a_dry_run_tells_the_same_and_does_nothing(gallery, index, model, photos, photo):
    index()
    photo(photos / "egret" / "0.png", 99)
    (photos / "stork" / "1.png").unlink()
    before = {path.name: path.read_bytes() for path in gallery.path.iterdir()}

    dry = index(dry_run=True)
    found = build.status(gallery, photos)

    assert {path.name: path.read_bytes() for path in gallery.path.iterdir()} == before
    assert (model.embedded, dry.revision) == (6, 1)
    assert counts(dry) == counts(found) == counts(index()) == {"changed": 1, "removed": 1, "unchanged": 4}
    assert dry.paths == found.paths
    assert found.paths == {"added": [], "changed": ["egret/0.png"], "moved": [], "removed": ["stork/1.png"]}


def test_a_renamed_folder_renames_its_class(gallery, index, model, photos, catalog_of):
    index()
    before, snapshot = catalog_of(gallery.path), gallery.search_classes(np.ones(16), k=9)[0].hits
    (photos / "heron").rename(photos / "ibis")
    assert build.status(gallery, photos).paths["moved"] == []

    report = index()

    assert counts(report) == {"renamed": [("heron", "ibis", 2)], "unchanged": 4}
    assert gallery.log()[0].summary == f"index {photos}: renamed class heron -> ibis"
    assert gallery.classes() == {"egret": 2, "ibis": 2, "stork": 2}
    assert {(name, path) for name, _, _, path in catalog_of(gallery.path)} >= {("ibis", "ibis/0.png")}
    with sqlite3.connect(gallery.path / "catalog.sqlite") as connection:
        assert connection.execute("SELECT count(*) FROM classes").fetchone() == (3,)
    connection.close()
    renamed = {"heron": "ibis"}
    after = gallery.search_classes(np.ones(16), k=9)[0].hits
    assert [(renamed.get(hit.name, hit.name), hit.score) for hit in snapshot] == [
        (hit.name, hit.score) for hit in after
    ]
    assert gallery.verify() == []
    gallery.undo()
    assert catalog_of(gallery.path) == before
    assert gallery.verify() == []
    assert model.embedded == 6


def test_what_is_known_of_a_class_goes_with_its_folder(gallery, index, photos):
    index()
    gallery.set("heron", {"site": "paris"})
    (own,) = (one.hash for one in gallery.references() if one.path == "heron/1.png")
    gallery.set("heron", {"price": 3}, hash=own)
    (photos / "heron").rename(photos / "ibis")
    index()

    assert gallery.attributes("ibis") == {"site": "paris"}
    assert [one.attributes for one in gallery.describe("ibis").references if one.hash == own] == [{"price": 3}]
    gallery.undo()
    assert gallery.attributes("heron") == {"site": "paris"}


def test_many_renamed_folders_make_a_short_summary(gallery, index, photos, photo):
    for number in range(3):
        photo(photos / f"tern {number}" / "0.png", 60 + number)
    index()
    for name in ("egret", "heron", "tern 0", "tern 1", "tern 2"):
        (photos / name).rename(photos / f"old {name}")
    photo(photos / "old egret" / "9.png", 70)

    assert index().added == 1

    assert gallery.log()[0].summary == (
        f"index {photos}: renamed class egret -> old egret, renamed class heron -> old heron,"
        " renamed class tern 0 -> old tern 0, 2 more classes renamed, 1 added"
    )
    assert gallery.verify() == []


def test_references_stay_when_asked_though_their_files_are_gone(gallery, index, photos, photo):
    index()
    (photos / "egret" / "0.png").unlink()
    (photos / "heron" / "1.png").rename(photos / "heron" / "one.png")
    photo(photos / "stork" / "0.png", 99)
    expected = {"moved": 1, "changed": 1, "unchanged": 3}

    assert counts(build.status(gallery, photos, keep_removed=True)) == expected
    assert counts(index(keep_removed=True)) == expected
    assert gallery.classes() == {"egret": 2, "heron": 2, "stork": 2}
    assert gallery.verify() == []
    assert counts(index()) == {"removed": 1, "unchanged": 5}


def test_a_dry_run_needs_no_lock_but_indexing_does(gallery, index, monkeypatch):
    monkeypatch.setattr(lock, "LOCK_SECONDS", 0.05)
    with Gallery.open(gallery.path) as other, other.writing():
        index(dry_run=True)
        with pytest.raises(GalleryBusy):
            index()

    assert counts(index()) == {"added": 6}


def test_other_writers_wait_for_the_end(gallery, index, model, monkeypatch, random_units):
    monkeypatch.setattr(lock, "LOCK_SECONDS", 0.05)
    outcomes, plain = [], model.embed

    def learn(into):
        try:
            into.add("ibis", [("learnt", None, random_units(1)[0])])
        except GalleryBusy:
            outcomes.append("busy")

    def embed(arrays):
        with Gallery.open(gallery.path) as other:
            for into in (gallery, other):
                thread = threading.Thread(target=learn, args=(into,))
                thread.start()
                thread.join()
        return plain(arrays)

    model.embed = embed
    index()

    assert outcomes == ["busy", "busy"]
    assert gallery.classes() == {"egret": 2, "heron": 2, "stork": 2}


def test_queries_are_answered_meanwhile_from_the_revision_before(gallery, index, model, photo, photos):
    index()
    photo(photos / "ibis" / "0.png", 99)
    seen, plain = [], gallery.stage

    def stage(hashes, vectors):
        plain(hashes, vectors)
        thread = threading.Thread(target=lambda: seen.append(gallery.search_classes(vectors[:1], k=9)[0].hits))
        thread.start()
        thread.join()

    gallery.stage = stage
    index()

    assert [{hit.name for hit in hits} for hits in seen] == [{"egret", "heron", "stork"}]
    assert "ibis" in gallery.classes()


def test_another_model_is_refused(gallery, photos, model):
    model.fingerprint = "other"
    with pytest.raises(EmbedderMismatch):
        build.index(gallery, photos, model)
    model.fingerprint, model.dim = "toy", 3
    with pytest.raises(ArgumentError, match="3 floats"):
        build.index(gallery, photos, model)


@pytest.mark.parametrize(
    "wrong", [{"batch_size": 0}, {"workers": 0}, {"max_pixels": 0}, {"class_depth": 0}, {"batch_size": True}]
)
def test_wrong_arguments_are_refused_first(index, model, wrong):
    with pytest.raises(ArgumentError):
        index(**wrong)
    assert model.embedded == 0


def test_images_larger_than_allowed_are_left_out(gallery, index):
    with pytest.raises(SourceError, match="none of its 6 files"):
        index(max_pixels=143)
    assert counts(index(max_pixels=144)) == {"added": 6}


def test_progress_is_told_for_both_stages(index):
    seen = []

    index(progress=lambda *step: seen.append(step))

    assert [step for step in seen if step[1] in (0, step[2])] == [
        ("reading", 0, 6),
        ("reading", 6, 6),
        ("embedding", 0, 6),
        ("embedding", 6, 6),
    ]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_run_leaves_the_gallery_as_it_was_and_goes_on_later(gallery, index, model, error, catalog_of):
    plain = model.embed

    def embed(arrays):
        if model.embedded == 4:
            raise error
        return plain(arrays)

    model.embed = embed
    with pytest.raises(error):
        index(batch_size=2)
    assert (gallery.revision, gallery.classes(), gallery.verify()) == (0, {}, [])
    assert gallery.search_classes(np.ones(16))[0].hits == []

    model.embed = plain
    assert counts(index()) == {"added": 6}
    assert model.embedded == 6
    assert gallery.verify() == []


def test_a_file_that_changes_meanwhile_is_left_for_the_next_run(index, photos, photo, monkeypatch):
    real, meddled = images.read, []

    def meddle(path):
        data = real(path)
        if str(path).endswith("egret/0.png") and not meddled:
            meddled.append(photo(photos / "egret" / "0.png", 77))
        return data

    monkeypatch.setattr(images, "read", meddle)
    report = index()

    assert [failure.path for failure in report.failed] == ["egret/0.png"]
    assert counts(report) == {"added": 5}
    assert counts(index()) == {"added": 1, "unchanged": 5}


def test_a_picture_the_model_cannot_prepare_is_a_bad_file(index, model):
    plain = model.prepare

    def prepare(image):
        model.prepare = plain
        raise ImageError("it", "is too strange")

    model.prepare = prepare
    report = index(workers=1)

    assert [failure.reason for failure in report.failed] == ["is too strange"]
    assert counts(report) == {"added": 5}


def test_the_plan_says_what_would_be_embedded(gallery, index, photos, photo):
    index()
    photo(photos / "ibis" / "0.png", 98)
    (photos / "ibis" / "copy.png").write_bytes((photos / "ibis" / "0.png").read_bytes())

    planned = build.plan(gallery, photos)

    assert [file.path for file in planned.changes.added] == ["ibis/0.png"]
    assert [job.paths for job in planned.embed] == [["ibis/0.png", "ibis/copy.png"]]
    assert (planned.root, len(planned.files), planned.failed) == (str(photos), 8, [])


def test_undo_takes_a_whole_index_back(gallery, index, photos, photo, catalog_of):
    index()
    before = catalog_of(gallery.path)
    photo(photos / "egret" / "0.png", 99)
    (photos / "heron").rename(photos / "ibis")
    index()

    gallery.undo()

    assert catalog_of(gallery.path) == before
    assert gallery.verify() == []


def test_the_views_are_written_at_the_end(gallery, index):
    index()

    assert (gallery.path / "references.faiss").exists()
    assert (gallery.path / "prototypes.faiss").exists()
    assert gallery.verify() == []


def test_a_wrong_argument_is_told_wherever_the_images_come_from(gallery, photos, model):
    for source in (photos, iter([])):
        with pytest.raises(TypeError, match="bach_size"):
            build.index(gallery, source, model, bach_size=3)
