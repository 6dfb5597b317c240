"""Disks that are full, broken or read-only, logs cut short and views with flipped bits: one line, and nothing wrong."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from crash import begun
from operations import OPERATIONS, drawn
from story import check_answers, on_disk

from indexer.errors import GalleryError
from indexer.gallery import Gallery

VIEWS = ("references.faiss", "prototypes.faiss", "known.pages")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "birds.gallery"


@pytest.fixture
def story(path):
    return begun(path, random.Random(1))


def left_in_the_log(path, story, count):
    """Make changes that stay in the write-ahead log, as after a kill; return what the gallery held after each."""
    copy, stories, dice = path.with_name("copy"), [story], random.Random(2)
    with Gallery.open(path) as gallery:
        for _ in range(count):
            name, arguments = drawn(dice, stories[-1], ("learn", "forget", "rename", "undo"))
            OPERATIONS[name].act(gallery, arguments)
            stories.append(OPERATIONS[name].tell(stories[-1], arguments))
        shutil.copytree(path, copy, ignore=shutil.ignore_patterns("*-shm"))
    shutil.rmtree(path)
    copy.rename(path)
    return stories


def test_the_log_holds_all_that_was_acknowledged(path, story):
    stories = left_in_the_log(path, story, 4)

    assert (path / "catalog.sqlite-wal").stat().st_size
    with Gallery.open(path) as gallery:
        check_answers(gallery, stories[-1])


def damaged_log(path, story, damage):
    """What the gallery is at after each damage; it must be sound, and one of what it was at before."""
    stories = left_in_the_log(path, story, 4)
    saved = shutil.copytree(path, path.with_name("saved"))
    whole = (saved / "catalog.sqlite-wal").read_bytes()
    found = []
    for data in damage(whole):
        shutil.rmtree(path)
        shutil.copytree(saved, path)
        (path / "catalog.sqlite-wal").write_bytes(data)
        with Gallery.open(path) as gallery:
            (held,) = [one for one in stories if one.written == on_disk(path)]
            check_answers(gallery, held)
            assert gallery.verify() == []
            gallery.add("after", [("after", "59.png", np.ones(16))])
        found.append(held.revision - story.revision)
    return found


def test_a_log_cut_short_takes_the_gallery_back_to_a_whole_revision(path, story):
    def cut(whole):
        frames = range(32, len(whole), 24 + 4096)  # SQLite's: a header, then a page after a header each
        lengths = {0, 31, *frames[::4], frames[-1] - 1, frames[-1] + 24 + 4095}
        return [whole[:length] for length in sorted(lengths)] + [whole]

    found = damaged_log(path, story, cut)

    assert set(found) == {0, 1, 2, 3, 4}
    assert found == sorted(found)


def test_a_flipped_bit_in_the_log_takes_the_gallery_back_to_a_whole_revision(path, story):
    def flipped(whole):
        dice = random.Random(3)
        for place in [0, 24, *(dice.randrange(len(whole)) for _ in range(8))]:
            data = bytearray(whole)
            data[place] ^= 1 << dice.randrange(8)
            yield bytes(data)

    assert len(set(damaged_log(path, story, flipped))) > 1


def broken(whole, dice):
    flipped = bytearray(whole)
    for _ in range(dice.choice((1, 1, 20))):
        flipped[dice.randrange(len(whole))] ^= 1 << dice.randrange(8)
    return dice.choice((bytes(flipped), whole[: dice.randrange(len(whole))], whole + b"\0", bytes(len(whole))))


def test_whatever_happens_to_its_views_a_gallery_answers_from_its_catalog(path, story):
    dice = random.Random(4)
    whole = {name: (path / name).read_bytes() for name in VIEWS}
    for number in range(16):
        name = VIEWS[number % len(VIEWS)]
        damaged = broken(whole[name], dice)
        (path / name).write_bytes(damaged)
        with Gallery.open(path) as gallery:
            problems = gallery.verify()
            assert [name in problem for problem in problems] == ([] if damaged == whole[name] else [True])
            check_answers(gallery, story)
            gallery.save_views()
            assert gallery.verify() == []


def folder_named(path):
    path.mkdir()


def nothing_at_all(path):
    pass


def link_to_itself(path):
    path.symlink_to(path)


def link_to_a_device(path):
    path.symlink_to("/dev/zero")


@pytest.fixture
def impatient():
    """Whoever waits for what nobody will write is woken."""

    def wake(*_):
        raise AssertionError("waited")

    before = signal.signal(signal.SIGALRM, wake)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("instead", [folder_named, nothing_at_all, link_to_itself, link_to_a_device, os.mkfifo])
@pytest.mark.parametrize("name", VIEWS)
def test_a_view_that_cannot_be_read_is_not_needed(path, story, name, instead):
    (path / name).unlink()
    instead(path / name)
    os.mkfifo(path / f"{name}.tmp")  # where it is written before it is renamed

    with Gallery.open(path) as gallery:
        gallery.verify()
        check_answers(gallery, story)
        gallery.save_views()
        check_answers(gallery, story)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("instead", [folder_named, link_to_a_device, os.mkfifo])
@pytest.mark.parametrize(
    "name", ["catalog.sqlite", "catalog.sqlite-wal", "catalog.sqlite-shm", "catalog.sqlite-journal"]
)
def test_what_is_no_file_in_the_place_of_a_part_of_the_catalog_is_refused(path, story, name, instead):
    (path / name).unlink(missing_ok=True)
    instead(path / name)

    with pytest.raises(GalleryError) as refused:
        Gallery.open(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("instead", [folder_named, link_to_a_device, os.mkfifo])
@pytest.mark.parametrize("name", ["writer.lock", "views.lock", "nearby.faiss"])
def test_what_is_no_file_in_the_place_of_a_lock_or_an_index_keeps_no_reader_waiting(path, story, name, instead):
    (path / name).unlink(missing_ok=True)
    instead(path / name)

    with Gallery.open(path) as gallery:
        check_answers(gallery, story)
        gallery.save_views()
        if name == "writer.lock":
            with pytest.raises(GalleryError, match=r"writer\.lock: is .*; remove it"):
                gallery.add("heron", [])
        else:
            gallery.add("heron", [("new", "1.png", np.ones(16))])
            assert gallery.verify() == []


# -- a small disk ----------------------------------------------------------------------------------------------------


@contextmanager
def small_disk(folder: Path, kilobytes: int):
    """A file system of its own, that small; skipped where none can be had."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", folder]
    if shutil.which("mount") is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root may mount a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_disk_that_fills_up_costs_no_more_than_the_change_that_did_not_fit(tmp_path):
    with small_disk(tmp_path / "disk", 8000):
        path, dice = tmp_path / "disk" / "birds.gallery", random.Random(5)
        story = begun(path, dice)
        ballast = tmp_path / "disk" / "ballast"
        refusals = []
        with Gallery.open(path) as gallery:
            for number in range(32):
                if number % 8 == 2:
                    room = os.statvfs(path)
                    ballast.write_bytes(bytes(room.f_bavail * room.f_frsize - dice.choice((0, 4096, 20_000))))
                if number % 8 == 6:
                    ballast.unlink()
                name, arguments = drawn(dice, story, ("learn", "forget", "rename", "undo", "save"))
                try:
                    OPERATIONS[name].act(gallery, arguments)
                    story = OPERATIONS[name].tell(story, arguments)
                except GalleryError as error:
                    refusals.append(str(error))
                    assert ballast.exists()
                check_answers(gallery, story)
        assert {"the disk is full" in refusal for refusal in refusals} == {True}, refusals
        with Gallery.open(path) as gallery:
            check_answers(gallery, story)
            assert gallery.verify() == []
