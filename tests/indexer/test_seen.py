"""What is unchanged is not read again, what failed not tried again: counted at the reading of files."""

from __future__ import annotations

import itertools
import os
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer import build, images
from indexer.errors import SourceError
from indexer.gallery import Gallery
from indexer.places import Stat, file_stat
from indexer.seen import RACY_NS, Seen, settled, unsure

LONG_AGO = 1_700_000_000


@pytest.fixture
def photos(tmp_path, photo):
    """Two classes of two pictures each, made long ago."""
    for number in range(4):
        photo(tmp_path / "photos" / "ab"[number % 2] / f"{number}.png", number)
    age(tmp_path / "photos")
    return tmp_path / "photos"


def age(folder, seconds=LONG_AGO):
    for path in folder.rglob("*.png"):
        os.utime(path, (seconds, seconds))


@pytest.fixture
def reads(monkeypatch):
    """The files that were read, by name, in order; clear it to count anew."""
    seen, real = [], images.read
    monkeypatch.setattr(images, "read", lambda path: seen.append(Path(path).name) or real(path))
    return seen


@pytest.fixture
def indexed(gallery, photos, model, reads):
    build.index(gallery, photos, model)
    reads.clear()
    return gallery


def test_an_unchanged_folder_is_not_read_again(indexed, photos, model, reads):
    assert build.status(indexed, photos).unchanged == 4
    assert build.index(indexed, photos, model).unchanged == 4

    assert reads == []


def test_paranoia_reads_all_and_finds_what_does_not_show(indexed, photos, model, reads):
    path = photos / "a" / "0.png"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    age(photos)

    assert build.status(indexed, photos).unchanged == 4
    found = build.status(indexed, photos, paranoid=True)

    assert found.paths["changed"] == ["a/0.png"]
    assert sorted(reads) == ["0.png", "1.png", "2.png", "3.png"]
    assert build.index(indexed, photos, model, paranoid=True).changed == 1
    reads.clear()
    assert build.status(indexed, photos).unchanged == 4
    assert reads == []


@pytest.mark.parametrize("sign", ["size", "time", "inode"])
def test_any_sign_of_a_change_makes_a_file_read(indexed, photos, reads, sign):
    path = photos / "a" / "0.png"
    if sign == "size":
        path.write_bytes(path.read_bytes() + b"!")
        os.utime(path, (LONG_AGO, LONG_AGO))
    elif sign == "time":
        os.utime(path, ns=(0, LONG_AGO * 10**9 + 1))
    else:
        shutil.copy2(path, photos / "other")
        (photos / "other").replace(path)

    found = build.status(indexed, photos)

    assert reads == ["0.png"]
    assert (found.changed, found.unchanged) == ((1, 3) if sign == "size" else (0, 4))


@pytest.mark.parametrize("age_and_fate", [(1.5, "read"), (2.5, "believed"), (-60, "read")])
def test_a_file_that_was_young_when_it_was_read_is_read_again(gallery, model, photos, reads, age_and_fate):
    seconds, fate = age_and_fate
    now = time.time()
    age(photos, now - seconds)
    before = time.time()
    build.index(gallery, photos, model)
    if before - now > 0.4:
        pytest.skip("the machine is too busy to be exact")
    reads.clear()

    build.status(gallery, photos)

    assert ("read" if reads else "believed") == fate


def test_a_copied_folder_and_a_restored_one_embed_nothing(indexed, photos, model, reads):
    shutil.copytree(photos, photos.parent / "copy")
    copied = build.index(indexed, photos.parent / "copy", model)
    assert len(reads) == 4
    shutil.rmtree(photos)
    shutil.copytree(photos.parent / "copy", photos)
    restored = build.index(indexed, photos, model)

    assert (copied.unchanged, restored.unchanged, model.embedded) == (4, 4, 4)


def test_a_status_writes_nothing_and_needs_no_right_to(indexed, photos, photo, monkeypatch):
    photo(photos / "c" / "9.png", 9)
    indexed.close()
    before = {path.name: path.read_bytes() for path in indexed.path.iterdir()}
    for path in (*indexed.path.iterdir(), indexed.path):
        path.chmod(path.stat().st_mode & ~0o222)
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK and real(path, mode))  # root may all

    with Gallery.open(indexed.path) as opened:
        found = build.status(opened, photos)

    indexed.path.chmod(0o755)
    assert (found.paths["added"], found.unchanged) == (["c/9.png"], 4)
    assert {path.name: path.read_bytes() for path in indexed.path.iterdir()} == before


def test_what_is_gone_from_the_folder_is_forgotten(indexed, photos, model):
    (photos / "a" / "0.png").unlink()
    build.index(indexed, photos, model)

    assert sorted(indexed.files.below(str(photos))) == ["a/2.png", "b/1.png", "b/3.png"]
    assert indexed.files.below("/other") == {}


def test_a_killed_run_has_not_read_for_nothing(gallery, photos, model, reads):
    model.embed = lambda arrays: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        build.index(gallery, photos, model)
    reads.clear()

    assert build.status(gallery, photos).added == 4
    assert reads == []


# -- what failed -------------------------------------------------------------------------------------------------------


@pytest.fixture
def bad(photos):
    """A picture that ends too early."""
    path = photos / "a" / "cut.png"
    path.write_bytes((photos / "a" / "0.png").read_bytes()[:100])
    age(photos)
    return path


@pytest.fixture
def tries(monkeypatch):
    """The decodings that were tried, by path."""
    seen, real = [], images.decode
    monkeypatch.setattr(images, "decode", lambda data, **how: seen.append(how["path"]) or real(data, **how))
    return seen


def reasons(report):
    return {failure.path: failure.reason for failure in report.failed}


def test_a_bad_file_is_remembered_listed_and_not_tried_again(gallery, model, photos, bad, tries):
    first = build.index(gallery, photos, model)
    (failure,) = gallery.files.failures()
    tries.clear()

    again, found = build.index(gallery, photos, model), build.status(gallery, photos)

    assert tries == []
    assert reasons(first) == reasons(again) == reasons(found) == {"a/cut.png": failure.reason}
    assert (first.added, again.unchanged, found.unchanged) == (4, 4, 4)
    assert (failure.root, failure.path, failure.size) == (str(photos), "a/cut.png", 100)
    assert failure.hash == images.identify(bad.read_bytes())


def test_asked_to_it_is_tried_again(gallery, photos, bad, model, tries):
    build.index(gallery, photos, model)
    tries.clear()

    assert build.status(gallery, photos, retry=True).paths["added"] == ["a/cut.png"]
    assert reasons(build.index(gallery, photos, model, retry=True)).keys() == {"a/cut.png"}
    assert tries == ["a/cut.png"]
    assert [one.path for one in gallery.files.failures()] == ["a/cut.png"]


def test_what_a_better_program_can_read_is_no_failure_any_more(gallery, photos, bad, model, monkeypatch):
    build.index(gallery, photos, model)
    whole, real = (photos / "a" / "0.png").read_bytes(), images.decode
    monkeypatch.setattr(images, "decode", lambda data, **how: real(whole, **how))

    assert build.index(gallery, photos, model, retry=True).added == 1
    assert gallery.files.failures() == []
    assert build.status(gallery, photos).unchanged == 5


def test_a_bad_file_is_tried_again_when_it_has_changed(gallery, photos, bad, model, photo):
    build.index(gallery, photos, model)
    photo(bad, 77)

    assert build.index(gallery, photos, model).added == 1
    assert gallery.files.failures() == []


def test_a_bad_file_is_known_by_its_content_wherever_it_is(gallery, photos, bad, model, tries):
    build.index(gallery, photos, model)
    bad.rename(photos / "b" / "moved.png")
    shutil.copy(photos / "b" / "moved.png", photos / "b" / "copy.png")
    tries.clear()

    report = build.index(gallery, photos, model)

    assert tries == []
    assert reasons(report).keys() == {"b/copy.png", "b/moved.png"}
    assert [one.path for one in gallery.files.failures()] == ["b/copy.png", "b/moved.png"]


def test_a_bad_file_that_is_gone_is_forgotten(gallery, photos, bad, model):
    build.index(gallery, photos, model)
    bad.unlink()

    assert gallery.files.failures() == []
    build.index(gallery, photos, model)
    (photos / "a").rename(photos.parent / "elsewhere")
    assert "a/cut.png" not in gallery.files.below(str(photos))


def test_failures_are_listed_also_where_the_folder_is_not_there(gallery, photos, bad, model):
    build.index(gallery, photos, model)
    photos.rename(photos.parent / "unplugged")

    assert [one.path for one in gallery.files.failures()] == ["a/cut.png"]


def test_what_may_be_readable_another_time_is_tried_each_time(gallery, photos, model):
    (photos / "a" / "empty.png").touch()
    (photos / "a" / "link.png").symlink_to("nowhere")
    (photos / "a" / "line\nbreak").mkdir()
    (photos / "a" / "line\nbreak" / "text.png").write_text("no picture")
    build.index(gallery, photos, model)

    listed = {one.path: (one.reason, one.hash) for one in gallery.files.failures()}
    assert listed.keys() == {"a/empty.png", "a/link.png", "a/line\\nbreak/text.png"}
    assert listed["a/empty.png"] == ("is empty", None)
    assert listed["a/link.png"] == ("is a link to nothing", None)

    shutil.copy(photos / "a" / "0.png", photos / "a" / "nowhere")
    assert reasons(build.index(gallery, photos, model)).keys() == {"a/empty.png", "a/line\\nbreak/text.png"}
    assert len(gallery.files.failures()) == 2


def test_an_image_too_large_for_one_run_is_not_bad_for_good(gallery, photos, model, photo):
    from PIL import Image

    Image.new("RGB", (40, 40)).save(photos / "a" / "large.png")
    age(photos)
    assert reasons(build.index(gallery, photos, model, max_pixels=1000)).keys() == {"a/large.png"}
    assert [one.path for one in gallery.files.failures()] == ["a/large.png"]

    assert build.index(gallery, photos, model).added == 1
    assert gallery.files.failures() == []


def test_a_folder_in_which_all_is_bad_is_refused_without_trying_again(gallery, photos, model, tries):
    for path in photos.rglob("*.png"):
        path.write_text(f"no picture: {path}")
    age(photos)
    with pytest.raises(SourceError, match="none of its 4 files"):
        build.index(gallery, photos, model)
    tries.clear()

    with pytest.raises(SourceError, match="none of its 4 files"):
        build.index(gallery, photos, model)

    assert tries == []
    assert len(gallery.files.failures()) == 4


# -- the table ---------------------------------------------------------------------------------------------------------


def test_numbers_that_the_catalog_cannot_hold_are_cut_to_those_it_can(gallery, monkeypatch):
    odd = {"st_mtime_ns": 2**64 + 5, "st_ino": 2**64 - 1, "st_size": 10, "st_mode": 0o100644}
    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", lambda path: SimpleNamespace(**odd))
        stat = file_stat("x")

    gallery.files.remember("/x", {"a": Seen(stat, "hash")})

    assert gallery.files.below("/x") == {"a": Seen(stat, "hash")}
    assert stat.inode == 2**63 - 1


rows = st.dictionaries(
    st.sampled_from(["a/1", "a/2", "b/\n", "é"]),
    st.builds(
        Seen,
        st.builds(Stat, st.integers(0, 2**63 - 1), st.integers(-(2**62), 2**63 - 1), st.integers(-1, 2**63 - 1)),
        st.none() | st.just("hash"),
        st.none() | st.just("is bad"),
    ).filter(lambda one: one.hash or one.reason),
)


steps = st.lists(st.tuples(st.sampled_from("xy"), rows, st.sets(st.sampled_from(["a/1", "b/\n"]))), max_size=4)


def test_the_table_is_a_dictionary_a_root(gallery):
    numbers = itertools.count()

    @settings(max_examples=25)
    @given(steps)
    def check(steps):
        model = {"x": {}, "y": {}}
        base, failed = next(numbers), len(gallery.files.failures())
        for root, seen, forget in steps:
            gallery.files.remember(f"/{base}/{root}", seen, forget=forget)
            model[root] = {path: one for path, one in model[root].items() if path not in forget} | seen
            for each, expected in model.items():
                assert gallery.files.below(f"/{base}/{each}") == expected
        failed += sum(one.reason is not None for seen in model.values() for one in seen.values())
        assert len(gallery.files.failures()) == failed

    check()
    assert (gallery.revision, gallery.verify()) == (0, [])


@given(st.integers(0, 10**19 // 2), st.integers(-(10**11), 10**11))
def test_what_was_changed_two_seconds_or_less_before_it_was_read_is_like_no_file(modified, later):
    stat = Stat(5, modified, 7)

    assert settled(stat, modified + later) == (stat if later > RACY_NS else unsure(5))
    assert unsure(5).inode < 0


def test_the_table_dies_with_nothing_but_the_time_it_saved(indexed, photos, model):
    with closing(sqlite3.connect(indexed.path / "catalog.sqlite")) as connection:
        connection.execute("DELETE FROM files")
        connection.commit()

    assert build.index(indexed, photos, model).unchanged == 4
    assert model.embedded == 4
