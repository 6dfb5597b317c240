"""Vectors that lie in a file are what they would be in memory, and take none."""

from __future__ import annotations

import gc
import mmap
import os
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer import filed as in_files
from indexer import searched, view_file
from indexer.among import FEW
from indexer.buffer import room_behind
from indexer.faiss_index import BATCHED, FaissIndex
from indexer.filed import Filed
from indexer.folder import KNOWN, PROTOTYPES, REFERENCES
from indexer.gallery import Gallery
from indexer.history import Coming
from indexer.sealed import Label, NoView
from indexer.trials import Promise

LABEL = Label("references.faiss", "a" * 32, 7, "b" * 32)
DIM = 16
A_PAGE = mmap.PAGESIZE // (4 * DIM)  # vectors
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux how much memory there is")


@pytest.mark.parametrize("start", [0, 64, 256])
@pytest.mark.parametrize("count", [0, 1, A_PAGE - 4, A_PAGE - 1, A_PAGE, A_PAGE + 1, 3 * A_PAGE])
@pytest.mark.parametrize("room", [0, 1, 2 * A_PAGE])
def test_an_array_begins_in_a_file_and_goes_on_in_memory(tmp_path, random_units, start, count, room):
    vectors, content = random_units(count + room), b"x" * start
    (tmp_path / "file").write_bytes(content + vectors[:count].tobytes() + b"what comes after")
    with (tmp_path / "file").open("rb") as file:
        filed = Filed(file.fileno(), start, count, DIM)
    array, other = filed.memory(room), filed.memory(room)
    array[count:] = vectors[count:]

    assert np.array_equal(array, vectors)
    assert np.array_equal(other[:count], vectors[:count])
    assert (tmp_path / "file").read_bytes() == content + vectors[:count].tobytes() + b"what comes after"


def open_files():
    return len(list(Path("/dev/fd").iterdir()))


def test_what_was_written_without_a_name_leaves_nothing(tmp_path, random_units):
    vectors, open_before = random_units(1000), open_files()
    filed = Filed.written((vectors[start : start + 300] for start in range(0, 1000, 300)), DIM, tmp_path)
    array = filed.memory(0)
    del filed
    gc.collect()

    assert np.array_equal(array, vectors)
    assert list(tmp_path.iterdir()) == []
    assert open_files() == open_before


@pytest.fixture
def all_filed(monkeypatch):
    """Nothing is too small to lie in a file."""
    monkeypatch.setattr(in_files, "LARGE", 0)


vectors_of = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
changes = st.lists(
    st.tuples(st.sampled_from(["add", "remove", "tighten"]), st.sets(st.integers(100, 199), max_size=80)), max_size=8
)


def of_file(path, index):
    view_file.save(index, path, LABEL)
    return view_file.load(path, what=LABEL.what, gallery=LABEL.gallery, dim=4)[0]


@pytest.mark.usefixtures("all_filed")
@given(changes)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_index_in_a_file_answers_to_the_bit_as_one_in_memory(tmp_path, steps):
    memory = FaissIndex(4).adding(range(100, 160), vectors_of[100:160])
    others = [of_file(tmp_path / "view", memory), view_file.save(memory, tmp_path / "view", LABEL)]
    held = set(range(100, 160))
    for kind, ids in steps:
        if kind == "add":
            fresh = sorted(ids - held)
            held |= ids
            memory, *others = (one.adding(fresh, vectors_of[fresh]) for one in (memory, *others))
        elif kind == "remove":
            held -= ids
            memory, *others = (one.without(ids) for one in (memory, *others))
        else:
            others = [one.tightened() for one in others]

    for other in others:
        assert other.ids.tolist() == memory.ids.tolist()
        assert np.array_equal(other.laid_out()[:], memory.all_vectors())
        assert np.array_equal(other.laid_out()[np.arange(len(held))[::-3]], memory.all_vectors()[::-3])
        assert np.array_equal(other.vectors(sorted(held)), vectors_of[sorted(held)])
        for count in (1, BATCHED, FEW + 1):
            for found, expected in zip(*(one.search(vectors_of[:count], 20) for one in (other, memory)), strict=True):
                assert np.array_equal(found, expected)


@pytest.mark.usefixtures("all_filed")
def test_growing_beyond_the_room_behind_a_file_leaves_the_file_where_it_is(tmp_path):
    index = of_file(tmp_path / "view", FaissIndex(4).adding(range(100), vectors_of[:100]))
    grown = index
    for id in range(100, 200):
        grown = grown.adding([id], vectors_of[id : id + 1])

    assert room_behind(100) < 100
    assert grown._buffer is not index._buffer
    assert grown._buffer.filed == 100
    assert np.array_equal(grown.vectors(range(200)), vectors_of)


@pytest.mark.usefixtures("all_filed")
def test_what_nobody_has_looked_at_is_checked_by_versions_that_have_grown_too(tmp_path):
    view_file.save(FaissIndex(4).adding(range(100), vectors_of[:100]), tmp_path / "view", LABEL)
    content = bytearray((tmp_path / "view").read_bytes())
    content[content.index(vectors_of[50].tobytes())] ^= 1
    (tmp_path / "view").write_bytes(content)
    index, _ = view_file.load(tmp_path / "view", what=LABEL.what, gallery=LABEL.gallery, dim=4)
    grown = index.adding(range(100, 200), vectors_of[100:])

    assert grown._buffer is not index._buffer
    assert np.array_equal(grown.vectors([150]), vectors_of[[150]])
    for version in (grown, grown.tightened(), index):
        with pytest.raises(NoView, match="checksum"):
            version.vectors([50])


def test_many_vectors_at_once_go_into_a_file_and_few_into_memory(tmp_path, monkeypatch):
    few = FaissIndex(4).filled(100, lambda: [(range(100), vectors_of[:100])], tmp_path)
    monkeypatch.setattr(in_files, "LARGE", 1000)
    many = few.without([3]).filled(
        100, lambda: [(range(i, i + 50), vectors_of[i : i + 50]) for i in (100, 150)], tmp_path
    )
    again = many.filled(5, lambda: [(range(200, 205), vectors_of[:5])], tmp_path)

    assert [index._buffer.filed for index in (few, many, again)] == [0, 199, 199]
    assert many.ids.tolist() == [id for id in range(200) if id != 3]
    assert np.array_equal(many.all_vectors(), np.delete(vectors_of, 3, axis=0))
    assert np.array_equal(again.vectors([200, 199]), vectors_of[[0, 199]])


# -- galleries -------------------------------------------------------------------------------------------------------


def fill(gallery, name, vectors):
    hashes = [f"{name} {row}" for row in range(len(vectors))]
    gallery.stage(hashes, vectors)
    come = [Coming(f"{name} {row % 7}", hash, None, hash) for row, hash in enumerate(hashes)]
    gallery.revise("index", name, leave=(), come=come)


def answers(gallery, queries):
    return gallery.search_classes(queries, k=20), gallery.search_references(queries, k=20)


def classes(found):
    return [(one.hits, one.scores.tobytes()) for one in found]


@pytest.fixture
def path(tmp_path, random_units):
    """A gallery with its views on disk."""
    with Gallery.create(tmp_path / "birds.gallery", dim=DIM, fingerprint="toy") as gallery:
        fill(gallery, "first", random_units(300))
        gallery.save_views()
    return tmp_path / "birds.gallery"


@pytest.fixture
def in_memory(path):
    """The same gallery without views on disk, and with none to be made: folders of those names are in their place."""
    copy = path.with_name("memory.gallery")
    shutil.copytree(path, copy, ignore=shutil.ignore_patterns("*.faiss", KNOWN))
    for what in (REFERENCES, KNOWN):
        (copy / what).mkdir()
    return copy


def filed(gallery):
    snapshot = gallery._views.ask(lambda snapshot: snapshot)
    return snapshot.references._buffer.filed, snapshot.prototypes._buffer.filed


def test_a_gallery_in_files_answers_to_the_bit_as_one_in_memory_whatever_is_changed(
    path, in_memory, random_units, monkeypatch
):
    queries = random_units(40, seed=5)
    with Gallery.open(path) as one, Gallery.open(in_memory) as other:
        other.search_classes(queries)
        monkeypatch.setattr(in_files, "LARGE", 4 * DIM * 200)

        def same():
            (found, near), (expected, nearest) = answers(one, queries), answers(other, queries)
            assert classes(found) == classes(expected)
            assert near == nearest
            single, alone = answers(one, queries[0]), answers(other, queries[0])
            assert classes(single[0]) == classes(alone[0])
            assert single[1] == alone[1]

        same()
        assert (filed(one), filed(other)) == ((300, 0), (0, 0))
        for number in range(3):
            for gallery in (one, other):
                fill(gallery, f"more {number}", random_units(40, seed=10 + number))
                gallery.remove(f"first {number}")
                gallery.remove("first 5", hashes=[f"first {5 + 7 * number}"])
            same()
        for gallery in (one, other):
            gallery.undo()
            gallery.save_views()
        same()
        assert filed(one) == (len(one.references()), 0)
        assert filed(other) == (0, 0)
        assert one.verify() == []


@pytest.mark.usefixtures("large")
def test_damage_behind_which_others_came_is_met_by_the_query_that_looks_there(path, in_memory, random_units):
    vectors = random_units(300)
    content = bytearray((path / REFERENCES).read_bytes())
    content[content.index(vectors[200].tobytes())] ^= 1
    (path / REFERENCES).write_bytes(content)
    with Gallery.open(path) as one, Gallery.open(in_memory) as other:
        for gallery in (one, other):
            gallery.add("heron", [("new", None, vectors[0] + vectors[1])])

        assert answers(one, vectors[:9])[1] == answers(other, vectors[:9])[1]
        assert one.verify() == []
        assert filed(one)[0] == 301  # made anew


SPOILT = {
    "cut": lambda path: os.truncate(path, 5000),
    "emptied": lambda path: path.write_bytes(b""),
    "overwritten": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"more"),
    "gone": lambda path: path.unlink(),
}


@pytest.mark.usefixtures("all_filed")
@pytest.mark.parametrize("spoil", SPOILT)
def test_whatever_is_done_to_files_that_are_open_changes_no_answer(path, random_units, spoil):
    queries = random_units(9, seed=5)
    with Gallery.open(path) as gallery:
        expected = answers(gallery, queries)
        for what in (REFERENCES, PROTOTYPES):
            time.sleep(0.01)  # the system tells times no finer
            SPOILT[spoil](path / what)
            found = answers(gallery, queries)

            assert classes(found[0]) == classes(expected[0])
            assert found[1] == expected[1]


@pytest.fixture
def large(monkeypatch):
    """Two hundred vectors are many."""
    monkeypatch.setattr(in_files, "LARGE", 4 * DIM * 200)


@pytest.fixture
def unwritable(path, monkeypatch):
    """From now on no view and no file without a name can be written."""

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", full)
    monkeypatch.setattr(view_file, "save", full)


@pytest.mark.usefixtures("large")
def test_views_are_made_from_the_catalog_without_holding_all_in_memory(path, in_memory, random_units, monkeypatch):
    queries = random_units(9, seed=5)
    with Gallery.open(in_memory) as other:
        monkeypatch.setattr(view_file, "save", lambda *_: pytest.fail("wrote a view"))
        found, near = answers(other, queries)
        assert filed(other) == (300, 0)
        assert sorted(entry.name for entry in in_memory.iterdir() if "faiss" in entry.name) == [REFERENCES]
        monkeypatch.undo()
    with Gallery.open(path) as one:
        assert near == answers(one, queries)[1]
        assert classes(found) == classes(answers(one, queries)[0])


@pytest.mark.usefixtures("large", "unwritable")
def test_where_nothing_can_be_written_memory_must_do(path, random_units):
    queries = random_units(9, seed=5)
    with Gallery.open(path) as gallery:
        expected = answers(gallery, queries)[1]
        (path / REFERENCES).unlink()
    with Gallery.open(path) as gallery:
        assert answers(gallery, queries)[1] == expected
        assert filed(gallery)[0] == 0


@pytest.mark.usefixtures("large")
def test_what_came_at_once_in_great_number_is_found(path, random_units):
    with Gallery.open(path) as gallery:
        gallery.search_references(random_units(1))
        vectors = random_units(250, seed=3)
        fill(gallery, "many", vectors)

        assert [hits[0].reference for hits in gallery.search_references(vectors, k=1)] == [
            f"many {row}" for row in range(250)
        ]
        assert gallery.verify() == []


def test_an_index_is_tuned_on_what_is_there(path, monkeypatch):
    """Each vector with its own class, also where some are masked."""
    taken = []
    monkeypatch.setattr("indexer.searched.tune", lambda vectors, labels, *_, **__: taken.append((vectors, labels)))
    with Gallery.open(path) as gallery:
        for name in ("first 3", "first 5"):
            snapshot = gallery._views.ask(lambda snapshot: snapshot)
            searched.REFERENCES.tune(snapshot, Promise(), None, None)
            vectors, labels = taken.pop()
            ids = snapshot.references.ids.tolist()
            assert np.array_equal(vectors[:], snapshot.references.vectors(ids))
            assert labels.tolist() == [snapshot.known[id].class_id for id in ids]
            gallery.remove(name)


def anonymous():
    """Bytes of memory that this process alone has, and that lie in no file."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(status["RssAnon"].split()[0])


@LINUX
def test_what_is_asked_of_a_view_takes_no_memory_for_its_vectors(tmp_path, monkeypatch):
    count, dim = 30_000, 512
    size = 4 * dim * count
    draw = np.random.default_rng(0)
    monkeypatch.setattr(in_files, "LARGE", 1 << 20)
    parts = (
        (range(start, start + 1000), draw.standard_normal((1000, dim), np.float32)) for start in range(0, count, 1000)
    )
    queries = draw.standard_normal((20, dim), np.float32)
    FaissIndex(dim).adding(range(20), queries).search(queries, 5)  # what libraries take once
    before = anonymous()

    made = FaissIndex(dim).filled(count, lambda: parts, tmp_path)
    saved = view_file.save(made, tmp_path / "view", LABEL)
    loaded, _ = view_file.load(tmp_path / "view", what=LABEL.what, gallery=LABEL.gallery, dim=dim)
    for index in (made, saved, loaded, loaded.without([5]), loaded.adding([count], queries[:1])):
        index.search(queries, 5)
        index.search(queries[:1], 5)
        index.vectors([3, 9])

    assert anonymous() - before < size / 4
    assert len(loaded.without([5]).tightened()) == count - 1
    assert anonymous() - before < size / 4
