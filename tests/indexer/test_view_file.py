from __future__ import annotations

import errno
import hashlib
import os

import faiss
import numpy as np
import pytest

from indexer import view_file
from indexer.faiss_index import FaissIndex
from indexer.view_file import Label, NoView

GALLERY, MARK = "a" * 32, "b" * 32
LABEL = Label("references.faiss", GALLERY, 7, MARK)


@pytest.fixture
def index(random_units):
    return FaissIndex(16).adding([5, 3, 9], random_units(3))


@pytest.fixture
def path(tmp_path, index):
    view_file.save(index, tmp_path / "references.faiss", LABEL)
    return tmp_path / "references.faiss"


def load(path, *, what="references.faiss", gallery=GALLERY, dim=16):
    return view_file.load(path, what=what, gallery=gallery, dim=dim)


def test_what_is_loaded_is_what_was_saved(path, index):
    loaded, label = load(path)

    assert label == LABEL
    assert loaded.ids.tolist() == [5, 3, 9]
    assert np.array_equal(loaded.vectors([3, 5, 9]), index.vectors([3, 5, 9]))


def test_an_empty_index_can_be_saved(tmp_path):
    view_file.save(FaissIndex(16), tmp_path / "empty", LABEL)

    assert len(load(tmp_path / "empty")[0]) == 0


def test_faiss_itself_reads_the_file(path, index):
    read = faiss.read_index(str(path))

    assert np.array_equal(read.reconstruct_n(0, 3), index.vectors([5, 3, 9]))


def test_no_byte_can_change_unnoticed(path):
    whole = path.read_bytes()

    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(NoView):
            load(path)


def test_no_byte_can_be_missing_or_too_many(path):
    whole = path.read_bytes()

    for damaged in [whole[:length] for length in range(len(whole))] + [whole + b"\0", b"\0" + whole, whole + whole]:
        path.write_bytes(damaged)
        with pytest.raises(NoView):
            load(path)


def test_a_view_of_something_else_is_no_view(path):
    for other in ({"what": "prototypes.faiss"}, {"gallery": "c" * 32}, {"dim": 8}):
        with pytest.raises(NoView, match="something else"):
            load(path, **other)


def test_another_kind_of_index_is_no_view(path):
    content = path.read_bytes().replace(b"IxFI", b"IxF2", 1)[:-32]
    path.write_bytes(content + hashlib.sha256(content).digest())

    with pytest.raises(NoView, match="another kind"):
        load(path)


def test_what_an_index_lacks_is_not_saved(tmp_path, index):
    view_file.save(index.without([3]), tmp_path / "view", LABEL)

    loaded, _ = load(tmp_path / "view")
    assert loaded.ids.tolist() == [5, 9]
    assert np.array_equal(loaded.vectors([5, 9]), index.vectors([5, 9]))
    written = faiss.serialize_index(flat(index.vectors([5, 9]))).tobytes()
    assert (tmp_path / "view").read_bytes().startswith(written)


def flat(vectors):
    made = faiss.IndexFlatIP(vectors.shape[1])
    made.add(vectors)
    return made


def test_what_is_not_there_is_no_view(tmp_path):
    with pytest.raises(NoView, match="missing"):
        load(tmp_path / "view")
    with pytest.raises(NoView, match="cannot be read"):
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
