"""Compaction changes nothing that is kept: not an answer, not the log, not an undo. What it forgets is gone."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer import portable
from indexer.errors import ArgumentError, GalleryBusy, GalleryError, RevisionMissing
from indexer.folder import LOCK, VIEWS
from indexer.gallery import Gallery
from indexer.lock import WriterLock

POOL = np.random.default_rng(7).normal(size=(40, 16))
QUERIES = np.random.default_rng(1).normal(size=(2, 16))
names, numbers = st.sampled_from(["egret", "heron"]), st.sets(st.integers(0, 9), min_size=1, max_size=4)
steps = st.one_of(
    st.tuples(st.just("add"), names, numbers),
    st.tuples(st.just("add"), names, numbers),
    st.tuples(st.just("remove"), names, names),
    st.tuples(st.just("rename"), names, st.sampled_from(["stork", "ibis"])),
    st.tuples(st.just("set"), names, st.integers(0, 3)),
    st.tuples(st.just("undo"), names, names),
)


def change(gallery, kind, name, other):
    present = gallery.classes()
    if kind == "add":
        gallery.add(name, [(f"{number}", None, POOL[number]) for number in sorted(other)])
    elif kind == "undo" and gallery.revision:
        gallery.undo()
    elif name in present and kind == "remove":
        gallery.remove(name)
    elif name in present and kind == "rename" and other not in present:
        gallery.rename(name, other)
    elif name in present and kind == "set":
        gallery.set(name, {"price": other})


def answers(gallery, as_of=None):
    return (
        [(found.hits, found.scores.tobytes()) for found in gallery.search_classes(QUERIES, as_of=as_of)],
        gallery.search_references(QUERIES, k=99, as_of=as_of),
        gallery.references(as_of=as_of),
        [gallery.describe(name, as_of=as_of) for name in gallery.classes(as_of=as_of)],
    )


def undone(path, to):
    """What a copy of the gallery says after its newest change is undone."""
    shutil.copytree(path, to)
    with Gallery.open(to) as copy:
        copy.undo()
        return [(one.name, one.hash) for one in copy.references()], copy.classes(), answers(copy)[0]


@given(st.lists(steps, min_size=3, max_size=9), st.integers(1, 5), st.booleans())
@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_kept_is_as_it_was_and_what_is_older_is_gone(tmp_path_factory, sequence, keep, saved):
    path = tmp_path_factory.mktemp("made") / "g"
    with Gallery.create(path, dim=16, fingerprint="toy") as gallery:
        for number, step in enumerate(sequence):
            change(gallery, *step)
            if saved and number == 1:
                gallery.save_views()
        newest = gallery.revision
        oldest = max(newest - keep + 1, 0) if newest > keep else 0
        expected = {revision: answers(gallery, revision) for revision in range(oldest, newest + 1)}
        log = gallery.log()[: newest - oldest + 1] if oldest else gallery.log()
        before = undone(path, path.with_name("before")) if newest > max(oldest, 0) else None

        done = gallery.compact(keep=keep)

        assert (done.oldest, done.newest, done.forgotten) == (oldest, newest, max(oldest - 1, 0))
        assert gallery.log() == log
        for revision in range(newest + 1):
            if revision < oldest:
                with pytest.raises(RevisionMissing, match=f"forgotten by compact; the oldest one kept is {oldest}"):
                    gallery.search_classes(QUERIES, as_of=revision)
            else:
                assert answers(gallery, revision) == expected[revision]
        assert gallery.verify() == []
    with Gallery.open(path) as again:
        assert answers(again) == expected[newest]
    if before is not None:
        assert undone(path, path.with_name("after")) == before
    elif newest:
        with pytest.raises(GalleryError, match="nothing to undo"):
            undone(path, path.with_name("after"))


@pytest.fixture
def birds(gallery):
    """Four revisions; two embeddings that none of the last two has, and one that was only staged."""
    gallery.add("egret", [(f"{row}", None, POOL[row]) for row in range(3)])
    gallery.remove("egret", hashes=["0", "1"])
    gallery.add("heron", [("3", None, POOL[3])])
    gallery.add("stork", [("4", None, POOL[4])])
    gallery.stage(["staged"], POOL[5:6])
    return gallery


def count(gallery, table):
    with closing(sqlite3.connect(gallery.path / "catalog.sqlite")) as connection:
        return connection.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0]


def test_embeddings_that_nothing_names_are_gone_and_may_come_again(birds):
    assert birds.compact(keep=4).images == 1  # the staged one
    done = birds.compact(keep=2)

    assert (done.images, done.forgotten, done.oldest) == (2, 2, 3)
    assert birds.staged_or_known(["0", "1", "2", "3", "4", "staged"]) == {"2", "3", "4"}
    assert count(birds, "images") == count(birds, "embeddings") == 3
    birds.add("egret", [("0", None, POOL[0])])
    assert birds.search_references(POOL[0], k=1)[0][0].name == "egret"
    assert birds.verify() == []


def test_classes_that_are_forgotten_leave_no_row(gallery):
    for number in range(4):
        gallery.add(f"class {number}", [(f"{number}", None, POOL[number])])
        gallery.set(f"class {number}", {"site": "pond"}, hash=f"{number}")
        gallery.remove(f"class {number}")
    gallery.add("heron", [("9", None, POOL[9])])

    gallery.compact(keep=1)

    left = {table: count(gallery, table) for table in ("classes", "names", "references", "attributes", "images")}
    assert left == {"classes": 1, "names": 1, "references": 1, "attributes": 0, "images": 1}
    assert gallery.add("egret", [("0", None, POOL[0])]).revision == gallery.revision
    assert gallery.verify() == []


def test_the_file_becomes_smaller(gallery):
    for number in range(6):
        hashes = [f"{number} {row}" for row in range(200)]
        gallery.add("egret", [(hash, None, POOL[row % 40]) for row, hash in enumerate(hashes)])
        gallery.remove("egret")
    before = gallery._catalog.bytes()

    done = gallery.compact(keep=1)

    assert done.bytes == before - gallery._catalog.bytes() > before / 2


def test_a_compacted_gallery_remembers_no_more_than_it_kept(birds):
    birds.compact(keep=1)

    with pytest.raises(GalleryError, match="what was before revision 4 was forgotten by compact"):
        birds.undo()
    birds.rename("stork", "ibis")
    assert [revision.id for revision in birds.log()] == [5, 4]
    birds.undo()
    assert birds.classes() == {"egret": 1, "heron": 1, "stork": 1}
    assert birds.compact(keep=9).forgotten == 0


def test_a_reader_that_lags_behind_what_is_kept_sees_the_newest_revision(birds):
    with Gallery.open(birds.path) as reader:
        reader.search_classes(QUERIES)
        birds.remove("egret")
        birds.add("ibis", [("7", None, POOL[7])])
        birds.compact(keep=1)

        assert answers(reader) == answers(birds)
        assert reader.verify() == []


def test_views_that_are_older_than_what_is_kept_are_not_believed(birds):
    birds.save_views()
    old = {name: (birds.path / name).read_bytes() for name in VIEWS}
    birds.remove("egret")
    birds.add("ibis", [("7", None, POOL[7])])
    birds.compact(keep=1)
    expected = answers(birds)
    birds.close()
    for name, content in old.items():
        (birds.path / name).write_bytes(content)

    with Gallery.open(birds.path) as again:
        assert answers(again) == expected
        assert again.verify() == []


def test_what_fails_on_the_way_forgets_nothing(birds, monkeypatch):
    before = {revision: answers(birds, revision) for revision in range(5)}

    def broken(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("indexer.compaction.clear", broken)
    with pytest.raises(KeyboardInterrupt):
        birds.compact(keep=1)

    assert {revision: answers(birds, revision) for revision in range(5)} == before
    assert birds.verify() == []


def test_a_file_that_cannot_be_made_smaller_is_told_and_what_is_forgotten_stays_so(birds, monkeypatch):
    def full(_):
        raise GalleryError("the disk is full")

    monkeypatch.setattr("indexer.catalog.Catalog.shrink", full)

    assert birds.compact(keep=1).problem == "the disk is full"
    assert [revision.id for revision in birds.log()] == [4]


def test_nobody_compacts_while_somebody_writes(birds, monkeypatch):
    monkeypatch.setattr("indexer.lock.LOCK_SECONDS", 0.01)
    with WriterLock(birds.path / LOCK).held(), pytest.raises(GalleryBusy):
        birds.compact(keep=1)


def test_at_least_one_revision_is_kept(birds):
    for wrong in (0, -1, 1.5, None):
        with pytest.raises(ArgumentError):
            birds.compact(keep=wrong)
    assert len(birds.log()) == 4


def test_an_empty_gallery_stays_empty(gallery):
    done = gallery.compact(keep=3)

    assert (done.oldest, done.newest, done.forgotten, gallery.classes(as_of=0)) == (0, 0, 0, {})
    assert gallery.verify() == []


def test_a_compacted_gallery_can_be_exported_and_imported(birds, tmp_path):
    birds.compact(keep=2)
    portable.export_gallery(birds.path, tmp_path / "out")
    portable.import_gallery(tmp_path / "out", tmp_path / "in")

    with Gallery.open(tmp_path / "in") as imported:
        assert imported.log() == birds.log()
        for revision in (3, 4):
            assert answers(imported, revision) == answers(birds, revision)
        with pytest.raises(RevisionMissing):
            imported.classes(as_of=2)
