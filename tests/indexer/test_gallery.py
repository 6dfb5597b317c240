from __future__ import annotations

import threading

import numpy as np
import pytest

from indexer.errors import (
    ArgumentError,
    ClassExists,
    ClassMissing,
    EmbedderMismatch,
    GalleryError,
    GalleryExists,
    GalleryMissing,
)
from indexer.gallery import Gallery
from indexer.history import Coming


@pytest.fixture
def learn(gallery, random_units):
    vectors = random_units(50)

    def add(name, *numbers, into=gallery):
        return into.add(name, [(f"hash {number}", f"{number}.jpg", vectors[number]) for number in numbers])

    return add


def test_a_gallery_remembers_what_it_was_made_with(tmp_path):
    with Gallery.create(tmp_path / "a.gallery", dim=3, fingerprint="f", embedder={"weights": "w"}) as gallery:
        assert (gallery.dim, gallery.fingerprint, gallery.embedder) == (3, "f", {"weights": "w"})
        assert (gallery.revision, len(gallery), gallery.classes(), gallery.log()) == (0, 0, {}, [])
    with Gallery.open(tmp_path / "a.gallery") as gallery:
        assert (gallery.dim, gallery.fingerprint, gallery.embedder) == (3, "f", {"weights": "w"})
        assert gallery.path == tmp_path / "a.gallery"


def test_a_second_gallery_is_not_made_over_the_first(gallery):
    with pytest.raises(GalleryExists):
        Gallery.create(gallery.path, dim=3, fingerprint="f")


def test_there_is_no_gallery_where_there_is_none(tmp_path):
    with pytest.raises(GalleryMissing):
        Gallery.open(tmp_path / "nowhere")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dim", [0, -1, 2.0, True])
def test_a_dim_is_a_whole_number(tmp_path, dim):
    with pytest.raises(ArgumentError, match="dim"):
        Gallery.create(tmp_path / "a", dim=dim, fingerprint="f")


def test_another_embedder_is_refused(gallery):
    gallery.require("toy")
    with pytest.raises(EmbedderMismatch, match="another embedder"):
        gallery.require("other")


def test_a_closed_gallery_says_so(gallery):
    gallery.search_references(np.ones(16))
    gallery.close()
    gallery.close()

    for use in (gallery.classes, gallery.undo, lambda: gallery.search_classes(np.ones(16)), lambda: len(gallery)):
        with pytest.raises(GalleryError, match="closed"):
            use()


def test_one_shot_is_enough(gallery, learn, random_units):
    change = learn("heron", 7)

    assert (change.action, change.revision, change.added, change.removed) == ("learn", 1, 1, 0)
    assert gallery.classes() == {"heron": 1}
    assert gallery.search_classes(random_units(50)[7])[0].hits[0].name == "heron"


def test_what_is_learnt_is_there_after_opening_again(gallery, learn, random_units, catalog_of):
    learn("heron", 7)
    gallery.close()

    (row,) = catalog_of(gallery.path)
    assert row == ("heron", "hash 7", None, "7.jpg")
    with Gallery.open(gallery.path) as again:
        assert again.search_references(random_units(50)[7], k=1)[0][0].reference == "7.jpg"


def test_a_content_counts_once_in_a_class(gallery, learn):
    learn("heron", 1, 2)

    assert learn("heron", 2, 1).added == 0
    assert gallery.revision == 1
    assert learn("heron", 2, 3, 3).added == 1
    assert learn("egret", 2).added == 1
    assert gallery.classes() == {"egret": 1, "heron": 3}
    assert len(gallery) == 4


def test_a_content_keeps_the_vector_it_had(gallery, random_units):
    first, second = random_units(2)

    gallery.add("heron", [("hash", None, first)])
    gallery.add("egret", [("hash", None, second)])

    assert {hit.name: hit.score for hit in gallery.search_references(first)[0]} == {
        "heron": pytest.approx(1),
        "egret": pytest.approx(1),
    }


def test_a_vector_in_the_gallery_has_length_one(gallery, random_units, catalog_of):
    gallery.add("heron", [("hash", None, random_units(1)[0] * 50)])

    (stored,) = catalog_of(gallery.path).values()
    assert np.linalg.norm(np.frombuffer(stored, "<f4")) == pytest.approx(1)


def test_a_reference_without_a_path_shows_its_content(gallery, random_units):
    gallery.add("heron", [("0123456789abcdef", None, random_units(1)[0])])

    assert gallery.search_references(np.ones(16))[0][0].reference == "sha256:0123456789ab"


def test_a_path_that_no_database_can_hold_is_kept_printable(gallery, random_units):
    gallery.add("heron", [("hash", "bad\udcff.jpg", random_units(1)[0])])

    assert gallery.search_references(np.ones(16))[0][0].reference == "bad\\udcff.jpg"


@pytest.mark.parametrize("bad", [np.zeros(16), np.full(16, np.nan), np.ones(15), np.ones((1, 16)), "vector"])
def test_a_vector_that_cannot_be_one_is_refused_and_nothing_changes(gallery, random_units, bad):
    with pytest.raises(ArgumentError):
        gallery.add("heron", [("good", None, random_units(1)[0]), ("bad", None, bad)])

    assert (gallery.revision, gallery.staged_or_known(["good", "bad"])) == (0, set())


def test_class_names_that_differ_only_by_case_are_refused(gallery, learn):
    learn("heron", 1)

    for refused in (lambda: learn("Heron", 2), lambda: gallery.rename("egret", "HERON")):
        learn("egret", 3)
        with pytest.raises(ClassExists, match="'heron'"):
            refused()
    with pytest.raises(ClassExists, match="there is a class 'heron' already"):
        gallery.rename("egret", "heron")

    assert gallery.classes() == {"egret": 1, "heron": 1}
    assert gallery.revision == 2


def test_a_class_may_change_the_case_of_its_own_name(gallery, learn):
    learn("heron", 1)

    gallery.rename("heron", "Heron")

    assert gallery.classes() == {"Heron": 1}


def test_a_name_is_the_same_composed_or_not(gallery, learn):
    learn("e\u0301gret", 1)

    assert learn("\u00e9gret", 1).added == 0
    gallery.rename("e\u0301gret", "egret")
    assert gallery.classes() == {"egret": 1}


def test_a_renamed_class_is_found_by_its_new_name(gallery, learn, random_units):
    learn("heron", 1)
    assert gallery.search_classes(random_units(50)[1])[0].hits[0].name == "heron"

    change = gallery.rename("heron", "grey heron")

    assert (change.action, change.revision) == ("rename", 2)
    assert gallery.search_classes(random_units(50)[1])[0].hits[0].name == "grey heron"
    assert gallery.search_references(random_units(50)[1])[0][0].name == "grey heron"
    assert gallery.rename("grey heron", "grey heron").revision == 2


def test_a_forgotten_class_is_gone_and_its_name_free(gallery, learn, random_units):
    learn("heron", 1, 2)
    learn("egret", 3)
    gallery.search_classes(np.ones(16))

    assert gallery.remove("heron").removed == 2

    assert gallery.classes() == {"egret": 1}
    assert [hit.name for hit in gallery.search_classes(random_units(50)[1])[0].hits] == ["egret"]
    learn("HERON", 4)
    assert gallery.classes() == {"HERON": 1, "egret": 1}


def test_single_references_can_be_forgotten(gallery, learn):
    learn("heron", 1, 2, 3)

    assert gallery.remove("heron", hashes=["hash 1", "hash 3"]).removed == 2
    assert gallery.classes() == {"heron": 1}
    with pytest.raises(ArgumentError, match="has no reference"):
        gallery.remove("heron", hashes=["hash 2", "hash 1"])
    assert gallery.remove("heron", hashes=[]).revision == 2
    gallery.remove("heron", hashes=["hash 2"])
    assert gallery.classes() == {}


def test_a_class_that_is_not_there_is_missing(gallery, learn):
    learn("heron", 1)

    for use in (lambda: gallery.remove("hern"), lambda: gallery.rename("hern", "x")):
        with pytest.raises(ClassMissing, match="did you mean 'heron'"):
            use()


def test_the_log_tells_what_happened_newest_first(gallery, learn):
    learn("heron", 1, 2)
    gallery.rename("heron", "egret")
    gallery.remove("egret", hashes=["hash 1"])
    gallery.undo()
    gallery.undo()

    assert [(line.id, line.action, line.summary) for line in gallery.log()] == [
        (5, "undo", "redo revision 3: forget 1 reference of 'egret'"),
        (4, "undo", "undo revision 3: forget 1 reference of 'egret'"),
        (3, "forget", "forget 1 reference of 'egret'"),
        (2, "rename", "rename 'heron' to 'egret'"),
        (1, "learn", "learn 2 references of 'heron'"),
    ]
    assert all(line.made_at.endswith("+00:00") for line in gallery.log())


def test_there_is_nothing_to_undo_at_first(gallery):
    with pytest.raises(GalleryError, match="nothing to undo"):
        gallery.undo()


def test_an_undo_takes_back_the_last_change_whatever_it_was_and_another_one_brings_it_back(gallery, learn, catalog_of):
    changes = [
        lambda: learn("heron", 1, 2),
        lambda: learn("egret", 1),
        lambda: gallery.rename("heron", "stork"),
        lambda: gallery.remove("stork", hashes=["hash 1"]),
        lambda: learn("stork", 1, 5),
        lambda: gallery.remove("stork"),
        lambda: learn("Stork", 9),
    ]
    for change in changes:
        before = catalog_of(gallery.path)
        change()
        after = catalog_of(gallery.path)
        assert before != after

        for expected in (before, after, before, after):
            revision = gallery.revision
            assert gallery.undo().revision == revision + 1
            assert catalog_of(gallery.path) == expected
            assert gallery.verify() == []


def test_an_undo_counts_what_it_changes(gallery, learn):
    learn("heron", 1, 2, 3)
    gallery.remove("heron", hashes=["hash 1"])

    undone, redone = gallery.undo(), gallery.undo()

    assert (undone.added, undone.removed) == (1, 0)
    assert (redone.added, redone.removed) == (0, 1)


def test_history_is_never_rewritten(gallery, learn):
    learn("heron", 1)
    gallery.undo()
    gallery.undo()

    with gallery._catalog.reading() as reader:
        rows = reader.connection.exec_driver_sql('SELECT came, went FROM "references" ORDER BY id').all()
    assert [tuple(row) for row in rows] == [(1, 2), (3, None)]


def test_another_opened_gallery_sees_a_change_at_once(gallery, learn, random_units):
    with Gallery.open(gallery.path) as reader:
        assert reader.search_classes(random_units(50)[1])[0].hits == []
        for number in range(5):
            learn(f"class {number}", number)
            assert reader.search_classes(random_units(50)[number])[0].hits[0].name == f"class {number}"
        gallery.remove("class 3")
        assert all(hit.name != "class 3" for hit in reader.search_references(random_units(50)[3])[0])


def test_many_threads_may_use_one_gallery(gallery, learn, random_units, monkeypatch):
    monkeypatch.setattr("indexer.lock.LOCK_SECONDS", 60.0)  # a busy machine is not what is tested here
    learn("always", 0)
    vectors, failures = random_units(50), []

    def use(thread):
        try:
            for number in range(1 + 8 * thread, 9 + 8 * thread):
                learn(f"class {number}", number)
                assert gallery.search_classes(vectors[number], k=1)[0].hits[0].name == f"class {number}"
                assert gallery.search_references(vectors[0], k=1)[0][0].name == "always"
                gallery.remove(f"class {number}")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failures == []
    assert (gallery.classes(), gallery.revision) == ({"always": 1}, 65)
    assert gallery.verify() == []


def test_a_reader_never_sees_half_a_revision(gallery, random_units):
    """Every revision swaps one pair for another, so whatever is seen is one pair."""
    vectors, seen, done = random_units(50), [], threading.Event()

    def read():
        with Gallery.open(gallery.path) as reader:
            while not done.is_set():
                hits = reader.search_references(vectors[0], k=99)[0]
                seen.append({(hit.name, hit.reference) for hit in hits})

    gallery.stage([f"hash {row}" for row in range(50)], vectors)
    ids, threads = [], [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    for row in range(0, 50, 2):
        pair = [Coming(f"pair {row}", f"hash {row + side}", None, f"{row} {side}") for side in (0, 1)]
        gallery.revise("index", "swap", leave=ids, come=pair)
        ids = [one.id for one in gallery.references()]
    done.set()
    for thread in threads:
        thread.join()

    pairs = [{(f"pair {row}", f"{row} {side}") for side in (0, 1)} for row in range(0, 50, 2)]
    assert all(one in [set(), *pairs] for one in seen)
    assert len({frozenset(one) for one in seen}) > 2


def test_what_is_staged_is_seen_by_nobody(gallery, random_units):
    gallery.stage(["a", "b"], random_units(2))
    gallery.stage(["b", "c"], random_units(2))

    assert gallery.staged_or_known(["a", "b", "c", "d"]) == {"a", "b", "c"}
    assert (len(gallery), gallery.revision, gallery.classes()) == (0, 0, {})
    assert gallery.search_references(np.ones(16)) == [[]]
    assert gallery.verify() == []


@pytest.mark.parametrize(
    "wrong", [{"k": 0}, {"k": True}, {"k": 2.0}, {"metric": "dot"}, {"queries": np.ones(15)}, {"queries": np.zeros(16)}]
)
def test_wrong_arguments_are_refused_even_by_an_empty_gallery(gallery, wrong):
    arguments = {"queries": np.ones(16)} | wrong

    for search in (gallery.search_classes, gallery.search_references):
        with pytest.raises(ArgumentError) as caught:
            search(arguments["queries"], **{key: value for key, value in arguments.items() if key != "queries"})
        assert len(str(caught.value).splitlines()) == 1
