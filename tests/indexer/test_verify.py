"""Each kind of damage is planted behind the program's back; verify names it, and finds nothing else."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

from indexer import view_file
from indexer.faiss_index import FaissIndex
from indexer.folder import PROTOTYPES, REFERENCES, VIEWS
from indexer.gallery import Gallery
from indexer.pages import Pages
from indexer.view_file import Label


@pytest.fixture
def path(tmp_path, random_units):
    """A closed gallery: two classes of two references, one renamed, one change undone, views on disk."""
    vectors = random_units(6)
    with Gallery.create(tmp_path / "birds.gallery", dim=16, fingerprint="toy") as gallery:
        gallery.add("egret", [(f"{row}", None, vectors[row]) for row in (0, 1)])
        gallery.add("hern", [(f"{row}", None, vectors[row]) for row in (2, 3)])
        gallery.rename("hern", "heron")
        gallery.add("stork", [("4", None, vectors[4])])
        gallery.undo()
        gallery.save_views()
        assert gallery.verify() == []
    return tmp_path / "birds.gallery"


def problems(path):
    with Gallery.open(path) as gallery:
        return gallery.verify()


def run_sql(path, *statements):
    with closing(sqlite3.connect(path / "catalog.sqlite")) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def test_a_sound_gallery_has_no_problems_and_stays_as_it_is(path):
    before = {entry.name: entry.read_bytes() for entry in path.iterdir()}

    assert problems(path) == []

    assert {entry.name: entry.read_bytes() for entry in path.iterdir()} == before


LACKS = "lacks 1 row of the catalog"
OF_IMAGE = "WHERE image_id IN (SELECT id FROM images WHERE hash LIKE '{}')"
FIRST_FLOAT = "UPDATE embeddings SET vector = CAST(x'{}' || substr(vector, 5) AS BLOB) " + OF_IMAGE.format("1")
ZEROS = "UPDATE embeddings SET vector = zeroblob({}) " + OF_IMAGE
OTHER_EMBEDDER = "INSERT INTO embedders VALUES (2, 'other', 16, '{}')"


@pytest.mark.parametrize(
    ("sentence", "statements"),
    [
        (
            "row 1 of references points to a row of images that is not there",
            ['UPDATE "references" SET image_id = 99 WHERE id = 1'],
        ),
        ("image 1: its vector has 12 bytes, not 64", [ZEROS.format(12, "1")]),
        ("image 1: its vector has the length 0, not 1", [ZEROS.format(64, "1")]),
        ("image 1: its vector has the length nan, not 1", [FIRST_FLOAT.format("0000c07f")]),
        ("image 1: its vector has the length inf, not 1", [FIRST_FLOAT.format("0000807f")]),
        (
            "reference 1 came or went in a revision that makes no sense",
            ['UPDATE "references" SET went = 1 WHERE id = 1'],
        ),
        (
            "reference 5 came or went in a revision that makes no sense",
            ['UPDATE "references" SET came = 5 WHERE id = 5'],
        ),
        (
            "reference 2 came or went in a revision that makes no sense",
            ['UPDATE "references" SET came = 77 WHERE id = 2'],
        ),
        ("name 1 came or went in a revision that makes no sense", ["UPDATE names SET came = 0 WHERE id = 1"]),
        ("the revisions are not numbered 1, 2, 3 without a gap up to 9", ["UPDATE revisions SET id = 9 WHERE id = 5"]),
        (
            "reference 3 is in the gallery twice",
            ["DROP INDEX live_references", 'UPDATE "references" SET class_id = 1, image_id = 1 WHERE id = 3'],
        ),
        ("class 1 has references but no name, or several names", ["UPDATE names SET went = 4 WHERE name = 'egret'"]),
        (
            "class 1 has references but no name, or several names",
            [
                "DROP INDEX live_name_of_class",
                "INSERT INTO names (class_id, name, folded, came) VALUES (1, 'ibis', 'ibis', 2)",
            ],
        ),
        ("reference 1 lacks a vector by the embedder of its time", ["DELETE FROM embeddings " + OF_IMAGE.format("0")]),
        (
            "reference 1 lacks a vector by the embedder of its time",
            [OTHER_EMBEDDER, "INSERT INTO upgrades VALUES (1, 2, 3, 4)"],
        ),
        (
            "upgrade 2 came or went in a revision that makes no sense, or is not the only one",
            [OTHER_EMBEDDER, "INSERT INTO upgrades VALUES (1, 2, 3, NULL)", "INSERT INTO upgrades VALUES (2, 1, 4, 5)"],
        ),
        (
            "upgrade 1 came or went in a revision that makes no sense, or is not the only one",
            [OTHER_EMBEDDER, "INSERT INTO upgrades VALUES (1, 2, 6, NULL)", "UPDATE upgrades SET embedder_id = 1"],
        ),
        ("class 3 has a name but no references", ["UPDATE names SET went = NULL WHERE name = 'stork'"]),
        (
            "the class names 'Heron' and 'heron' are the same but for their case",
            ["DROP INDEX live_names", "UPDATE names SET name = 'Heron', folded = 'heron' WHERE name = 'egret'"],
        ),
        ("the catalog lacks its index live_names", ["DROP INDEX live_names"]),
        (
            "' egret' is not a class name as the catalog writes them",
            ["UPDATE names SET name = ' egret' WHERE name = 'egret'"],
        ),
        (
            "'egret' is not a class name as the catalog writes them",
            ["UPDATE names SET folded = 'EGRET' WHERE name = 'egret'"],
        ),
    ],
)
def test_damage_to_the_catalog_is_named(path, sentence, statements):
    run_sql(path, *statements)

    assert sentence in problems(path)


def test_damage_to_the_file_is_named(path):
    with closing(sqlite3.connect(path / "catalog.sqlite")) as connection:
        root, size = (
            connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'live_references'").fetchone()[0],
            connection.execute("PRAGMA page_size").fetchone()[0],
        )
    with (path / "catalog.sqlite").open("r+b") as file:
        file.seek((root - 1) * size)
        file.write(b"\xff" * size)

    found = problems(path)

    assert found
    assert any("damaged" in sentence or "cannot be read" in sentence for sentence in found)
    assert all(len(sentence.splitlines()) == 1 for sentence in found)


def test_much_damage_is_summed_up(path, random_units):
    with Gallery.open(path) as gallery:
        gallery.stage([f"x{row}" for row in range(100)], random_units(100))
    run_sql(path, ZEROS.format(64, "x%"))

    found = problems(path)

    assert len(found) == 21
    assert found[-1] == "and 80 more like the last"


def test_damaged_views_are_named_and_missing_ones_are_not(path):
    content = (path / REFERENCES).read_bytes()
    (path / REFERENCES).write_bytes(content[:100] + b"?" + content[101:])
    (path / PROTOTYPES).unlink()

    assert problems(path) == ["references.faiss does not match its checksum; the next query makes it anew"]


def test_views_that_lag_behind_are_sound(path, random_units):
    old = {name: (path / name).read_bytes() for name in VIEWS}
    with Gallery.open(path) as gallery:
        gallery.add("ibis", [("9", None, random_units(6)[5])])
    for name, content in old.items():
        (path / name).write_bytes(content)

    assert problems(path) == []


def test_views_of_another_history_are_named(path, random_units, tmp_path):
    shutil.copytree(path, tmp_path / "fork")
    for copy in (path, tmp_path / "fork"):
        with Gallery.open(copy) as gallery:
            gallery.add("ibis", [("9", None, random_units(6)[5])])
            gallery.save_views()
    shutil.copy(tmp_path / "fork" / REFERENCES, path / REFERENCES)

    assert problems(path) == [
        "references.faiss shows a revision that this gallery never had; the next query makes it anew"
    ]


def forge(path, what, change):
    """Save a view that is whole and current, and wrong."""
    with Gallery.open(path) as gallery:
        catalog = gallery._catalog
        index, label = view_file.load(path / what, what=what, gallery=catalog.id, dim=16)
    view_file.save(change(index), path / what, Label(what, label.gallery, label.revision, label.mark))


def without_first(index):
    return index.without(index.ids[:1])


def with_a_stranger(index):
    return index.adding([99], np.eye(16, dtype=np.float32)[:1])


def with_one_twice(index):
    return index.adding(index.ids[:1], index.vectors(index.ids[:1]))


def swapped(index):
    return FaissIndex(16).adding(np.roll(index.ids, 1), index.vectors(index.ids))


@pytest.mark.parametrize("what", [REFERENCES, PROTOTYPES])
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (without_first, "lacks 1 row of the catalog"),
        (with_a_stranger, "holds 1 row that the catalog does not"),
        (with_one_twice, "holds some rows twice"),
        (swapped, "wrong vectors"),
    ],
)
def test_a_view_that_is_wrong_is_named(path, what, change, sentence):
    forge(path, what, change)

    (found,) = problems(path)

    assert found.startswith(what)
    assert found.endswith(sentence)


def test_a_snapshot_that_is_wrong_is_named(path):
    def found(change):
        with Gallery.open(path) as gallery:
            gallery.search_classes(np.ones(16))
            views = gallery._views
            views._shown = views._shown._replace(
                snapshot=replace(views._shown.snapshot, **change(views._shown.snapshot))
            )
            return gallery.verify()

    assert found(lambda snapshot: {}) == []
    assert found(lambda snapshot: {"known": Pages()}) == ["in memory: the references are not the catalog's"]
    assert found(lambda snapshot: {"names": Pages([(1, "x")])}) == ["in memory: the names are not the catalog's"]
    for what in ("references", "prototypes"):
        lacking = found(lambda snapshot, what=what: {what: getattr(snapshot, what).without([1])})
        assert lacking == [f"in memory, {what}: {LACKS}"]


def test_a_snapshot_that_lags_behind_is_sound(path, random_units):
    with Gallery.open(path) as gallery, Gallery.open(path) as other:
        gallery.search_classes(np.ones(16))
        other.add("ibis", [("9", None, random_units(6)[5])])

        assert gallery.verify() == []
