from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import create_engine

from indexer import build, upgrading
from indexer.alignment import LEAST
from indexer.errors import EmbedderMismatch, GalleryBusy, GalleryError
from indexer.gallery import Gallery
from indexer.lock import WriterLock
from indexer.merging import merge
from indexer.portable import export_gallery, import_gallery
from indexer.reader import Reader, Stamp
from indexer.upgrading import upgrade


def newer(old):
    """Return another embedder: it looks at the same pixels, with more floats; its space is no rotation of the old."""

    class Newer(type(old)):
        dim, fingerprint = 24, "newer"
        projection = np.random.default_rng(9).normal(size=(192, 24)).astype(np.float32)

    return Newer()


def newest(old):
    made = newer(old)
    type(made).fingerprint = "newest"
    return made


@pytest.fixture
def photos(tmp_path, photo):
    """60 pictures of 15 classes."""
    for number in range(60):
        photo(tmp_path / "photos" / f"class {number % 15:02}" / f"{number}.png", number)
    return tmp_path / "photos"


@pytest.fixture
def path(tmp_path, photos, model):
    with Gallery.create(tmp_path / "g", dim=16, fingerprint="toy", embedder={"weights": "toy"}) as gallery:
        build.index(gallery, photos, model)
    return tmp_path / "g"


def fresh(tmp_path, photos, model):
    """The oracle: a gallery that the embedder made from the start."""
    with Gallery.create(tmp_path / "fresh", dim=model.dim, fingerprint=model.fingerprint) as gallery:
        build.index(gallery, photos, model)
    return tmp_path / "fresh"


def answers(path, queries, **how):
    with Gallery.open(path) as gallery:
        classes = [(one.hits, one.scores.tolist()) for one in gallery.search_classes(queries, k=20, **how)]
        return classes, gallery.search_references(queries, k=80, **how)


def soundness(path):
    with Gallery.open(path) as gallery:
        return gallery.verify()


def test_an_upgraded_gallery_answers_as_one_that_the_new_embedder_made(path, photos, model, tmp_path, random_units):
    queries = random_units(20, dim=24)
    report = upgrade(path, newer(model), embedder={"weights": "new"})

    assert (report.embedded, report.mapped, report.dropped, report.loss, report.failed) == (60, 0, 0, None, [])
    assert answers(path, queries) == answers(fresh(tmp_path, photos, newer(model)), queries)
    assert soundness(path) == []
    with Gallery.open(path) as gallery:
        assert (gallery.dim, gallery.fingerprint, gallery.embedder) == (24, "newer", {"weights": "new"})
        assert gallery.log()[0].summary == "upgrade to new: 60 embedded"
        assert (gallery.revision, report.revision, gallery.mapped()) == (2, 2, 0)


def test_an_upgrade_can_be_undone_and_done_again_without_embedding(path, model, random_units):
    old, new = random_units(20), random_units(20, dim=24)
    before = answers(path, old)
    upgrade(path, newer(model))
    after = answers(path, new)

    with Gallery.open(path) as gallery:
        gallery.undo()
    assert answers(path, old) == before
    assert soundness(path) == []
    with Gallery.open(path) as gallery:
        gallery.require("toy")
        gallery.undo()
    assert answers(path, new) == after

    for again, expected, queries in ((model, before, old), (newer(model), after, new)):
        again.embedded = 0
        upgrade(path, again)
        assert (again.embedded, answers(path, queries)) == (0, expected)
    assert soundness(path) == []


def test_compact_forgets_the_vectors_of_an_embedder_of_no_kept_revision(path, model, random_units):
    upgrade(path, newer(model))
    queries = random_units(9, dim=24)
    before = answers(path, queries)

    with Gallery.open(path) as gallery:
        gallery.compact(keep=1)
        with closing(sqlite3.connect(path / "catalog.sqlite")) as connection:
            kept = "SELECT count(*), count(DISTINCT image_id) FROM embeddings"
            assert connection.execute(kept).fetchone() == (60, 60)

    assert answers(path, queries) == before
    assert soundness(path) == []


@pytest.mark.parametrize("keep", [1, 2, 3, 4])
def test_compact_keeps_the_vectors_of_every_kept_revision_also_after_an_upgrade_was_undone(
    path, model, random_units, keep
):
    new, old = random_units(3, dim=24), random_units(3)
    upgrade(path, newer(model))
    after = answers(path, new)
    with Gallery.open(path) as gallery:
        gallery.undo()
    before = answers(path, old)

    with Gallery.open(path) as gallery:
        gallery.compact(keep=keep)

    assert (answers(path, old), soundness(path)) == (before, [])
    if keep > 1:
        with Gallery.open(path) as gallery:
            gallery.undo()
        assert (answers(path, new), soundness(path)) == (after, [])


def test_nothing_is_done_for_the_embedder_that_is_there(path, model):
    report = upgrade(path, model)

    assert (report.revision, report.embedded, model.embedded) == (1, 0, 60)


def test_what_is_learnt_and_forgotten_afterwards_lies_in_the_new_space(path, model, photo, tmp_path, random_units):
    upgrade(path, newer(model))
    with Gallery.open(path) as gallery:
        gallery.add("new", [("x", None, random_units(1, dim=24)[0])])
        gallery.remove("class 03")
        gallery.undo()
        with pytest.raises(Exception, match="24"):
            gallery.add("new", [("y", None, random_units(1)[0])])

    assert soundness(path) == []


def test_a_revision_from_before_is_not_compared_with_a_query_by_the_new_embedder(path, model, random_units):
    upgrade(path, newer(model))

    with pytest.raises(EmbedderMismatch, match="revision 1"):
        answers(path, random_units(1, dim=24), as_of=1)
    with Gallery.open(path) as gallery:
        assert len(gallery.classes(as_of=1)) == 15


def test_whoever_has_it_open_is_told_and_never_answered_from_two_spaces(path, model, random_units):
    with Gallery.open(path) as reader:
        reader.search_classes(random_units(1))
        upgrade(path, newer(model))

        for call in (
            lambda: reader.search_classes(random_units(1)),
            lambda: reader.search_references(random_units(1)),
            lambda: reader.add("x", [("x", None, random_units(1)[0])]),
            reader.undo,
        ):
            with pytest.raises(EmbedderMismatch, match="open it again"):
                call()


def test_queries_are_answered_by_the_old_embedder_until_the_new_one_is_whole(path, model, random_units):
    queries, seen = random_units(5), []
    before = answers(path, queries)

    class Asking(type(newer(model))):
        def embed(self, images):
            seen.append(answers(path, queries) == before)
            return super().embed(images)

    upgrade(path, Asking(), batch_size=16)

    assert seen == [True] * 4


# -- images that are gone ---------------------------------------------------------------------------------------


def test_a_file_with_another_content_is_not_believed(path, photos, model, photo):
    photo(photos / "class 00" / "0.png", 999)
    (photos / "class 01" / "1.png").unlink()

    report = upgrade(path, newer(model), drop_missing=True)

    assert (report.embedded, report.mapped, report.dropped) == (58, 0, 2)
    assert [(Path(one.path).name, one.reason.split(";")[0][:11]) for one in report.failed] == [
        ("0.png", "has another"),
        ("1.png", "does not ex"),
    ]
    with Gallery.open(path) as gallery:
        assert gallery.classes()["class 00"] == 3
        gallery.undo()
        assert len(Gallery.open(path)) == 60


def test_a_copy_that_is_still_there_will_do(path, photos, model):
    with Gallery.open(path) as gallery:
        one = gallery.references()[0]
        shutil.copy(Path(one.root) / one.path, photos / "copy.png")
        gallery.add("other", [(one.hash, str(photos / "copy.png"), np.eye(16)[0])])
    (Path(one.root) / one.path).unlink()

    report = upgrade(path, newer(model))

    assert (report.embedded, report.mapped, len(report.failed)) == (60, 0, 1)


def test_images_in_an_archive_and_in_a_list_are_found_again(photos, model, tmp_path):
    archive = shutil.make_archive(str(tmp_path / "photos"), "zip", photos)
    table = tmp_path / "list.csv"
    table.write_text("path,class\n" + "".join(f"photos/class 01/{n}.png,listed\n" for n in (1, 16)))
    with Gallery.create(tmp_path / "other", dim=16, fingerprint="toy") as gallery:
        build.index(gallery, archive, model)
        build.index(gallery, table, model)
    shutil.rmtree(photos / "class 00")

    report = upgrade(tmp_path / "other", newer(model))
    assert (report.embedded, report.failed) == (60, [])
    Path(archive).unlink()
    report = upgrade(tmp_path / "other", newest(model), drop_missing=True)
    assert (report.embedded, report.dropped) == (2, 58)  # the list has two of the archive's


@pytest.fixture
def many(tmp_path, photo, model):
    """A gallery of 160 pictures of 20 classes with few traits: the old space tells where in the new one they lie."""
    rng = np.random.default_rng(1)
    base, centres = rng.normal(size=(6, 192)), rng.normal(size=(20, 6))
    vectors, new = {}, {}
    for number in range(160):
        seen = (centres[number % 20] + 0.2 * rng.normal(size=6)) @ base
        vectors[f"{number}"], new[f"{number}"] = seen @ type(model).projection, seen @ newer(model).projection
    with Gallery.create(tmp_path / "many", dim=16, fingerprint="toy") as gallery:
        for name in range(20):
            hashes = [f"{number}" for number in range(160) if number % 20 == name]
            gallery.add(f"{name}", [(hash, hash, vectors[hash]) for hash in hashes])
    return tmp_path / "many", {hash: one / np.linalg.norm(one) for hash, one in new.items()}


class Oracle:
    """An embedder of made contents: it knows the vectors of those whose images are still there."""

    dim, fingerprint = 24, "newer"

    def __init__(self, vectors):
        self.vectors = vectors

    def prepare(self, image):
        return image

    def embed(self, images):
        return np.stack([self.vectors[hash] for hash in images]).astype(np.float32)


@pytest.fixture
def made_images(monkeypatch):
    """Reading an image gives its name if it is at hand; the name is its content."""

    def at_hand(names):
        def read(path):
            if path not in names:
                raise upgrading.images.ImageError(path, "no such file")
            return path.encode()

        monkeypatch.setattr(upgrading.images, "read", read)
        monkeypatch.setattr("indexer.pipeline.images.identify", lambda data: data.decode())
        monkeypatch.setattr("indexer.pipeline.images.decode", lambda data, **_: data.decode())

    return at_hand


def test_where_the_old_space_determines_the_new_one_mapped_vectors_are_nearly_the_true_ones(
    many, made_images, catalog_of
):
    path, true = many
    gone = {f"{number}" for number in range(160) if number % 20 < 3}
    made_images(set(true) - gone)

    report = upgrade(path, Oracle(true))

    assert (report.embedded, report.mapped, report.dropped) == (136, 24, 0)
    stored = {hash: np.frombuffer(vector, "<f4") for (_, hash, _, _), vector in catalog_of(path, "newer").items()}
    cosines = [float(stored[hash] @ true[hash]) for hash in gone]
    # What was measured on images at hand is what became of those that were gone.
    assert np.mean(cosines) == pytest.approx(report.loss.cosine, abs=0.02)
    assert min(cosines) > 0.9
    assert report.loss.recall_at_1 > 0.9
    assert report.loss.pairs == 136
    assert all(np.abs(stored[hash] - true[hash]).max() < 1e-6 for hash in set(true) - gone)
    with Gallery.open(path) as gallery:
        assert gallery.mapped() == 24
        assert [one.mapped for one in gallery.describe("0").references] == [True] * 8
        assert [one.mapped for one in gallery.describe("3").references] == [False] * 8
        assert gallery.log()[0].summary == "upgrade to newer: 136 embedded, 24 mapped"
        assert gallery.verify() == []


def test_the_mark_goes_along_to_other_places(many, made_images, tmp_path):
    path, true = many
    made_images({hash for hash in true if int(hash) > 9})
    upgrade(path, Oracle(true))
    Gallery.create(tmp_path / "merged", dim=24, fingerprint="newer").close()

    merge(tmp_path / "merged", path)
    with Gallery.open(tmp_path / "merged") as gallery:
        assert gallery.mapped() == 10

    pytest.importorskip("pyarrow")
    for newest_only in (False, True):
        export_gallery(path, tmp_path / f"out{newest_only}", newest_only=newest_only)
        import_gallery(tmp_path / f"out{newest_only}", tmp_path / f"back{newest_only}")
        with Gallery.open(tmp_path / f"back{newest_only}") as gallery:
            assert (gallery.mapped(), gallery.fingerprint, gallery.verify()) == (10, "newer", [])
    with Gallery.open(tmp_path / "backFalse") as gallery:
        gallery.undo()
    with Gallery.open(tmp_path / "backFalse") as gallery:
        assert (gallery.mapped(), gallery.fingerprint, gallery.verify()) == (0, "toy", [])


def marks(gallery, queries):
    """Which references the answers name, and whether they call them mapped."""
    classes = [hit for answer in gallery.search_classes(queries, k=30) for hit in answer.hits]
    references = [hit for hits in gallery.search_references(queries, k=200) for hit in hits]
    return {hit.reference: hit.mapped for hit in references} | {hit.reference: hit.mapped for hit in classes}


def test_answers_say_which_references_were_mapped_whatever_came_and_went_since(many, made_images, random_units):
    path, true = many
    gone = {f"{number}" for number in range(0, 160, 3)}
    made_images(set(true) - gone)
    upgrade(path, Oracle(true))
    queries = random_units(5, dim=24)

    with Gallery.open(path) as gallery:
        assert marks(gallery, queries) == {hash: hash in gone for hash in true}
        gallery.add("new", [("x", "x", queries[0])])
        gallery.add("again", [("0", "0 again", queries[0])])  # a content that is known keeps its vector
        assert marks(gallery, queries) == {hash: hash in gone for hash in true} | {"x": False, "0 again": True}
        gallery.remove("0")
        left = {hash: hash in gone for hash in true if int(hash) % 20} | {"x": False, "0 again": True}
        assert marks(gallery, queries) == left
        gallery.undo()
        assert marks(gallery, queries) == left | {hash: hash in gone for hash in true}
        assert not any(marks(gallery, queries)[hit.reference] != hit.mapped for hit in gallery.describe("1").references)
        expected = marks(gallery, queries)
        gallery.save_views()
        assert gallery.verify() == []
    with Gallery.open(path) as gallery:
        gallery.add("new", [("y", "y", queries[1])])
        assert marks(gallery, queries) == expected | {"y": False}
        assert gallery.verify() == []


def test_a_gallery_without_mapped_references_is_opened_without_a_look_at_all(path):
    with closing(sqlite3.connect(path / "catalog.sqlite")) as connection:
        asked = []
        connection.set_trace_callback(asked.append)
        engine = create_engine("sqlite://", creator=lambda: connection)
        with engine.connect() as opened:
            assert Reader(opened, 16, Stamp(0, ""), 1).mapped() == set()
        (query,) = (one for one in asked if one.startswith("SELECT"))
        (step,) = connection.execute(f"EXPLAIN QUERY PLAN {query}").fetchall()
        assert "INDEX mapped_embeddings" in step[3]


def test_too_few_at_hand_are_refused_and_nothing_is_changed(many, made_images, random_units):
    path, true = many
    made_images({f"{number}" for number in range(LEAST - 1)})
    before = answers(path, random_units(3))

    with pytest.raises(GalleryError, match=r"111 images are gone, and the 49 at hand are too few.*--drop-missing"):
        upgrade(path, Oracle(true))
    assert answers(path, random_units(3)) == before
    assert upgrade(path, Oracle(true), drop_missing=True).dropped == 111


def test_a_gallery_whose_images_are_all_gone_is_refused(many, made_images):
    path, true = many
    made_images(set())

    for drop_missing in (False, True):
        with pytest.raises(GalleryError, match="none of its images"):
            upgrade(path, Oracle(true), drop_missing=drop_missing)


def test_images_that_come_back_before_the_end_are_embedded_after_all(many, made_images, monkeypatch):
    path, true = many
    made_images({hash for hash in true if int(hash) > 9})

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(upgrading.history, "revise", interrupted)
        with pytest.raises(KeyboardInterrupt):
            upgrade(path, Oracle(true))
    made_images(set(true))

    report = upgrade(path, Oracle(true))

    assert (report.embedded, report.mapped) == (160, 0)


# -- killed ------------------------------------------------------------------------------------------------------

KILLED = """
import runpy, sys, time
from indexer import pipeline
from indexer.upgrading import upgrade
Toy = runpy.run_path(sys.argv[1])["Toy"]
Newer = runpy.run_path(sys.argv[2])["newer"](Toy())
pipeline.COMMIT_SECONDS = 0.0
class Slow(type(Newer)):
    def embed(self, images):
        print("batch", flush=True)
        time.sleep(0.02)
        return super().embed(images)
upgrade(sys.argv[3], Slow(), batch_size=4)
"""


def test_killed_it_is_as_before_and_the_next_run_goes_on(path, photos, model, tmp_path, random_units):
    queries = random_units(3)
    before = answers(path, queries)
    command = [sys.executable, "-c", KILLED, Path(__file__).with_name("conftest.py"), __file__, path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for _ in range(8):
            process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)

    assert answers(path, queries) == before
    assert soundness(path) == []
    last = newer(model)
    upgrade(path, last)
    assert 0 < last.embedded <= 60 - 4 * 6
    queries = random_units(3, dim=24)
    assert answers(path, queries) == answers(fresh(tmp_path, photos, newer(model)), queries)


def test_another_writer_keeps_it_out(path, model, monkeypatch):
    monkeypatch.setattr("indexer.lock.LOCK_SECONDS", 0.05)

    with WriterLock(path / "writer.lock").held(), pytest.raises(GalleryBusy):
        upgrade(path, newer(model))
