from __future__ import annotations

import errno
import os
from concurrent.futures import ThreadPoolExecutor

import faiss
import numpy as np
import pytest

from indexer import view_file
from indexer.faiss_index import FaissIndex
from indexer.sealed import Label, NoView, Sealed

GALLERY, MARK = "a" * 32, "b" * 32
LABEL = Label("references.faiss", GALLERY, 7, MARK)


@pytest.fixture(autouse=True, params=[0, 1 << 30], ids=["in a file", "in memory"])
def large(request, monkeypatch):
    """Vectors stay in the file, or are read into memory."""
    monkeypatch.setattr("indexer.filed.LARGE", request.param)


@pytest.fixture
def index(random_units):
    return FaissIndex(16).adding([5, 3, 9], random_units(3))


@pytest.fixture
def path(tmp_path, index):
    view_file.save(index, tmp_path / "references.faiss", LABEL)
    return tmp_path / "references.faiss"


def load(path, *, what="references.faiss", gallery=GALLERY, dim=16):
    """Load it, and ask for all that is in it."""
    index, label = view_file.load(path, what=what, gallery=gallery, dim=dim)
    index.all_vectors()
    return index, label


def test_what_is_loaded_is_what_was_saved(path, index):
    loaded, label = load(path)

    assert label == LABEL
    assert loaded.ids.tolist() == [5, 3, 9]
    assert np.array_equal(loaded.vectors([3, 5, 9]), index.vectors([3, 5, 9]))


def test_an_empty_index_can_be_saved(tmp_path):
    view_file.save(FaissIndex(16), tmp_path / "empty", LABEL)

    assert len(load(tmp_path / "empty")[0]) == 0


@pytest.mark.parametrize("dim", [1, 3, 16, 17, 200])
def test_faiss_itself_reads_the_file_and_searches_it(tmp_path, dim):
    vectors = np.random.default_rng(dim).normal(size=(20, dim)).astype(np.float32)
    view_file.save(FaissIndex(dim).adding(range(20), vectors), tmp_path / "view", LABEL)
    read = faiss.read_index(str(tmp_path / "view"))

    assert (read.ntotal, read.d, read.metric_type) == (20, dim, faiss.METRIC_INNER_PRODUCT)
    assert np.array_equal(read.reconstruct_n(0, 20), vectors)
    assert np.allclose(read.search(vectors, 20)[0], -np.sort(-vectors @ vectors.T, axis=1), atol=1e-5)


@pytest.mark.parametrize("dim", [1, 3, 16, 17, 200])
def test_vectors_begin_in_the_file_where_a_processor_likes_them(tmp_path, dim):
    vectors = np.random.default_rng(dim).normal(size=(20, dim)).astype(np.float32)
    view_file.save(FaissIndex(dim).adding(range(20), vectors), tmp_path / "view", LABEL)

    assert (tmp_path / "view").read_bytes().index(vectors.tobytes()) % 64 == 0


def test_no_byte_can_change_unnoticed(path, with_a_byte_changed):
    for damaged in with_a_byte_changed(path.read_bytes()):
        path.write_bytes(damaged)
        with pytest.raises(NoView):
            load(path)


def test_no_byte_can_be_missing_or_too_many(path, with_bytes_missing_or_more):
    for damaged in with_bytes_missing_or_more(path.read_bytes()):
        path.write_bytes(damaged)
        with pytest.raises(NoView):
            load(path)


def test_a_view_of_something_else_is_no_view(path):
    for other in ({"what": "prototypes.faiss"}, {"gallery": "c" * 32}, {"dim": 8}):
        with pytest.raises(NoView, match="something else"):
            load(path, **other)


def test_another_kind_of_index_is_no_view(path, monkeypatch, index):
    real = view_file._header
    monkeypatch.setattr(view_file, "_header", lambda *sizes: real(*sizes).replace(b"IxFI", b"IxF2", 1))
    view_file.save(index, path, LABEL)
    monkeypatch.undo()

    with pytest.raises(NoView, match="another kind"):
        load(path)


@pytest.fixture
def many(tmp_path, random_units, monkeypatch):
    """The path of a view of 100 vectors in blocks of 8, and these."""
    monkeypatch.setattr(view_file, "BLOCK", 8 * 4 * 16)
    vectors = random_units(100)
    view_file.save(FaissIndex(16).adding(range(100), vectors), tmp_path / "many", LABEL)
    return tmp_path / "many", vectors


def test_vectors_are_read_when_they_are_asked_for_and_then_no_more(many, monkeypatch):
    path, vectors = many
    read = []
    real = Sealed.read_into
    monkeypatch.setattr(
        Sealed, "read_into", lambda file, block, memory: (read.append(block), real(file, block, memory))
    )
    index, _ = view_file.load(path, what=LABEL.what, gallery=GALLERY, dim=16)
    read.clear()

    assert np.array_equal(index.vectors([3, 99, 20, 4]), vectors[[3, 99, 20, 4]])
    assert sorted(read) == [1, 3, 13]
    assert np.array_equal(index.adding([100], vectors[:1]).without([0]).vectors([21, 100]), vectors[[21, 0]])
    assert len(read) == 3
    assert np.array_equal(index.all_vectors(), vectors)
    index.search(vectors, 5)
    assert sorted(read) == list(range(1, 14))


def test_damage_is_met_by_those_who_ask_for_what_is_damaged(many):
    path, vectors = many
    content = bytearray(path.read_bytes())
    place = content.index(vectors[50].tobytes())
    content[place] ^= 1
    path.write_bytes(content)
    index, _ = view_file.load(path, what=LABEL.what, gallery=GALLERY, dim=16)

    assert np.array_equal(index.vectors([40, 60]), vectors[[40, 60]])
    for ask in (lambda: index.vectors([48]), lambda: index.search(vectors[:1], 1), index.all_vectors):
        with pytest.raises(NoView, match="checksum"):
            ask()


def test_a_file_that_is_replaced_goes_on_to_show_what_it_showed(many):
    path, vectors = many
    index, _ = view_file.load(path, what=LABEL.what, gallery=GALLERY, dim=16)
    view_file.save(FaissIndex(16).adding([1], vectors[:1]), path, LABEL)

    assert np.array_equal(index.all_vectors(), vectors)


def test_a_file_that_is_cut_while_it_is_open_is_noticed(many):
    path, _ = many
    index, _ = view_file.load(path, what=LABEL.what, gallery=GALLERY, dim=16)
    os.truncate(path, 3000)

    with pytest.raises(NoView, match=r"cut short|another program"):
        index.all_vectors()


def test_many_threads_may_ask_at_once(many):
    path, vectors = many
    for _ in range(20):
        index, _ = view_file.load(path, what=LABEL.what, gallery=GALLERY, dim=16)
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda row, index=index: index.vectors([row, 99 - row]), range(100)))
        assert np.array_equal(np.array(found)[:, 0], vectors)


def test_a_pipe_in_its_place_is_no_view(tmp_path):
    os.mkfifo(tmp_path / "pipe")

    with pytest.raises(NoView, match="not a regular file"):
        load(tmp_path / "pipe")


def test_what_an_index_lacks_is_not_saved(tmp_path, index):
    view_file.save(index.without([3]), tmp_path / "view", LABEL)

    loaded, _ = load(tmp_path / "view")
    assert loaded.ids.tolist() == [5, 9]
    assert np.array_equal(loaded.vectors([5, 9]), index.vectors([5, 9]))
    assert np.array_equal(faiss.read_index(str(tmp_path / "view")).reconstruct_n(0, 2), index.vectors([5, 9]))


def test_what_is_not_there_is_no_view(tmp_path):
    with pytest.raises(NoView, match="missing"):
        load(tmp_path / "view")
    with pytest.raises(NoView, match="is a folder"):
        load(tmp_path)


def test_a_disk_that_fills_up_leaves_the_old_file(path, index, monkeypatch):
    before = path.read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        view_file.save(index, path, LABEL)

    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["references.faiss"]
