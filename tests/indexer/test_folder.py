from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from indexer import folder
from indexer.errors import GalleryError, GalleryExists, GalleryMissing


def fill(scratch):
    (scratch / folder.CATALOG).write_text("catalog")


def test_a_folder_is_made_where_there_is_none_or_an_empty_one(tmp_path):
    (tmp_path / "empty").mkdir()

    folder.make(tmp_path / "empty", fill)
    folder.make(tmp_path / "a" / "b" / "new", fill)

    assert folder.find(tmp_path / "empty") == tmp_path / "empty"
    assert folder.find(tmp_path / "a" / "b" / "new").is_absolute()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a", "empty"]


def test_its_permissions_are_those_of_any_new_folder(tmp_path):
    (tmp_path / "other").mkdir()
    folder.make(tmp_path / "made", fill)

    assert stat.S_IMODE((tmp_path / "made").stat().st_mode) == stat.S_IMODE((tmp_path / "other").stat().st_mode)


def test_nothing_that_exists_is_touched(tmp_path):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")

    for name in ("file", "full", "link"):
        with pytest.raises(GalleryExists, match="exists already"):
            folder.make(tmp_path / name, fill)

    assert (tmp_path / "file").read_text() == (tmp_path / "full" / "file").read_text() == "mine"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "full", "link"]


def test_a_failure_leaves_nothing(tmp_path):
    def fail(scratch):
        fill(scratch)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        folder.make(tmp_path / "made", fail)

    assert list(tmp_path.iterdir()) == []


def test_it_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(GalleryError, match="Input/output error"):
        folder.make(tmp_path / "made", lambda scratch: (fill(scratch), tmp_path.joinpath("made").exists() and 1 / 0))

    assert list(tmp_path.iterdir()) == []


def test_of_several_makers_one_wins(tmp_path):
    outcomes = []

    def make(name):
        try:
            folder.make(tmp_path / "made", lambda scratch: (fill(scratch), (scratch / name).touch(), barrier.wait()))
            outcomes.append(name)
        except GalleryError:
            pass

    barrier = threading.Barrier(4)
    threads = [threading.Thread(target=make, args=(str(number),)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    (winner,) = outcomes
    assert sorted(entry.name for entry in (tmp_path / "made").iterdir()) == [winner, folder.CATALOG]
    assert [entry.name for entry in tmp_path.iterdir()] == ["made"]


def test_a_place_that_cannot_be_is_told_in_one_line(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(GalleryError, match="cannot be made"):
        folder.make(tmp_path / "file" / "made", fill)


def test_what_is_no_gallery_is_missing(tmp_path):
    (tmp_path / "other").mkdir()

    with pytest.raises(GalleryMissing, match="there is no gallery here"):
        folder.find(tmp_path / "nowhere")
    with pytest.raises(GalleryMissing, match="is not a gallery"):
        folder.find(tmp_path / "other")
