"""Archives, lists, URLs and iterables hold what a folder with the same images holds."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from indexer import build, images
from indexer.errors import ArgumentError, ClassExists, ImageError, SourceError
from indexer.gallery import Gallery
from indexer.places import Folder
from indexer.sources_archive import Archive
from indexer.sources_manifest import Manifest
from indexer.sources_opened import opened
from indexer.sources_remote import Remote

LONG_AGO = 1_700_000_000


@pytest.fixture
def photos(tmp_path, photo):
    """Two classes of two pictures each."""
    for number in range(4):
        photo(tmp_path / "photos" / "ab"[number % 2] / f"{number}.png", number)
    return tmp_path / "photos"


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def zipped(folder, target, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(target, "w", method) as archive:
        for path, data in contents(folder).items():
            archive.writestr(path, data)
    return target


def tarred(found, target):
    with tarfile.open(target, "w") as archive:
        for path, data in found.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return target


def listed(folder, target, delimiter=","):
    with target.open("w", newline="") as file:
        rows = csv.writer(file, delimiter=delimiter)
        rows.writerow(["path", "class", "site", "price"])
        for number, path in enumerate(sorted(contents(folder))):
            rows.writerow([f"{folder.name}/{path}", path.split("/")[0], "paris" if number else "", number])
    return target


def in_memory(folder):
    fsspec = pytest.importorskip("fsspec")
    url = f"memory://{folder}"
    system, top = fsspec.core.url_to_fs(url)
    for path, data in contents(folder).items():
        system.pipe_file(f"{top}/{path}", data)
    return url


KINDS = {
    "zip": lambda folder, to: zipped(folder, to / "photos.zip"),
    "stored zip": lambda folder, to: zipped(folder, to / "stored", zipfile.ZIP_STORED),
    "tar": lambda folder, to: tarred(contents(folder), to / "photos.tar"),
    "./tar": lambda folder, to: tarred({f"./{path}": data for path, data in contents(folder).items()}, to / "p.tar"),
    "tar.gz": lambda folder, to: packed(gzip, tarred(contents(folder), to / "photos.tar")),
    "tar.bz2": lambda folder, to: packed(bz2, tarred(contents(folder), to / "photos.tar")),
    "csv": lambda folder, to: listed(folder, to / "photos.csv"),
    "tsv": lambda folder, to: listed(folder, to / "photos.tsv", "\t"),
    "url": lambda folder, to: in_memory(folder),
    "folder": lambda folder, to: folder,
}


def packed(how, path):
    target = path.with_suffix(".packed")
    with how.open(target, "wb") as file:
        file.write(path.read_bytes())
    return target


@pytest.mark.parametrize("kind", KINDS)
def test_a_place_holds_what_a_folder_with_the_same_images_holds(gallery, photos, model, tmp_path, kind):
    place = KINDS[kind](photos, tmp_path)
    expected = {
        (one.path.split("/")[0], images.identify((photos / one.path).read_bytes()))
        for one in Folder(photos).listing().files
    }

    report = build.index(gallery, place, model)

    assert (report.added, report.failed) == (4, [])
    assert {(one.name, one.hash) for one in gallery.references()} == expected
    assert build.index(gallery, place, model).unchanged == 4
    assert build.status(gallery, place).unchanged == 4
    assert (model.embedded, gallery.revision, gallery.verify()) == (4, 1, [])
    vector = model.embed([model.prepare(Image.open(photos / "a" / "0.png"))])
    shown = gallery.search_references(vector, k=1)[0][0].reference
    assert shown.endswith("a/0.png")
    assert shown.startswith(str(place) if kind not in {"csv", "tsv"} else str(photos))


@pytest.mark.parametrize("kind", ["zip", "tar", "csv", "url"])
def test_a_place_and_a_folder_of_the_same_images_embed_them_once_and_both_stay(gallery, photos, model, tmp_path, kind):
    place = KINDS[kind](photos, tmp_path)
    build.index(gallery, place, model)

    assert build.index(gallery, photos, model).unchanged == 4
    assert build.index(gallery, place, model).unchanged == 4

    assert (model.embedded, gallery.revision) == (4, 1)


def test_an_archive_that_is_gone_leaves_its_images_to_the_folder(gallery, photos, model, tmp_path):
    place = zipped(photos, tmp_path / "photos.zip")
    build.index(gallery, place, model)
    place.unlink()

    assert build.index(gallery, photos, model).moved == 4
    assert {one.root for one in gallery.references()} == {str(photos)}


@pytest.mark.parametrize("kind", ["zip", "tar", "csv"])
def test_what_looks_unchanged_is_not_read_again_and_what_changed_is(gallery, photos, model, monkeypatch, kind):
    tmp_path = photos.parent
    for path in photos.rglob("*.png"):
        os.utime(path, (LONG_AGO, LONG_AGO))
    place = KINDS[kind](photos, tmp_path)
    os.utime(place, (LONG_AGO, LONG_AGO))
    build.index(gallery, place, model)
    kinds, reads = (Archive, Manifest), []
    for each in kinds:
        real = each.read
        monkeypatch.setattr(each, "read", lambda self, path, real=real: reads.append(path) or real(self, path))

    assert build.status(gallery, place).unchanged == 4
    assert reads == []
    Image.new("RGB", (9, 9)).save(photos / "a" / "0.png")
    assert build.index(gallery, KINDS[kind](photos, tmp_path), model).changed == 1
    assert reads


def test_a_url_that_tells_dates_is_not_read_again(photos, tmp_path):
    pytest.importorskip("fsspec")
    os.utime(photos / "a" / "0.png", (LONG_AGO, LONG_AGO))
    source = Remote(f"file://{photos}/")
    listing = source.listing()

    assert [found.path for found in listing.files] == ["a/0.png", "a/2.png", "b/1.png", "b/3.png"]
    stat = source.stat("a/0.png")
    assert (stat.size, stat.modified_ns) == ((photos / "a" / "0.png").stat().st_size, LONG_AGO * 10**9)
    assert source.read("a/0.png") == (photos / "a" / "0.png").read_bytes()
    with pytest.raises(ImageError, match="cannot be read"):
        source.read("a/none.png")


# -- WebDataset --------------------------------------------------------------------------------------------------------


def test_a_file_beside_an_image_names_its_class(tmp_path, photos):
    data = (photos / "a" / "0.png").read_bytes()
    found = {
        "000.png": data,
        "000.cls": b"7\n",
        "000.json": b"{}",
        "dir.x/001.jpg": data,
        "dir.x/001.txt": "héron".encode(),
        "heron/002.png": data,
        "heron/002.txt": b"a grey bird, a caption",
        "heron/003.png": data,
        "heron/003.cls": b"egret",
        "004.mask.png": data,
        "004.png": data,
        "004.CLS": b"stork",
    }
    source = Archive(tarred(found, tmp_path / "shard.tar"), class_depth=1)
    listing = source.listing()

    assert {found.path: found.name for found in listing.files} == {
        "000.png": "7",
        "dir.x/001.jpg": "dir.x",
        "dir.x/001.txt": "dir.x",
        "heron/002.png": "heron",
        "heron/002.txt": "heron",
        "heron/003.png": "egret",
        "004.mask.png": "stork",
        "004.png": "stork",
    }
    deeper = Archive(tmp_path / "shard.tar", class_depth=2)
    assert {found.path: found.name for found in deeper.listing().files}["dir.x/001.jpg"] == "héron"


@pytest.mark.parametrize(
    ("label", "reason"), [(b"", "has a class that is no name"), (b"a\nb", "has a class that is no")]
)
def test_a_label_that_is_no_name_is_listed(tmp_path, label, reason):
    place = tarred({"0.png": b"x", "0.cls": label, "1.png": b"y", "1.cls": b"b"}, tmp_path / "shard.tar")

    listing = Archive(place).listing()

    assert [(found.path, found.name) for found in listing.files] == [("1.png", "b")]
    assert [failure.path for failure in listing.failed] == ["0.png"]
    assert listing.failed[0].reason.startswith(reason)


# -- what is wrong -----------------------------------------------------------------------------------------------------


def refusal(place, **how):
    with pytest.raises(SourceError) as caught:
        opened(place, **how).listing()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_images_outside_of_class_folders_and_classes_that_differ_by_case_are_refused(tmp_path):
    outside = tarred({"a/0.png": b"x", "1.png": b"y", "notes.txt": b"z"}, tmp_path / "1.tar")
    twins = tarred({"a/0.png": b"x", "A/1.png": b"y"}, tmp_path / "2.tar")
    empty = tarred({"readme.txt": b"x"}, tmp_path / "3.tar")

    assert "1 image lies outside of a class folder, first 1.png" in refusal(outside)
    assert "classes A and a differ only by case" in refusal(twins)
    assert "holds no files in class folders" in refusal(empty)
    assert refusal(tarred({"a/0.png": b"x"}, tmp_path / "4.tar"), class_depth=2)


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_an_archive_cut_short_is_refused_or_its_images_listed(photos, tmp_path, kind):
    place = Path(KINDS[kind](photos, tmp_path))
    whole = place.read_bytes()
    for cut in (len(whole) // 3, len(whole) // 2, len(whole) - 700):
        place.write_bytes(whole[:cut])
        try:
            source = opened(place)
            listing = source.listing()
        except SourceError as error:
            assert "\n" not in str(error)  # noqa: PT017 - either will do
        else:
            for found in listing.files:
                try:
                    data = source.read(found.path)
                except ImageError:
                    continue
                assert data == contents(photos)[found.path]


def test_damage_inside_a_zip_file_is_that_image_s(gallery, photos, model, tmp_path):
    place = zipped(photos, tmp_path / "photos.zip", zipfile.ZIP_STORED)
    data = (photos / "b" / "1.png").read_bytes()
    place.write_bytes(place.read_bytes().replace(data[-60:], bytes(60)))

    report = build.index(gallery, place, model)

    assert (report.added, [failure.path for failure in report.failed]) == (3, ["b/1.png"])
    assert "cannot be read from its archive" in report.failed[0].reason


def test_links_hidden_files_and_clutter_in_an_archive_are_no_images(tmp_path):
    place = tmp_path / "odd.tar"
    with tarfile.open(place, "w") as archive:
        for name in ("a/0.png", "a/.hidden.png", "__MACOSX/a/0.png", "a/Thumbs.db", " b/1.png", "a/empty.png"):
            entry = tarfile.TarInfo(name)
            entry.size = 0 if "empty" in name else 3
            archive.addfile(entry, io.BytesIO(b"xyz"))
        link = tarfile.TarInfo("a/link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)

    source = Archive(place)
    listing = source.listing()

    assert [found.path for found in listing.files] == ["a/0.png", "a/empty.png"]
    assert {failure.path for failure in listing.failed} == {" b/1.png", "a/link.png"}
    with pytest.raises(ImageError, match="is empty"):
        source.read("a/empty.png")


def test_an_image_larger_than_allowed_is_not_unpacked(photos, tmp_path, monkeypatch):
    source = Archive(zipped(photos, tmp_path / "photos.zip"))
    monkeypatch.setattr("indexer.sources_archive.MAX_BYTES", 10)

    with pytest.raises(ImageError, match="larger than"):
        source.read("a/0.png")


def test_a_file_that_is_no_archive_a_missing_one_and_a_missing_url_are_refused(tmp_path):
    (tmp_path / "text.bin").write_text("no archive")

    assert "is not a folder" in refusal(tmp_path / "text.bin")
    assert "there is no such folder" in refusal(tmp_path / "none.zip")
    assert refusal("nosuchprotocol://x/y")
    assert refusal("memory://nothing/here")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\na.png,x\n", "has no column 'class'"),
        ("", "has no column 'path'"),
        ("path,class\na.png\n", "line 2 has not as many columns"),
        ("path,class\na.png,x,y\n", "line 2 has not as many columns"),
        ('path,class\n"a.png,x\n', "cannot be read as a list of images"),
        ("path,class\n", "holds no files"),
        ("path,class\na.png,Heron\nb.png,heron\n", "differ only by case"),
    ],
)
def test_a_list_that_is_none_is_refused(tmp_path, text, message):
    (tmp_path / "list.csv").write_text(text)

    assert message in refusal(tmp_path / "list.csv")


def test_a_list_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "list.csv").write_bytes(b"path,class\n\xff\xfe,x\n")
    assert "cannot be read as a list of images" in refusal(tmp_path / "list.csv")


def test_rows_that_cannot_be_used_are_listed_and_the_others_taken(tmp_path):
    (tmp_path / "list.csv").write_text("path,class\na.png,x\n,x\nb.png,\nc.png, x \na.png,y\n./a.png,x\n/abs/d.png,x\n")

    listing = Manifest(tmp_path / "list.csv").listing()

    assert [(found.path, found.name) for found in listing.files] == [("/abs/d.png", "x"), (f"{tmp_path}/a.png", "x")]
    assert {failure.path: failure.reason for failure in listing.failed} == {
        "row 2": "names no file",
        "b.png": "names no class",
        "c.png": "has blanks at the ends of its name, or control characters in it: rename it",
        "a.png": "is in two classes, x and y: choose one",
    }


def test_files_of_a_list_that_are_missing_are_listed_and_their_references_stay(gallery, photos, model, tmp_path):
    place = listed(photos, tmp_path / "photos.csv")
    build.index(gallery, place, model)
    (photos / "a" / "0.png").unlink()

    report = build.index(gallery, place, model)

    assert (report.unchanged, report.removed) == (3, 0)
    assert [failure.reason for failure in report.failed] == ["does not exist"]


# -- attributes --------------------------------------------------------------------------------------------------------


def own(gallery, name):
    return {Path(one.reference).name: one.attributes for one in gallery.describe(name).references}


def test_the_other_columns_of_a_list_are_attributes(gallery, photos, model, tmp_path):
    place = listed(photos, tmp_path / "photos.csv")
    build.index(gallery, place, model)

    assert own(gallery, "a") == {"0.png": {"price": 0}, "2.png": {"site": "paris", "price": 1}}
    assert own(gallery, "b") == {"1.png": {"site": "paris", "price": 2}, "3.png": {"site": "paris", "price": 3}}
    assert build.index(gallery, place, model).revision == 1

    place.write_text(place.read_text().replace("paris,1", ",1").replace("paris,3", "rome,3.5"))
    report = build.index(gallery, place, model)

    assert (report.unchanged, report.revision, model.embedded) == (4, 2, 4)
    assert own(gallery, "a")["2.png"] == {"price": 1}
    assert own(gallery, "b")["3.png"] == {"site": "rome", "price": 3.5}
    assert gallery.log()[0].summary == f"index {place}: attributes"
    gallery.undo()
    assert own(gallery, "a")["2.png"] == {"site": "paris", "price": 1}
    assert gallery.verify() == []


def test_what_a_list_does_not_speak_of_stays(gallery, photos, model, tmp_path):
    place = listed(photos, tmp_path / "photos.csv")
    build.index(gallery, place, model)
    hash = images.identify((photos / "a" / "0.png").read_bytes())
    gallery.set("a", {"note": "by hand"}, hash=hash)
    gallery.set("a", {"habitat": "reeds"})

    assert build.index(gallery, place, model).revision == 3
    assert own(gallery, "a")["0.png"] == {"price": 0, "note": "by hand"}
    assert gallery.attributes("a") == {"habitat": "reeds"}


def test_a_parquet_list_is_the_csv_list(gallery, photos, model, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    csv_place = listed(photos, tmp_path / "photos.csv")
    found = Manifest(csv_place).listing().files
    columns = {
        "path": [f"photos/{path}" for path in sorted(contents(photos))],
        "class": [path[0] for path in sorted(contents(photos))],
        "site": [None, "paris", "paris", "paris"],
        "price": [0, 1, 2, 3],
    }
    parquet.write_table(pyarrow.table(columns), tmp_path / "photos.parquet")

    assert Manifest(tmp_path / "photos.parquet").listing().files == found
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no more")
    assert "cannot be read as a list" in refusal(tmp_path / "bad.parquet")


@pytest.mark.parametrize(
    ("place", "missing", "extra"), [("l.parquet", "pyarrow.parquet", "parquet"), ("s3://b/x", "fsspec", "remote")]
)
def test_without_its_package_a_place_says_which_extra_it_needs(tmp_path, monkeypatch, place, missing, extra):
    def absent(name):
        assert name == missing
        raise ImportError(name)

    for module in ("sources_manifest", "sources_remote"):
        monkeypatch.setattr(f"indexer.{module}.import_module", absent)
    if "://" not in place:
        (tmp_path / place).write_bytes(b"PAR1")
        place = tmp_path / place

    assert f"firstsight[{extra}]" in refusal(place)


# -- iterables ---------------------------------------------------------------------------------------------------------


def test_an_iterable_of_names_and_images_is_learnt_in_one_revision(gallery, photos, model):
    def pairs():
        yield "a", photos / "a" / "0.png"
        yield "a", (photos / "a" / "2.png").read_bytes()
        yield "b", Image.open(photos / "b" / "1.png")
        yield "b", np.zeros((9, 9, 3), np.uint8)
        yield "b", str(photos / "a" / "0.png")

    report = build.index(gallery, pairs(), model)
    again = build.index(gallery, pairs(), model)

    assert (report.added, report.unchanged, report.revision) == (5, 0, 1)
    assert (again.added, again.unchanged, again.revision) == (0, 5, 1)
    assert model.embedded == 4
    assert gallery.classes() == {"a": 2, "b": 3}
    assert {(one.root, one.path) for one in gallery.references()} == {(None, str(photos / "a" / "0.png")), (None, None)}
    assert gallery.log()[0].summary == "index 5 images"
    assert gallery.verify() == []


def test_thumbnails_of_an_iterable_are_kept_when_asked(gallery, photos, model):
    pairs = [("a", photos / "a" / "0.png"), ("a", photos / "a" / "2.png"), ("b", photos / "a" / "2.png")]
    build.index(gallery, pairs[:1], model)
    build.index(gallery, pairs, model, thumbnails=True)

    assert {gallery.thumbnail(one.hash)[:2] for one in gallery.references()} == {b"\xff\xd8"}
    assert len(gallery) == 3


def test_a_bad_image_of_an_iterable_is_listed_and_the_rest_goes_in(gallery, photos, model):
    pairs = [
        ("a", photos / "none.png"),
        ("a", photos / "a" / "0.png"),
        ("a", b"no image"),
        ("a", photos / "a" / "0.png"),
    ]
    seen = []

    report = build.index(gallery, pairs, model, progress=lambda *step: seen.append(step))

    assert (report.added, report.unchanged) == (1, 1)
    assert [failure.path for failure in report.failed] == [str(photos / "none.png"), "image 3"]
    assert seen[-1] == ("embedding", 4, 4)


@pytest.mark.parametrize(
    ("pairs", "error"),
    [
        ([("a", b""), "b"], ArgumentError),
        ([("", b"")], ArgumentError),
        ([("a", "a/0.png"), ("A", "a/2.png")], ClassExists),
    ],
)
def test_a_wrong_pair_is_refused_and_nothing_changes(gallery, photos, model, pairs, error):
    pairs = [(one[0], photos / one[1]) if isinstance(one, tuple) and one[1] else one for one in pairs]
    with pytest.raises(error):
        build.index(gallery, pairs, model)

    assert (gallery.revision, gallery.classes()) == (0, {})


def test_an_iterable_cannot_be_tried_without_going_through_it(gallery, model):
    with pytest.raises(ArgumentError, match="going through it"):
        build.index(gallery, iter([]), model, dry_run=True)


def test_an_interrupted_iterable_keeps_what_was_embedded(gallery, photos, model):
    pairs = [(path[0], photos / path) for path in sorted(contents(photos))]

    def broken():
        yield from pairs[:3]
        raise RuntimeError

    with pytest.raises(RuntimeError):
        build.index(gallery, broken(), model, batch_size=1, workers=1)
    assert gallery.revision == 0
    before = model.embedded
    assert build.index(gallery, iter(pairs), model).added == 4
    assert before > 0
    assert model.embedded == 4


def test_a_source_of_one_s_own_will_do(gallery, photos, model):
    class Halved(Folder):
        def listing(self):
            whole = super().listing()
            return type(whole)(whole.root, whole.files[::2], whole.failed)

    assert build.index(gallery, Halved(photos), model).added == 2
    shutil.rmtree(photos)
    with Gallery.open(gallery.path) as other:
        assert len(other) == 2
