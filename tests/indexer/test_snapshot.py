"""However a view comes to show a revision, it shows the same as one that is made from the catalog alone."""

from __future__ import annotations

import gc
import shutil

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer import view_file
from indexer.folder import KNOWN, LOCK, PROTOTYPES, REFERENCES, VIEWS, VIEWS_LOCK
from indexer.gallery import Gallery
from indexer.history import Coming
from indexer.lock import WriterLock
from indexer.snapshot import Snapshot

POOL = np.random.default_rng(7).normal(size=(12, 16))
NAMES = ["egret", "heron", "stork", "ibis"]
QUERIES = np.random.default_rng(1).normal(size=(6, 16))


def answers(gallery):
    """All there is to see in a gallery, rounded: a mean may sum in another order."""
    classes = gallery.search_classes(QUERIES, k=99)
    references = gallery.search_references(QUERIES, k=99)
    return (
        [[(hit.name, hit.reference, round(hit.score, 5)) for hit in answer.hits] for answer in classes],
        [[(hit.name, hit.reference, round(hit.score, 5)) for hit in hits] for hits in references],
    )


def without_views(path):
    """A copy of the gallery that has nothing but its catalog."""
    copy = path.with_name("copy.gallery")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(path, copy, ignore=shutil.ignore_patterns("*.faiss", KNOWN))
    return copy


names, numbers = st.sampled_from(NAMES), st.sets(st.integers(0, 11), min_size=1, max_size=4)
steps = st.one_of(
    st.tuples(st.just("add"), names, numbers),
    st.tuples(st.just("add"), names, numbers),
    st.tuples(st.just("forget"), names, numbers),
    st.tuples(st.just("remove"), names),
    st.tuples(st.just("rename"), names, names),
    st.tuples(st.just("undo")),
    st.tuples(st.just("query")),
    st.tuples(st.just("reopen")),
)


class Dictionary:
    """What a gallery should be: {name: {number}}, and how it was before."""

    def __init__(self):
        self.states = [{}]

    def apply(self, gallery, kind, name="", other=None):
        now = {key: set(value) for key, value in self.states[-1].items()}
        if kind == "add":
            now[name] = now.get(name, set()) | other
            gallery.add(name, [(f"{number}", f"{number}.jpg", POOL[number]) for number in sorted(other)])
        elif kind == "forget" and now.get(name, set()) & other:
            gone = now[name] & other
            now[name] -= gone
            gallery.remove(name, hashes=[f"{number}" for number in gone])
        elif kind == "remove" and name in now:
            del now[name]
            gallery.remove(name)
        elif kind == "rename" and name in now and other not in now:
            now[other] = now.pop(name)
            gallery.rename(name, other)
        elif kind == "undo" and len(self.states) > 1:
            gallery.undo()
            self.states.append(self.states[-2])
            return
        now = {key: value for key, value in now.items() if value}
        if now != self.states[-1]:
            self.states.append(now)


@given(st.lists(steps, max_size=14))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_after_any_changes_a_gallery_is_what_a_dictionary_would_be(tmp_path_factory, sequence):
    path, model = tmp_path_factory.mktemp("made") / "birds.gallery", Dictionary()
    gallery = Gallery.create(path, dim=16, fingerprint="toy")
    for step in sequence:
        if step[0] == "query":
            answers(gallery)
        elif step[0] == "reopen":
            gallery.close()
            gallery = Gallery.open(path)
        else:
            model.apply(gallery, *step)

    expected = model.states[-1]
    with gallery, Gallery.open(without_views(path)) as fresh:
        assert gallery.classes() == {name: len(numbers) for name, numbers in sorted(expected.items())}
        assert gallery.revision == len(model.states) - 1
        assert answers(gallery) == answers(fresh)
        shown = {(hit.name, hit.reference) for hit in gallery.search_references(QUERIES[0], k=99)[0]}
        assert shown == {(name, f"{number}.jpg") for name, numbers in expected.items() for number in numbers}
        assert gallery.verify() == fresh.verify() == []


@pytest.fixture
def birds(tmp_path, random_units):
    """The path of a gallery of 30 references in 10 classes, with its views on disk."""
    vectors = random_units(30)
    with Gallery.create(tmp_path / "birds.gallery", dim=16, fingerprint="toy") as gallery:
        gallery.stage([f"hash {row}" for row in range(30)], vectors)
        come = [Coming(f"class {row // 3}", f"hash {row}", None, f"{row}.jpg") for row in range(30)]
        gallery.revise("index", "thirty", leave=(), come=come)
        gallery.save_views()
    return tmp_path / "birds.gallery"


@pytest.fixture
def expected(birds):
    with Gallery.open(without_views(birds)) as gallery:
        return answers(gallery)


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 0x40
    path.write_bytes(content)


DAMAGE = {
    "deleted": lambda path: path.unlink(),
    "emptied": lambda path: path.write_bytes(b""),
    "cut in half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "one byte short": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "flipped in a vector": lambda path: flip(path, 300),
    "flipped in the ids": lambda path: flip(path, -200),
    "flipped in the checksum": lambda path: flip(path, -3),
    "overwritten": lambda path: path.write_bytes(b"IxFI" + bytes(5000)),
    "made a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("what", [(REFERENCES,), (PROTOTYPES,), (KNOWN,), VIEWS])
def test_damage_to_the_views_changes_no_answer(birds, expected, what, damage):
    for name in what:
        DAMAGE[damage](birds / name)

    with Gallery.open(birds) as gallery:
        assert answers(gallery) == expected


def test_damaged_views_are_made_anew_on_disk(birds, expected):
    flip(birds / REFERENCES, 300)
    with Gallery.open(birds) as gallery:
        assert answers(gallery) == expected

    with Gallery.open(birds) as gallery:
        assert gallery.verify() == []
        assert (birds / REFERENCES).exists()


def test_views_that_took_each_others_place_are_not_believed(birds, expected):
    (birds / REFERENCES).rename(birds / "other")
    (birds / PROTOTYPES).rename(birds / REFERENCES)
    (birds / "other").rename(birds / PROTOTYPES)

    with Gallery.open(birds) as gallery:
        assert answers(gallery) == expected


def test_the_views_of_another_gallery_are_not_believed(birds, expected, tmp_path):
    with Gallery.create(tmp_path / "other", dim=16, fingerprint="toy") as other:
        other.add("decoy", [(f"hash {row}", None, vector) for row, vector in enumerate(QUERIES)])
        other.save_views()
    for name in VIEWS:
        shutil.copy(tmp_path / "other" / name, birds / name)

    with Gallery.open(birds) as gallery:
        assert answers(gallery) == expected


def test_the_views_of_a_copy_that_went_its_own_way_are_not_believed(birds, tmp_path):
    shutil.copytree(birds, tmp_path / "fork")
    for path, vector in ((birds, POOL[0]), (tmp_path / "fork", POOL[1])):
        with Gallery.open(path) as gallery:
            gallery.add("newcomer", [("new", path.name, vector)])
            gallery.save_views()
    for name in VIEWS:
        shutil.copy(tmp_path / "fork" / name, birds / name)

    with Gallery.open(birds) as gallery, Gallery.open(without_views(birds)) as fresh:
        assert answers(gallery) == answers(fresh)


def test_views_older_than_the_catalog_are_caught_up(birds):
    for name in VIEWS:
        shutil.copy(birds / name, birds / f"{name}.old")
    with Gallery.open(birds) as gallery:
        gallery.add("class 3", [("new", "new.jpg", POOL[0])])
        gallery.rename("class 4", "four")
        gallery.remove("class 5")
        gallery.remove("class 6", hashes=["hash 18"])
        gallery.save_views()

    for old in ((REFERENCES,), (PROTOTYPES,), (KNOWN,), (REFERENCES, KNOWN), VIEWS):
        for name in old:
            shutil.copy(birds / f"{name}.old", birds / name)
        with Gallery.open(birds) as gallery, Gallery.open(without_views(birds)) as fresh:
            assert answers(gallery) == answers(fresh)
            assert gallery.verify() == []


def test_views_newer_than_a_catalog_restored_from_a_copy_are_not_believed(birds, expected):
    shutil.copy(birds / "catalog.sqlite", birds / "backup")
    with Gallery.open(birds) as gallery:
        gallery.add("newcomer", [("new", None, POOL[0])])
        gallery.save_views()
    (birds / "backup").rename(birds / "catalog.sqlite")

    with Gallery.open(birds) as gallery:
        assert answers(gallery) == expected


def test_a_catalog_restored_under_an_open_gallery_is_noticed(birds, expected):
    import sqlite3

    with Gallery.open(birds) as gallery:
        before = sqlite3.connect(":memory:")
        with sqlite3.connect(birds / "catalog.sqlite") as source:
            source.backup(before)
        gallery.add("newcomer", [("new", None, POOL[0])])
        assert answers(gallery) != expected
        with sqlite3.connect(birds / "catalog.sqlite") as target:
            before.backup(target)

        assert answers(gallery) == expected
        for connection in (before, source, target):
            connection.close()


def test_believed_views_spare_the_catalog(birds, expected, monkeypatch):
    monkeypatch.setattr("indexer.reader.unpacked", lambda *_: pytest.fail("read a vector from the catalog"))

    with Gallery.open(birds) as gallery:
        assert answers(gallery) == expected


def test_no_query_reads_the_catalog_while_nothing_changes(birds, expected, monkeypatch):
    with Gallery.open(birds) as gallery:
        answers(gallery)
        monkeypatch.setattr(gallery._catalog, "reading", lambda: pytest.fail("read the catalog"))

        assert answers(gallery) == expected


def test_a_small_change_is_caught_up_without_loading_anew(birds, monkeypatch):
    with Gallery.open(birds) as gallery:
        answers(gallery)
        monkeypatch.setattr(Snapshot, "load", lambda *_: pytest.fail("loaded anew"))
        gallery.add("class 3", [("new", "new.jpg", POOL[0])])

        assert gallery.search_references(POOL[0])[0][0].reference == "new.jpg"


def test_what_came_and_went_between_two_queries_was_never_there(birds, expected):
    with Gallery.open(birds) as gallery:
        answers(gallery)
        gallery.add("passing", [("new", "new.jpg", POOL[0])])
        gallery.rename("passing", "passed")
        gallery.remove("passed")

        assert answers(gallery) == expected


def test_small_changes_do_not_write_the_views(birds, monkeypatch):
    monkeypatch.setattr(view_file, "save", lambda *_: pytest.fail("wrote a view"))

    with Gallery.open(birds) as gallery:
        for number in range(5):
            gallery.add("class 3", [(f"new {number}", None, POOL[number])])
            answers(gallery)
        monkeypatch.undo()
        before = (birds / REFERENCES).stat().st_mtime_ns
    assert (birds / REFERENCES).stat().st_mtime_ns > before  # at the end, since five of thirty are many


def test_many_changes_write_the_views_at_once(birds):
    before = (birds / REFERENCES).stat().st_mtime_ns
    with Gallery.open(birds) as gallery:
        answers(gallery)
        hashes = [f"many {row}" for row in range(1500)]
        gallery.stage(hashes, np.random.default_rng(0).normal(size=(1500, 16)))
        come = [Coming(f"class {row % 10}", hash, None, None) for row, hash in enumerate(hashes)]
        gallery.revise("index", "many", leave=(), come=come)
        answers(gallery)

        assert (birds / REFERENCES).stat().st_mtime_ns > before
        assert gallery.verify() == []


def test_a_view_that_cannot_be_written_stays_in_memory(birds, expected, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    flip(birds / REFERENCES, 300)
    monkeypatch.setattr(view_file, "save", full)

    with Gallery.open(birds) as gallery:
        assert answers(gallery) == expected
        gallery.save_views()
        assert answers(gallery) == expected


def test_while_somebody_else_saves_the_views_nobody_waits(birds, expected):
    (birds / REFERENCES).unlink()
    with WriterLock(birds / VIEWS_LOCK).held(), Gallery.open(birds) as gallery:
        assert answers(gallery) == expected
        gallery.save_views()

    assert not (birds / REFERENCES).exists()


def test_saving_views_keeps_no_writer_waiting(birds, monkeypatch):
    real = view_file.save

    def save(*arguments):
        with Gallery.open(birds) as writer, WriterLock(birds / LOCK).held(seconds=0):
            assert writer.revision == 1
        return real(*arguments)

    (birds / REFERENCES).unlink()
    monkeypatch.setattr(view_file, "save", save)
    with Gallery.open(birds) as gallery:
        gallery.save_views()

    assert (birds / REFERENCES).exists()


def test_closing_an_older_reader_leaves_newer_views_alone(birds):
    reader = Gallery.open(birds)
    (birds / REFERENCES).unlink()
    answers(reader)
    with Gallery.open(birds) as writer:
        writer.add("class 3", [("new", None, POOL[0])])
        writer.save_views()
    newer = (birds / REFERENCES).read_bytes()

    reader.close()

    assert (birds / REFERENCES).read_bytes() == newer


def test_an_interrupted_renewal_is_made_good_by_the_next_query(birds, monkeypatch):
    with Gallery.open(birds) as gallery:
        answers(gallery)
        gallery.add("class 3", [("new", "new.jpg", POOL[0])])
        gallery.remove("class 4")

        def interrupted(*_):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr("indexer.snapshot._recomputed", interrupted)
            with pytest.raises(KeyboardInterrupt):
                answers(gallery)

        with Gallery.open(without_views(birds)) as fresh:
            assert answers(gallery) == answers(fresh)


@pytest.mark.parametrize("root", [None, "/", "/photos", "/photos/", "", "no/slash", "/Große Möwe"])
@pytest.mark.parametrize("path", [None, "heron/1.jpg", "with%percent_.jpg", ""])
def test_what_the_catalog_says_to_show_is_what_a_row_shows(gallery, root, path):
    gallery.stage(["0123456789abcdef"], POOL[:1])
    gallery.revise("index", "index", leave=[], come=[Coming("heron", "0123456789abcdef", root, path)])

    with gallery._catalog.reading() as reader:
        rows = [(row.id, row.class_id, row.shown) for row in reader.references()]
        assert list(reader.shown()) == rows
    assert gallery.search_references(POOL[0])[0][0].reference == rows[0][2]


@pytest.mark.parametrize("collecting", [True, False])
def test_loading_leaves_the_collector_as_it_was(birds, collecting):
    try:
        if not collecting:
            gc.disable()
        with Gallery.open(birds) as gallery:
            gallery.search_references(POOL[0])
        assert gc.isenabled() == collecting
    finally:
        gc.enable()
