import os
import socket
import unicodedata

import pytest
from PIL import Image

from indexer.errors import ArgumentError, SourceError
from indexer.sources import Failure, Found, find


def fill(root, *paths):
    """Make files; that they hold no image does not matter to a listing."""
    for path in paths:
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(b"x")
    return root


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (2, 2)).save(path, "PNG")


def names(listing):
    return [(found.path, found.name) for found in listing.files]


def failures(listing):
    return {failure.path: failure.reason for failure in listing.failed}


def refusal(root, **options):
    with pytest.raises(SourceError) as caught:
        find(root, **options)
    message = str(caught.value)
    assert "\n" not in message
    message.encode()
    return message


def test_a_folder_is_a_class_and_its_files_belong_to_it(tmp_path):
    fill(tmp_path, "heron/1.jpg", "heron/2.png", "wren/1.jpg")

    assert find(tmp_path).files == (
        Found("heron/1.jpg", "heron"),
        Found("heron/2.png", "heron"),
        Found("wren/1.jpg", "wren"),
    )


def test_files_at_any_depth_belong_to_the_class(tmp_path):
    fill(tmp_path, "heron/1.jpg", "heron/spring/2.jpg", "heron/spring/pond/a/b/c/3.jpg")

    listing = find(tmp_path)

    assert {found.name for found in listing.files} == {"heron"}
    assert {found.path for found in listing.files} == {
        path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()
    }


def test_two_levels_of_folders_name_a_class_when_asked(tmp_path):
    fill(tmp_path, "Greek/alpha/1.png", "Greek/alpha/more/2.png", "Latin/alpha/1.png")

    assert names(find(tmp_path, class_depth=2)) == [
        ("Greek/alpha/1.png", "Greek/alpha"),
        ("Greek/alpha/more/2.png", "Greek/alpha"),
        ("Latin/alpha/1.png", "Latin/alpha"),
    ]


@pytest.mark.parametrize("class_depth", [0, -1, True, 1.0, "1", None])
def test_a_class_depth_that_is_no_positive_integer_is_refused(tmp_path, class_depth):
    with pytest.raises(ArgumentError, match="class_depth"):
        find(fill(tmp_path, "heron/1.jpg"), class_depth=class_depth)


def test_a_class_depth_beyond_the_folders_finds_nothing(tmp_path):
    assert "holds no files in class folders" in refusal(fill(tmp_path, "heron/1.jpg"), class_depth=10**9)


def test_the_order_does_not_depend_on_the_order_of_creation(tmp_path):
    paths = ["b/2.jpg", "a/z/1.jpg", "a/1.jpg", "a-b/1.jpg", "B2/1.jpg", "é/1.jpg"]
    fill(tmp_path / "one", *paths)
    fill(tmp_path / "two", *reversed(paths))

    listing = find(tmp_path / "one")

    assert listing.files == find(tmp_path / "two").files
    assert [found.path for found in listing.files] == sorted(paths)


def test_the_suffix_does_not_matter_in_a_class_folder(tmp_path):
    fill(tmp_path, "heron/1.JPG", "heron/notes.txt", "heron/none", "heron/photo.jpg.bak")

    assert len(find(tmp_path).files) == 4


def test_hidden_entries_and_clutter_are_passed_over_in_silence(tmp_path):
    fill(tmp_path, "heron/1.jpg", ".git/config", "heron/.DS_Store", "heron/.cache/2.jpg", "heron/Thumbs.db")
    fill(tmp_path, "heron/desktop.ini", "heron/THUMBS.DB", "__MACOSX/heron/1.jpg", ".hidden.jpg")

    listing = find(tmp_path)

    assert names(listing) == [("heron/1.jpg", "heron")]
    assert listing.failed == ()


def test_unicode_and_blanks_within_names_are_kept(tmp_path):
    fill(tmp_path, "grand héron/photo du matin.jpg", "鳥/1 2.jpg", "🐦/x.jpg")

    assert set(names(find(tmp_path))) == {
        ("grand héron/photo du matin.jpg", "grand héron"),
        ("鳥/1 2.jpg", "鳥"),
        ("🐦/x.jpg", "🐦"),
    }


def test_composed_and_decomposed_spellings_are_one_class_and_paths_stay_as_they_are(tmp_path):
    composed, decomposed = unicodedata.normalize("NFC", "héron"), unicodedata.normalize("NFD", "héron")
    fill(tmp_path, f"{composed}/1.jpg", f"{decomposed}/{decomposed}.jpg")

    assert set(names(find(tmp_path))) == {(f"{composed}/1.jpg", composed), (f"{decomposed}/{decomposed}.jpg", composed)}


@pytest.mark.parametrize(("one", "other"), [("Heron", "heron"), ("STRASSE", "straße"), ("H\u00c9", "he\u0301")])
def test_classes_that_differ_only_by_case_are_refused(tmp_path, one, other):
    message = refusal(fill(tmp_path, f"{one}/1.jpg", f"{other}/1.jpg", "wren/1.jpg"))

    assert "differ only by case" in message
    assert one in message


def test_files_that_differ_only_by_case_are_two_files(tmp_path):
    assert len(find(fill(tmp_path, "heron/a.jpg", "heron/A.jpg")).files) == 2


def test_a_folder_without_files_is_no_class(tmp_path):
    fill(tmp_path, "heron/1.jpg")
    (tmp_path / "Heron" / "empty").mkdir(parents=True)

    assert names(find(tmp_path)) == [("heron/1.jpg", "heron")]
    assert find(tmp_path).failed == ()


@pytest.mark.parametrize("name", [" heron", "heron ", "her\non", "her\x1bon"])
def test_a_folder_whose_name_cannot_be_a_class_is_listed(tmp_path, name):
    fill(tmp_path, f"{name}/1.jpg", "wren/1.jpg")

    listing = find(tmp_path)

    assert names(listing) == [("wren/1.jpg", "wren")]
    assert [failure.reason.startswith("has blanks at the ends") for failure in listing.failed] == [True]
    assert all(failure.path.isprintable() for failure in listing.failed)


def test_an_image_outside_of_class_folders_is_refused_by_name_and_number(tmp_path):
    fill(tmp_path, "heron/1.jpg")
    for name in ("c.png", "a.dat", "b.png"):
        picture(tmp_path / name)

    assert "3 images lie outside of a class folder, first a.dat" in refusal(tmp_path)


def test_an_image_above_the_level_of_classes_is_refused(tmp_path):
    fill(tmp_path, "Greek/alpha/1.png")
    picture(tmp_path / "Greek" / "overview.png")

    assert "1 image lies outside of a class folder, first Greek/overview.png" in refusal(tmp_path, class_depth=2)
    assert len(find(tmp_path).files) == 2


def test_other_files_outside_of_class_folders_are_ignored(tmp_path):
    fill(tmp_path, "heron/1.jpg", "README.md", "labels.csv", "fake.jpg", "no-suffix")

    listing = find(tmp_path)

    assert names(listing) == [("heron/1.jpg", "heron")]
    assert listing.failed == ()


def test_an_empty_folder_is_refused(tmp_path):
    assert "holds no files in class folders" in refusal(tmp_path)

    (tmp_path / "heron").mkdir()
    assert "holds no files in class folders" in refusal(tmp_path)


def test_a_folder_where_all_is_broken_says_what_first(tmp_path):
    (tmp_path / "heron").mkdir()
    (tmp_path / "heron" / "1.jpg").symlink_to("nowhere.jpg")

    assert "(heron/1.jpg is a link to nothing)" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["missing", "a\0b", "x" * 300, "no\nsuch", "caf\udce9"])
def test_a_missing_folder_is_refused_in_one_line(tmp_path, name):
    assert refusal(f"{tmp_path}/{name}")


def test_a_root_whose_path_is_not_utf8_is_refused(tmp_path):
    assert "is not UTF-8" in refusal(fill(tmp_path / "caf\udce9", "heron/1.jpg"))


def test_an_empty_path_is_not_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(fill(tmp_path, "heron/1.jpg"))

    assert "empty" in refusal("")
    assert len(find(".").files) == 1


def test_a_file_is_no_folder(tmp_path):
    assert "is not a folder" in refusal(fill(tmp_path, "heron.jpg") / "heron.jpg")


def test_the_root_is_absolute_however_it_is_given(tmp_path, monkeypatch):
    fill(tmp_path, "photos/heron/1.jpg")
    monkeypatch.chdir(tmp_path / "photos")

    for spelling in (".", "../photos", tmp_path / "photos", f"{tmp_path}/photos/", f"{tmp_path}//photos/./heron/.."):
        assert find(spelling).root == f"{tmp_path}/photos"


def test_a_root_that_is_a_link_keeps_its_name(tmp_path):
    fill(tmp_path, "photos/heron/1.jpg")
    (tmp_path / "link").symlink_to("photos")

    assert find(tmp_path / "link").root == f"{tmp_path}/link"
    assert names(find(tmp_path / "link")) == [("heron/1.jpg", "heron")]


def test_links_to_files_and_folders_are_followed(tmp_path):
    fill(tmp_path, "photos/heron/1.jpg", "archive/old/2.jpg", "archive/3.jpg")
    (tmp_path / "photos/heron/archive").symlink_to(tmp_path / "archive/old")
    (tmp_path / "photos/heron/3.jpg").symlink_to("../../archive/3.jpg")
    (tmp_path / "photos/wren").symlink_to(tmp_path / "archive")

    listing = find(tmp_path / "photos")

    assert listing.failed == ()
    assert names(listing) == [
        ("heron/1.jpg", "heron"),
        ("heron/3.jpg", "heron"),
        ("heron/archive/2.jpg", "heron"),
        ("wren/3.jpg", "wren"),
        ("wren/old/2.jpg", "wren"),
    ]


def test_broken_links_are_listed(tmp_path):
    fill(tmp_path, "heron/1.jpg")
    (tmp_path / "heron/2.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "wren").symlink_to("nowhere")

    listing = find(tmp_path)

    assert listing.failed == (Failure("heron/2.jpg", "is a link to nothing"), Failure("wren", "is a link to nothing"))
    assert names(listing) == [("heron/1.jpg", "heron")]


def test_links_that_lead_to_themselves_are_listed(tmp_path):
    fill(tmp_path, "heron/1.jpg")
    (tmp_path / "heron/self.jpg").symlink_to("self.jpg")
    (tmp_path / "heron/ping").symlink_to("pong")
    (tmp_path / "heron/pong").symlink_to("ping")

    assert failures(find(tmp_path)) == dict.fromkeys(
        ["heron/self.jpg", "heron/ping", "heron/pong"], "is a link that leads to itself"
    )


@pytest.mark.parametrize("target", [".", "..", "../..", "/"])
def test_a_link_back_up_ends_there(tmp_path, target):
    root = fill(tmp_path / "photos", "heron/1.jpg", "heron/spring/2.jpg")
    (root / "heron/spring/up").symlink_to(target)
    (root / "up").symlink_to(target if target != "../.." else "/")

    listing = find(root)

    assert [found.path for found in listing.files] == ["heron/1.jpg", "heron/spring/2.jpg"]
    assert failures(listing) == dict.fromkeys(["heron/spring/up", "up"], "is a link back to a folder that holds it")


def test_folders_that_link_to_one_another_end(tmp_path):
    root = fill(tmp_path / "photos", "heron/1.jpg")
    fill(tmp_path, "x/2.jpg", "y/3.jpg")
    (root / "heron/x").symlink_to(tmp_path / "x")
    (tmp_path / "x/y").symlink_to(tmp_path / "y")
    (tmp_path / "y/x").symlink_to(tmp_path / "x")
    (tmp_path / "y/root").symlink_to(root)

    listing = find(root)

    assert [found.path for found in listing.files] == ["heron/1.jpg", "heron/x/2.jpg", "heron/x/y/3.jpg"]
    assert failures(listing) == dict.fromkeys(
        ["heron/x/y/x", "heron/x/y/root"], "repeats a folder that is listed already"
    )


def test_many_links_to_one_folder_cost_no_more_than_one(tmp_path):
    root = fill(tmp_path / "photos", "heron/z/1.jpg")
    for level in range(12):  # followed blindly, 4 ** 12 paths
        (root / f"heron/z/{level}").mkdir()
        for way in "abcd":
            (root / f"heron/z/{level}/{way}").symlink_to(f"../{level + 1}" if level < 11 else "../../../../other")
    fill(tmp_path, "other/2.jpg")

    listing = find(root)

    assert [found.path for found in listing.files] == ["heron/z/1.jpg", "heron/z/11/a/2.jpg"]
    assert len(listing.failed) == 47


def test_what_a_link_repeats_is_listed_under_its_own_path(tmp_path):
    fill(tmp_path, "heron/z/1.jpg")
    (tmp_path / "heron/a").symlink_to("z")

    assert [found.path for found in find(tmp_path).files] == ["heron/z/1.jpg"]


def test_names_that_are_not_utf8_are_listed_and_printable(tmp_path):
    fill(tmp_path, "heron/1.jpg", "heron/caf\udce9.jpg", "heron/d\udcffr/1.jpg", "\udce9tang/1.jpg")

    listing = find(tmp_path)

    assert names(listing) == [("heron/1.jpg", "heron")]
    assert failures(listing) == dict.fromkeys(
        ["heron/caf\\udce9.jpg", "heron/d\\udcffr", "\\udce9tang"], "has a name that is not UTF-8: rename it"
    )


def test_a_folder_that_cannot_be_opened_is_listed(tmp_path, monkeypatch):
    fill(tmp_path, "heron/1.jpg", "heron/closed.png/2.jpg", "wren/3.jpg")
    for name in ("heron/closed.png", "wren"):
        (tmp_path / name).chmod(0)
    if os.access(tmp_path / "wren", os.R_OK):  # root opens everything, so the system's answer is played
        look = os.scandir

        def closed(path):
            if path.endswith(("closed.png", "wren")):
                raise PermissionError(13, "Permission denied", path)
            return look(path)

        monkeypatch.setattr(os, "scandir", closed)

    listing = find(tmp_path)

    for name in ("heron/closed.png", "wren"):
        (tmp_path / name).chmod(0o700)
    assert names(listing) == [("heron/1.jpg", "heron")]
    assert len(listing.failed) == 2
    assert failures(listing) == dict.fromkeys(
        ["heron/closed.png", "wren"], "is a folder that cannot be opened: permission denied"
    )


def test_a_folder_named_like_an_image_is_listed_when_it_holds_no_files(tmp_path):
    fill(tmp_path, "heron/1.jpg", "heron/full.jpg/2.jpg", "heron/nested.jpg/deep/3.jpg", "heron/full.jpg-2/5.jpg")
    for name in ("heron/empty.JPG", "heron/outer.png/inner", "wren.jpeg"):
        (tmp_path / name).mkdir(parents=True)
    fill(tmp_path, "heron/empty.JPG2/4.jpg")

    listing = find(tmp_path)

    assert failures(listing) == dict.fromkeys(
        ["heron/empty.JPG", "heron/outer.png", "wren.jpeg"], "is a folder, not an image"
    )
    assert len(listing.files) == 5


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no fifos here")
def test_special_files_are_listed_and_never_opened(tmp_path, monkeypatch):
    fill(tmp_path, "heron/1.jpg")
    os.mkfifo(tmp_path / "heron/2.jpg")
    os.mkfifo(tmp_path / "outside.jpg")
    (tmp_path / "heron/3.jpg").symlink_to("2.jpg")
    monkeypatch.chdir(tmp_path / "heron")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("4.jpg")
        listing = find(tmp_path)

    assert failures(listing) == dict.fromkeys(["heron/2.jpg", "heron/3.jpg", "heron/4.jpg"], "is not a regular file")
    assert names(listing) == [("heron/1.jpg", "heron")]


def test_no_file_in_a_class_folder_is_opened(tmp_path, monkeypatch):
    fill(tmp_path, "heron/1.jpg")
    monkeypatch.setattr("builtins.open", lambda *args, **options: pytest.fail("opened"))

    assert len(find(tmp_path).files) == 1


def test_a_very_deep_folder_ends_in_a_failure_and_not_in_a_crash(tmp_path):
    fill(tmp_path, "heron/1.jpg")
    here = os.open(tmp_path / "heron", os.O_RDONLY)
    for _ in range(60):
        os.mkdir("d" * 100, dir_fd=here)
        below = os.open("d" * 100, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)

    listing = find(tmp_path)

    assert names(listing) == [("heron/1.jpg", "heron")]
    assert [failure.reason for failure in listing.failed] == ["cannot be read: file name too long"]
