"""Damage is planted behind the program's back; repair undoes what it can, and verify says what is left."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing

import numpy as np
import pytest

from indexer.folder import CATALOG, PROTOTYPES, REFERENCES
from indexer.gallery import Gallery

POOL = np.random.default_rng(7).normal(size=(12, 16))
QUERIES = np.random.default_rng(1).normal(size=(2, 16))


def answers(gallery, as_of=None):
    return (
        [(found.hits, found.scores.tobytes()) for found in gallery.search_classes(QUERIES, as_of=as_of)],
        gallery.search_references(QUERIES, k=99, as_of=as_of),
    )


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A closed gallery: 2 egrets, 2 herons that were called hern, attributes, a change undone, views on disk."""
    path = tmp_path_factory.mktemp("sound") / "birds.gallery"
    with Gallery.create(path, dim=16, fingerprint="toy") as gallery:
        gallery.add("egret", [(f"{row}", None, POOL[row]) for row in (0, 1)])
        gallery.add("hern", [(f"{row}", None, POOL[row]) for row in (2, 3)])
        gallery.rename("hern", "heron")
        gallery.set("egret", {"site": "pond"})
        gallery.set("egret", {"seen": True}, hash="1")
        gallery.add("stork", [("4", None, POOL[4])])
        gallery.undo()
        gallery.save_views()
        assert gallery.verify() == []
        assert gallery.repair().done == []
    return path


@pytest.fixture
def path(sound, tmp_path):
    shutil.copytree(sound, tmp_path / "birds.gallery")
    return tmp_path / "birds.gallery"


@pytest.fixture
def expected(sound):
    with Gallery.open(sound) as gallery:
        return answers(gallery)


def run_sql(path, *statements):
    with closing(sqlite3.connect(path / CATALOG)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def repaired(path):
    """Repair; check that it needed it, that a second repair has nothing to do, and that it stays so when reopened."""
    with Gallery.open(path) as gallery:
        assert gallery.verify() != []
        found = gallery.repair()
        assert gallery.verify() == found.broken
        again = gallery.repair()
        assert (again.done, again.broken) == ([], found.broken)
    with Gallery.open(path) as gallery:
        assert gallery.verify() == found.broken
    return found


OF_IMAGE_1 = "(SELECT id FROM images WHERE hash = '1')"
LOST = "removed reference 2, which had no vector; index its folder or learn it again (sha256:1)"


@pytest.mark.parametrize(
    ("done", "statements"),
    [
        (["made the index live_names anew"], ["DROP INDEX live_names"]),
        (
            ["reference 6 is in the gallery twice: let it go", "made the index live_references anew"],
            [
                "DROP INDEX live_references",
                'INSERT INTO "references" (class_id, image_id, came) SELECT class_id, image_id, came FROM "references"'
                " WHERE id = 1",
            ],
        ),
        (
            ["class 3 has a name but no references: let it go"],
            ["UPDATE names SET went = NULL WHERE name = 'stork'"],
        ),
        (
            ["attributes 3 are of a class or a reference that is gone: let it go"],
            ["INSERT INTO attributes (class_id, value, came) VALUES (3, '{}', 6)"],
        ),
        (
            ["the file a.jpg is remembered with neither a hash nor a reason: forgot it"],
            ["INSERT INTO files (root, path, size, modified_ns, inode) VALUES ('/photos', 'a.jpg', 1, 1, 1)"],
        ),
        (
            ["the thumbnail of image 1 is no JPEG: forgot it"],
            ["INSERT INTO thumbnails (image_id, jpeg) VALUES (1, x'0000')"],
        ),
    ],
)
def test_what_follows_from_the_rest_is_put_right_and_no_answer_changes(path, expected, done, statements):
    run_sql(path, *statements)

    found = repaired(path)

    assert found.broken == []
    assert set(done) <= set(found.done)
    with Gallery.open(path) as gallery:
        assert answers(gallery) == expected


@pytest.mark.parametrize(
    "statement",
    [
        f"DELETE FROM embeddings WHERE image_id = {OF_IMAGE_1}",
        f"UPDATE embeddings SET vector = zeroblob(12) WHERE image_id = {OF_IMAGE_1}",
        f"UPDATE embeddings SET vector = zeroblob(64) WHERE image_id = {OF_IMAGE_1}",
        f"UPDATE embeddings SET vector = CAST(x'0000c07f' || substr(vector, 5) AS BLOB) WHERE image_id = {OF_IMAGE_1}",
    ],
)
def test_a_vector_that_is_lost_takes_its_reference_along_and_everybody_notices(path, statement):
    with Gallery.open(path) as reader:
        reader.search_classes(QUERIES)
        run_sql(path, statement)

        found = repaired(path)

        assert found.broken == []
        assert LOST in found.done
        assert {hit.reference for hit in reader.search_references(QUERIES[0], k=99)[0]} == {
            "sha256:0",
            "sha256:2",
            "sha256:3",
        }
        assert reader.verify() == []
        reader.add("egret", [("1", None, POOL[1])])
        assert reader.classes() == {"egret": 2, "heron": 2}


def test_rows_that_point_nowhere_are_removed(path):
    run_sql(path, 'UPDATE "references" SET image_id = 99 WHERE id = 1', "UPDATE names SET class_id = 77 WHERE id = 3")

    found = repaired(path)

    assert "removed row 1 of references: the row of images that it points to was not there" in found.done
    assert "removed row 3 of names: the row of classes that it points to was not there" in found.done
    assert found.broken == ["class 2 has references but no name, or several names"]


def test_a_length_within_rounding_is_made_1_and_another_is_left_and_named(path, expected):
    half = POOL[1] / np.linalg.norm(POOL[1]) * 1.004
    run_sql(path, f"UPDATE embeddings SET vector = x'{half.astype('<f4').tobytes().hex()}' WHERE image_id = 2")
    found = repaired(path)
    assert found.broken == []
    assert found.done == ["scaled the vector of image 1 from length 1.004 to 1", "made the views anew"]
    with Gallery.open(path) as gallery:
        for found, hits in zip(gallery.search_references(QUERIES, k=99), expected[1], strict=True):
            assert [hit.reference for hit in found] == [hit.reference for hit in hits]
            assert [hit.score for hit in found] == pytest.approx([hit.score for hit in hits], abs=1e-6)

    run_sql(path, f"UPDATE embeddings SET vector = x'{(2 * half).astype('<f4').tobytes().hex()}' WHERE image_id = 2")
    assert any("has the length 2.008, not 1" in sentence for sentence in repaired(path).broken)


def test_what_cannot_be_known_is_left_and_named(path):
    run_sql(path, "UPDATE names SET went = 4 WHERE name = 'egret'", "UPDATE revisions SET id = 9 WHERE id = 7")

    found = repaired(path)

    assert found.done == ["made the views anew"]  # they showed a revision that is not there
    assert set(found.broken) >= {
        "class 1 has references but no name, or several names",
        "the revisions are not numbered 1, 2, 3 without a gap up to 9",
    }


DAMAGE = {
    "flipped": lambda path: path.write_bytes(path.read_bytes()[:200] + b"??" + path.read_bytes()[202:]),
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-7]),
    "a folder": lambda path: (path.unlink(), path.mkdir(), (path / "inside").touch()),
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("what", [REFERENCES, PROTOTYPES])
def test_damaged_views_are_made_anew(path, expected, what, damage):
    DAMAGE[damage](path / what)

    found = repaired(path)

    assert (found.done, found.broken) == (["made the views anew"], [])
    assert (path / what).is_file()
    with Gallery.open(path) as gallery:
        assert answers(gallery) == expected


def test_everything_but_the_catalog_may_be_lost(path, expected):
    for entry in path.iterdir():
        if entry.name != CATALOG:
            entry.unlink()

    with Gallery.open(path) as gallery:
        assert gallery.verify() == []
        assert answers(gallery) == expected
        assert gallery.repair().done == []


def test_a_damaged_index_of_the_catalog_is_made_anew(path, expected):
    with closing(sqlite3.connect(path / CATALOG)) as connection:
        query = "SELECT rootpage FROM sqlite_master WHERE name = 'live_references'"
        root, size = connection.execute(query).fetchone()[0], connection.execute("PRAGMA page_size").fetchone()[0]
    content = bytearray((path / CATALOG).read_bytes())
    page = memoryview(content)[(root - 1) * size : root * size]
    used = bytes(page).rindex(b"\x01")
    page[used] ^= 2  # another row's id in an entry
    (path / CATALOG).write_bytes(content)

    found = repaired(path)

    assert (found.done, found.broken) == (["made the indexes of the catalog anew"], [])
    with Gallery.open(path) as gallery:
        assert answers(gallery) == expected


def test_staged_embeddings_are_removed(path):
    with Gallery.open(path) as gallery:
        gallery.stage(["staged"], POOL[5:6])
        assert gallery.repair().done == ["removed 1 embedding that no reference named"]
        assert gallery.staged_or_known(["staged", "1"]) == {"1"}


def test_a_log_that_is_cut_short_loses_only_what_is_cut(sound, tmp_path):
    """The write-ahead log of a gallery that was never closed, cut at any page: a revision is there whole, or not."""
    path, seen = tmp_path / "live.gallery", {}
    with Gallery.create(path, dim=16, fingerprint="toy") as gallery:
        for row in range(6):
            gallery.add("egret", [(f"{row}", None, POOL[row])])
            seen[gallery.revision] = answers(gallery)
        shutil.copytree(path, tmp_path / "killed.gallery")
    whole = (tmp_path / "killed.gallery" / f"{CATALOG}-wal").read_bytes()
    for part in range(8):
        shutil.rmtree(tmp_path / "cut.gallery", ignore_errors=True)
        shutil.copytree(tmp_path / "killed.gallery", tmp_path / "cut.gallery")
        (tmp_path / "cut.gallery" / f"{CATALOG}-wal").write_bytes(whole[: len(whole) * (part + 1) // 8 - 5])
        with Gallery.open(tmp_path / "cut.gallery") as gallery:
            assert gallery.verify() == []
            assert gallery.revision == 0 or answers(gallery) == seen[gallery.revision]
    assert gallery.path.exists()
