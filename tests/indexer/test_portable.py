from __future__ import annotations

import hashlib
import json
import sqlite3
from contextlib import closing

import numpy as np
import pytest

from indexer import parquet
from indexer.errors import FirstsightError, GalleryDamaged, GalleryExists, GalleryMissing, GalleryNewer
from indexer.gallery import Gallery
from indexer.portable import TABLES, Portable, export_gallery, import_gallery
from indexer.schema import names

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture
def path(tmp_path, random_units):
    """A gallery that lived: learnt, renamed, forgotten, undone, described; two contents staged and never used."""
    vectors = random_units(9)
    vectors[8] = vectors[7]  # a tie, which goes to the lower id
    with Gallery.create(tmp_path / "birds.gallery", dim=16, fingerprint="toy", embedder={"weights": "töy"}) as gallery:
        gallery.add("egret", [(f"{row}", f"egret {row}.png", vectors[row]) for row in (0, 1, 2)])
        gallery.add("hern", [(f"{row}", None, vectors[row]) for row in (3, 4)])
        gallery.add("stork", [("5", None, vectors[5])])
        gallery.rename("hern", "héron")
        gallery.set("héron", {"site": "paris", "price": 3})
        gallery.set("egret", {"site": "rome"}, hash="1")
        gallery.remove("stork")
        gallery.remove("egret", hashes=["0"])
        gallery.add("ibis", [("8", None, vectors[8]), ("7", None, vectors[7]), ("1", None, vectors[1])])
        gallery.undo()
        gallery.undo()
        gallery.stage(["staged 1", "staged 2"], random_units(2, seed=1))
    return tmp_path / "birds.gallery"


def rows(gallery):
    """All that the catalog says, past all of the program, but for what is staged and what may be dropped."""
    with closing(sqlite3.connect(gallery / "catalog.sqlite")) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        kept = {name for name in tables if name not in ("files", "sqlite_sequence")}
        found = {name: sorted(connection.execute(f'SELECT * FROM "{name}"'), key=repr) for name in kept}
        staged = {id for id, hash in found["images"] if hash.startswith("staged")}
    found["images"] = [row for row in found["images"] if row[0] not in staged]
    found["embeddings"] = [row for row in found["embeddings"] if row[1] not in staged]
    return found


def answers(gallery, queries):
    with Gallery.open(gallery) as opened:
        classes = [(one.hits, one.scores.tolist()) for one in opened.search_classes(queries, k=9)]
        return classes, opened.search_references(queries, k=20), opened.classes()


def files(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_out_and_in_again_every_row_is_the_same(path, tmp_path):
    out = export_gallery(path, tmp_path / "out")
    back = import_gallery(tmp_path / "out", tmp_path / "back.gallery")

    assert out == back == Portable(revision=11, classes=3, images=7, newest_only=False)
    assert rows(tmp_path / "back.gallery") == rows(path)
    with Gallery.open(tmp_path / "back.gallery") as gallery, Gallery.open(path) as first:
        assert (gallery.dim, gallery.fingerprint, gallery.embedder) == (16, "toy", {"weights": "töy"})
        assert gallery.log() == first.log()
        assert gallery.verify() == []


def test_answers_are_the_same_to_the_bit_also_after_an_undo_on_both_sides(path, tmp_path, random_units):
    queries = np.concatenate([random_units(20, seed=5), random_units(9)])
    export_gallery(path, tmp_path / "out")
    import_gallery(tmp_path / "out", tmp_path / "back.gallery")

    assert answers(tmp_path / "back.gallery", queries) == answers(path, queries)
    for gallery in (path, tmp_path / "back.gallery"):
        with Gallery.open(gallery) as opened:
            opened.undo()
    assert answers(tmp_path / "back.gallery", queries) == answers(path, queries)


def test_every_revision_is_answered_as_before(path, tmp_path, random_units):
    export_gallery(path, tmp_path / "out")
    import_gallery(tmp_path / "out", tmp_path / "back.gallery")

    with Gallery.open(path) as one, Gallery.open(tmp_path / "back.gallery") as other:
        for revision in range(1, 12):
            there = [gallery.search_references(random_units(5), k=9, as_of=revision) for gallery in (one, other)]
            assert there[0] == there[1]
            assert one.classes(as_of=revision) == other.classes(as_of=revision)


def test_a_compacted_gallery_comes_back_with_what_is_left_of_its_log(path, tmp_path):
    with Gallery.open(path) as gallery:
        gallery.compact(keep=3)
        left = gallery.log()
    export_gallery(path, tmp_path / "out")

    assert import_gallery(tmp_path / "out", tmp_path / "back.gallery").revision == 11
    with Gallery.open(tmp_path / "back.gallery") as gallery:
        assert gallery.log() == left
        assert gallery.verify() == []


def test_an_imported_gallery_exports_to_the_same_bytes(path, tmp_path):
    export_gallery(path, tmp_path / "one")
    import_gallery(tmp_path / "one", tmp_path / "back.gallery")
    export_gallery(tmp_path / "back.gallery", tmp_path / "two")

    assert files(tmp_path / "two") == files(tmp_path / "one")


def test_without_its_history_a_gallery_answers_the_same_and_has_one_revision(path, tmp_path, random_units):
    queries = random_units(20, seed=5)
    told = export_gallery(path, tmp_path / "out", newest_only=True)

    assert import_gallery(tmp_path / "out", tmp_path / "back.gallery") == told
    assert told == Portable(revision=1, classes=3, images=7, newest_only=True)
    assert answers(tmp_path / "back.gallery", queries) == answers(path, queries)
    with Gallery.open(tmp_path / "back.gallery") as back, Gallery.open(path) as first:
        newest = first.log()[0]
        assert [(one.summary, one.made_at) for one in back.log()] == [
            (f"revision 11: {newest.summary}", newest.made_at)
        ]
        assert back.attributes("héron") == first.attributes("héron") == {"site": "paris", "price": 3}
        assert back.verify() == []
        assert back.staged_or_known(["5", "staged 1"]) == set()  # "5" is known to the history alone
        back.undo()
        assert back.classes() == {}


@pytest.mark.parametrize("newest_only", [False, True])
def test_an_empty_gallery_comes_back_empty(gallery, tmp_path, newest_only):
    export_gallery(gallery.path, tmp_path / "out", newest_only=newest_only)

    assert import_gallery(tmp_path / "out", tmp_path / "back") == Portable(0, 0, 0, newest_only)
    with Gallery.open(tmp_path / "back") as back:
        assert (back.classes(), back.log(), back.verify()) == ({}, [], [])


def test_vectors_are_lists_of_floats_that_any_program_reads(path, tmp_path, random_units):
    export_gallery(path, tmp_path / "out")
    images = pq.read_table(tmp_path / "out" / "images.parquet").to_pylist()
    vectors = pq.read_table(tmp_path / "out" / "embeddings.parquet").to_pylist()

    by_hash = {image["hash"]: vector["vector"] for image, vector in zip(images, vectors, strict=True)}
    assert by_hash["3"] == random_units(9)[3].tolist()


def test_neither_side_writes_over_anything(path, tmp_path):
    export_gallery(path, tmp_path / "out")

    with pytest.raises(GalleryExists):
        export_gallery(path, tmp_path / "out")
    with pytest.raises(GalleryExists):
        import_gallery(tmp_path / "out", path)


# -- what came from outside is not believed ----------------------------------------------------------------------


@pytest.fixture
def out(path, tmp_path):
    export_gallery(path, tmp_path / "out")
    return tmp_path / "out"


def manifest(out, change):
    facts = json.loads((out / "gallery.json").read_text())
    change(facts)
    (out / "gallery.json").write_text(json.dumps(facts))


def rewrite(out, name, change):
    """Change a table, and its sum in the manifest: as somebody would who knows the format."""
    file = out / f"{name}.parquet"
    table = pq.read_table(file)
    changed = change(table.to_pylist())
    changed = changed if isinstance(changed, pa.Table) else pa.Table.from_pylist(changed, table.schema)
    pq.write_table(changed, file)
    facts = {"rows": changed.num_rows, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    manifest(out, lambda all: all["tables"].update({name: facts}))


def put(row, **values):
    def change(rows):
        rows[row].update(values)
        return rows

    return change


def refused(out, tmp_path):
    """Return the error of importing; nothing may be left of it."""
    before = sorted(tmp_path.iterdir())
    with pytest.raises(FirstsightError) as caught:
        import_gallery(out, tmp_path / "new.gallery")
    assert sorted(tmp_path.iterdir()) == before
    assert len(str(caught.value).splitlines()) == 1
    assert str(out) in str(caught.value)
    return caught.value


def test_a_whole_export_passes_the_hands_of_these_tests(out, tmp_path):
    for table in TABLES:
        rewrite(out, table.name, lambda rows: rows)

    import_gallery(out, tmp_path / "new.gallery")


@pytest.mark.parametrize("table", [table.name for table in TABLES])
def test_a_table_that_is_missing_cut_short_or_flipped_is_named(out, tmp_path, table):
    file = out / f"{table}.parquet"
    whole = file.read_bytes()
    for damage in (whole[:-1], whole[:40] + bytes([whole[40] ^ 1]) + whole[41:], b""):
        file.write_bytes(damage)
        assert f"{table}.parquet" in str(refused(out, tmp_path))
    file.unlink()
    assert f"{table}.parquet" in str(refused(out, tmp_path))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", GalleryDamaged),
        ("{", GalleryDamaged),
        ("[]", GalleryDamaged),
        ("[" * 100_000, GalleryDamaged),
        ('{"format": "a gallery"}', GalleryDamaged),
        ('{"format": "firstsight gallery", "version": 99}', GalleryNewer),
        ('{"format": "firstsight gallery", "version": 1}', GalleryDamaged),
        ('{"format": "firstsight gallery", "version": 1, "gallery": "../../x"}', GalleryDamaged),
    ],
)
def test_a_manifest_that_is_none_is_refused(out, tmp_path, text, kind):
    (out / "gallery.json").write_text(text)

    assert type(refused(out, tmp_path)) is kind


def test_a_folder_without_a_manifest_is_no_export(tmp_path, path):
    assert type(refused(path, tmp_path)) is GalleryMissing
    assert type(refused(tmp_path / "nothing", tmp_path)) is GalleryMissing


@pytest.mark.parametrize("change", [lambda all: all.pop("tables"), lambda all: all["tables"].update(names=3)])
def test_a_manifest_without_its_tables_is_refused(out, tmp_path, change):
    manifest(out, change)

    assert "tables" in str(refused(out, tmp_path))


@pytest.mark.parametrize(
    ("table", "change", "sentence"),
    [
        ("names", put(0, name="Heron\n"), "is not a class name"),
        ("names", put(0, went=1), "no sense"),
        ("names", lambda rows: rows[1:], "no name"),
        ("names", lambda rows: [*rows, rows[0]], "contradicts"),
        ("references", put(0, class_id=99), "contradicts"),
        ("references", put(0, came=99), "contradicts"),
        ("references", put(0, id=2), "contradicts"),
        ("revisions", put(1, id=77), "contradicts"),
        ("revisions", put(0, summary="\x1b[2J"), "control character"),
        ("revisions", put(0, mark=""), "empty mark"),
        ("embeddings", put(0, vector=[1.0, 0.0]), "has 8 bytes"),
        ("embeddings", put(0, vector=[float("nan")] * 16), "length nan"),
        ("embeddings", put(0, vector=[0.5] * 16), "length 2"),
        ("embeddings", lambda rows: rows[1:], "lacks a vector"),
        ("embedders", put(0, dim=17), "has 64 bytes"),
        ("embedders", put(0, description="{"), "not described"),
        ("embedders", put(0, description="[]"), "not described"),
        ("embedders", lambda rows: rows[:0], "contradicts"),
        ("names", lambda rows: pa.table({"id": [1]}), "has the columns id"),
        ("classes", lambda rows: pa.table({"id": ["1", "2"]}), "holds string as id"),
        ("classes", lambda rows: pa.table({"id": pa.array([1, None])}), "lacks a value"),
        ("attributes", put(0, value="[3]"), "attributes"),
        ("attributes", put(0, value="{"), "attributes"),
        ("attributes", put(0, value='{"a<b": 1}'), "attributes"),
    ],
)
def test_a_table_that_contradicts_the_laws_of_a_gallery_is_refused(out, tmp_path, table, change, sentence):
    rewrite(out, table, change)

    assert sentence in str(refused(out, tmp_path))


def test_a_table_of_another_length_than_counted_is_refused(out, tmp_path):
    manifest(out, lambda all: all["tables"]["names"].update(rows=1))

    assert "holds 6 rows" in str(refused(out, tmp_path))


def test_without_pyarrow_the_extra_is_named(path, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)

    for call in (export_gallery, import_gallery):
        with pytest.raises(FirstsightError, match=r"firstsight\[parquet\]"):
            call(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_rows_come_back_some_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "ROWS", 10)
    many = [(id, 1, f"name {id}", f"name {id}", 1, None) for id in range(1, 26)]
    with (tmp_path / "names.parquet").open("wb") as file:
        assert parquet.write(file, names, many) == 25

    chunks = list(parquet.read(tmp_path / "names.parquet", names))

    assert [tuple(row.values()) for chunk in chunks for row in chunk] == many
    assert max(map(len, chunks)) == 10


def test_an_export_that_fails_leaves_nothing(path, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(parquet, "write", full)
    before = sorted(tmp_path.iterdir())

    with pytest.raises(FirstsightError, match="No space left"):
        export_gallery(path, tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == before
