from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from indexer import catalog as catalogs
from indexer.catalog import Catalog
from indexer.errors import GalleryBusy, GalleryDamaged, GalleryError, GalleryNewer, GalleryOlder
from indexer.gallery import Gallery
from indexer.reader import Stamp
from indexer.schema import SCHEMA_VERSION


@pytest.fixture
def path(tmp_path):
    Catalog.create(tmp_path / "catalog.sqlite", dim=16, fingerprint="toy", embedder={"weights": "töy"})
    return tmp_path / "catalog.sqlite"


@pytest.fixture
def catalog(path):
    catalog = Catalog(path)
    yield catalog
    catalog.close()


def run_sql(path, *statements):
    with closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def test_it_remembers_what_it_was_made_with(catalog):
    assert (catalog.dim, catalog.fingerprint, catalog.embedder) == (16, "toy", {"weights": "töy"})
    with catalog.reading() as reader:
        assert reader.newest() == Stamp(0, catalog.id)
        assert reader.log() == []


def test_sqlite_keeps_what_it_acknowledged_and_checks_references(catalog, path):
    with catalog.reading() as reader:
        pragmas = {name: reader.connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in SAFE}

    assert pragmas == SAFE


SAFE = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1}


def test_its_version_changes_with_any_commit_of_anybody_and_only_then(catalog, path):
    first = catalog.version()
    with catalog.reading() as reader:
        reader.log()
    assert catalog.version() == first

    run_sql(path, "INSERT INTO classes DEFAULT VALUES")
    second = catalog.version()
    with catalog.writing() as reader:
        reader.connection.exec_driver_sql("INSERT INTO classes DEFAULT VALUES")

    assert len({first, second, catalog.version()}) == 3


def test_a_reader_sees_one_revision_while_another_one_is_made(catalog, path):
    with catalog.reading() as reader:
        before = reader.newest()
        run_sql(path, "INSERT INTO revisions VALUES (1, 'mark', 'learn', 'x', 'now')")
        assert reader.newest() == before
    with catalog.reading() as reader:
        assert reader.newest() == Stamp(1, "mark")


def test_a_transaction_that_fails_leaves_nothing(catalog):
    def interrupted():
        with catalog.writing() as reader:
            reader.connection.exec_driver_sql("INSERT INTO revisions VALUES (1, 'mark', 'learn', 'x', 'now')")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()

    with catalog.reading() as reader:
        assert reader.log() == []


def test_a_newer_schema_is_refused(path):
    run_sql(path, f"UPDATE meta SET value = '{SCHEMA_VERSION + 1}' WHERE key = 'schema_version'")

    with pytest.raises(GalleryNewer, match="newer firstsight"):
        Catalog(path)


def made_by_the_first_version(path):
    for table in ("attributes", "files", "thumbnails", "upgrades", "embeddings", "embedders", "images"):
        run_sql(path, f"DROP TABLE {table}")
    run_sql(
        path,
        "CREATE TABLE images (id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, hash TEXT NOT NULL,"
        " vector BLOB NOT NULL, UNIQUE (hash))",
        "UPDATE meta SET value = '1' WHERE key = 'schema_version'",
        """INSERT INTO meta VALUES ('dim', '16'), ('fingerprint', 'toy'), ('embedder', '{"weights": "töy"}')""",
        "INSERT INTO images VALUES (7, 'x', zeroblob(64)), (9, 'y', zeroblob(64))",
    )


def schema_of(path):
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT type, name, sql FROM sqlite_master")
        return sorted((kind, name, sql and "".join(sql.split())) for kind, name, sql in rows)


def test_an_older_schema_becomes_todays_when_it_is_opened(path):
    today = schema_of(path)
    made_by_the_first_version(path)

    with closing(Catalog(path)) as catalog:
        assert (catalog.dim, catalog.fingerprint, catalog.embedder) == (16, "toy", {"weights": "töy"})
        with catalog.reading() as reader:
            assert reader.known(["x", "y", "z"]) == {"x", "y"}
            assert reader.image_ids(["x", "y"]) == {"x": 7, "y": 9}

    assert schema_of(path) == today


def test_the_second_schema_becomes_todays_too(path):
    run_sql(
        path,
        "DROP TABLE embeddings",
        "DROP TABLE runtimes",
        "CREATE TABLE embeddings (id INTEGER NOT NULL PRIMARY KEY, image_id INTEGER NOT NULL REFERENCES images (id),"
        " embedder_id INTEGER NOT NULL REFERENCES embedders (id), vector BLOB NOT NULL, mapped BOOLEAN NOT NULL)",
        "CREATE UNIQUE INDEX embedding_of_image ON embeddings (image_id, embedder_id)",
        "INSERT INTO images VALUES (7, 'x')",
        "INSERT INTO embeddings VALUES (1, 7, 1, zeroblob(64), 0)",
        "UPDATE meta SET value = '2' WHERE key = 'schema_version'",
    )

    for _ in range(2):
        with closing(Catalog(path)) as catalog, catalog.reading() as reader:
            assert reader.known(["x", "z"]) == {"x"}
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT id, image_id, runtime_id FROM embeddings").fetchall() == [(1, 7, None)]
        assert connection.execute("SELECT count(*) FROM runtimes").fetchone() == (0,)


def test_an_older_schema_that_may_only_be_read_is_refused(path, monkeypatch):
    made_by_the_first_version(path)
    monkeypatch.setattr(catalogs, "_ways", lambda path: ["mode=ro"])

    with pytest.raises(GalleryOlder, match="copy it"):
        Catalog(path)


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM meta WHERE key = 'schema_version'",
        "DELETE FROM meta WHERE key = 'gallery'",
        "DELETE FROM embedders",
        "UPDATE embedders SET dim = 'many'",
        "UPDATE embedders SET description = '{'",
        "DROP TABLE embedders",
        "DROP TABLE meta",
    ],
)
def test_a_catalog_that_lacks_a_part_is_damaged(path, damage):
    run_sql(path, damage)

    with pytest.raises(GalleryDamaged, match="restore it from a copy") as caught:
        Catalog(path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("content", [b"", b"not a database at all, but long enough to look like one" * 100])
def test_a_file_that_is_no_catalog_is_damaged(path, content):
    path.write_bytes(content)

    with pytest.raises(GalleryDamaged):
        Catalog(path)


def test_a_catalog_is_never_made_by_opening_it(tmp_path):
    with pytest.raises(GalleryError):
        Catalog(tmp_path / "catalog.sqlite")

    assert list(tmp_path.iterdir()) == []


def test_a_path_may_hold_what_a_url_may_not(tmp_path):
    folder = tmp_path / "a b#c?d%20é&mode=ro"
    folder.mkdir()
    Catalog.create(folder / "catalog.sqlite", dim=3, fingerprint="toy", embedder={})
    catalog = Catalog(folder / "catalog.sqlite")

    assert catalog.dim == 3
    catalog.close()


def test_a_closed_one_says_so(catalog):
    catalog.close()
    catalog.close()

    for use in (catalog.version, lambda: catalog.reading().__enter__(), lambda: catalog.writing().__enter__()):
        with pytest.raises(GalleryError, match="closed"):
            use()


def test_a_lock_held_by_another_program_is_told_in_one_line(path, monkeypatch):
    monkeypatch.setattr("indexer.schema.BUSY_SECONDS", 0.05)
    catalog = Catalog(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(GalleryBusy, match="another program"), catalog.writing():
            pytest.fail("two writers")
    catalog.close()


def test_a_full_disk_changes_nothing_and_is_told_in_one_line(catalog):
    def fill():
        with catalog.writing() as reader:
            reader.connection.exec_driver_sql("PRAGMA max_page_count = 1")
            reader.connection.exec_driver_sql("INSERT INTO images (hash) VALUES (hex(zeroblob(1000000)))")

    with pytest.raises(GalleryError, match="disk is full"):
        fill()

    with catalog.reading() as reader:
        assert reader.known(["x"]) == set()


READ_ONLY = """
import os, sys
import sqlalchemy.dialects.sqlite
from indexer.gallery import Gallery
if os.geteuid() == 0:
    os.setuid(65534)
with Gallery.open(sys.argv[1]) as gallery:
    print(gallery.search_references([1.0] + [0.0] * 15, k=1)[0][0].name, gallery.verify())
    try:
        gallery.remove("heron")
    except Exception as error:
        print(type(error).__name__, str(error).count("\\n"))
"""


def test_a_gallery_that_may_only_be_read_answers_all_the_same():
    top = Path(tempfile.mkdtemp())  # not tmp_path, where a process without rights may not go
    folder = top / "gallery"
    try:
        with Gallery.create(folder, dim=16, fingerprint="toy") as gallery:
            gallery.add("heron", [("hash", None, [1.0] + [0.0] * 15)])
        before = sorted(entry.name for entry in folder.iterdir())
        top.chmod(0o755)
        folder.chmod(0o555)

        command = [sys.executable, "-c", READ_ONLY, str(folder)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)

        assert (ran.stdout, ran.stderr) == ("heron []\nGalleryError 0\n", "")
        assert sorted(entry.name for entry in folder.iterdir()) == before
    finally:
        folder.chmod(0o755)
        shutil.rmtree(top)
