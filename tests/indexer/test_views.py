"""Many threads ask one gallery while it changes: nobody waits for long, and every answer is of one revision."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest

from indexer import views
from indexer.errors import GalleryDamaged
from indexer.folder import REFERENCES
from indexer.gallery import Gallery
from indexer.history import Coming
from indexer.snapshot import Snapshot

SOON = 20.0  # seconds; only a test that fails waits so long


@pytest.fixture
def path(tmp_path, random_units):
    with Gallery.create(tmp_path / "birds.gallery", dim=16, fingerprint="toy") as gallery:
        fill(gallery, "first", random_units(30))
    return tmp_path / "birds.gallery"


def fill(gallery, name, vectors):
    hashes = [f"{name} {row}" for row in range(len(vectors))]
    gallery.stage(hashes, vectors)
    gallery.revise("index", name, leave=(), come=[Coming(name, hash, None, hash) for hash in hashes])


def seen(gallery):
    return {hit.name for hit in gallery.search_classes(np.ones(16))[0].hits}


def in_another_thread(call):
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result(SOON)


def until(condition):
    deadline = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@contextmanager
def held_up(monkeypatch, method="renewed"):
    """Whoever catches up within this block stops; yields an event that tells that somebody has."""
    entered, go_on = threading.Event(), threading.Event()
    real = getattr(Snapshot, method)

    def slow(*arguments):
        entered.set()
        assert go_on.wait(SOON)
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Snapshot, method, slow)
        try:
            yield entered
        finally:
            go_on.set()


def test_queries_of_several_threads_run_at_once(path):
    with Gallery.open(path) as gallery:
        asked = gallery._views.ask(lambda _: in_another_thread(lambda: seen(gallery)))
        assert asked == {"first"}


def test_while_one_thread_catches_up_the_others_go_on(path, random_units, monkeypatch):
    with Gallery.open(path) as gallery, Gallery.open(path) as writer, ThreadPoolExecutor(1) as pool:
        seen(gallery)
        fill(writer, "second", random_units(3))
        with held_up(monkeypatch) as entered:
            noticing = pool.submit(seen, gallery)
            assert entered.wait(SOON)
            assert seen(gallery) == {"first"}

        assert noticing.result(SOON) == {"first", "second"}
        assert seen(gallery) == {"first", "second"}


def test_a_query_that_began_keeps_its_revision(path, random_units):
    with Gallery.open(path) as gallery:
        snapshot = gallery._views.ask(lambda snapshot: snapshot)
        before = (len(snapshot.references), dict(snapshot.names), dict(snapshot.members))
        fill(gallery, "second", random_units(3))
        gallery.remove("first")
        assert in_another_thread(lambda: seen(gallery)) == {"second"}

        assert (len(snapshot.references), dict(snapshot.names), dict(snapshot.members)) == before


def test_a_change_of_the_gallery_itself_is_seen_even_if_somebody_is_catching_up(path, random_units, monkeypatch):
    with Gallery.open(path) as gallery, Gallery.open(path) as writer, ThreadPoolExecutor(2) as pool:
        seen(gallery)
        fill(writer, "second", random_units(3))
        with held_up(monkeypatch) as entered:
            pool.submit(seen, gallery)
            assert entered.wait(SOON)
            gallery.add("third", [("3", None, np.ones(16))])
            asked = pool.submit(seen, gallery)
            with pytest.raises(TimeoutError):
                asked.result(0.05)

        assert asked.result(SOON) == {"first", "second", "third"}


def test_a_large_change_keeps_no_query_waiting(path, random_units, monkeypatch):
    with Gallery.open(path) as gallery, Gallery.open(path) as writer:
        seen(gallery)
        fill(writer, "second", random_units(views.SMALL + 1))
        with held_up(monkeypatch) as entered:
            assert seen(gallery) == {"first"}
            assert entered.wait(SOON)
            assert seen(gallery) == {"first"}

        until(lambda: seen(gallery) == {"first", "second"})


def test_a_large_change_of_the_gallery_itself_keeps_no_other_thread_waiting(path, random_units, monkeypatch):
    with Gallery.open(path) as gallery, ThreadPoolExecutor(1) as pool:
        seen(gallery)
        with held_up(monkeypatch) as entered:
            changing = pool.submit(fill, gallery, "second", random_units(views.SMALL + 1))
            assert entered.wait(SOON)
            assert seen(gallery) == {"first"}

        changing.result(SOON)
        assert seen(gallery) == {"first", "second"}


def test_what_fails_aside_is_told_by_a_query(path, random_units, monkeypatch):
    def damaged(*_):
        raise GalleryDamaged("a vector is damaged")

    with Gallery.open(path) as gallery, Gallery.open(path) as writer:
        seen(gallery)
        fill(writer, "second", random_units(views.SMALL + 1))
        with monkeypatch.context() as patch:
            patch.setattr(Snapshot, "renewed", damaged)
            assert seen(gallery) == {"first"}
            until(lambda: not gallery._views._aside.is_alive())
            with pytest.raises(GalleryDamaged):
                seen(gallery)

        until(lambda: seen(gallery) == {"first", "second"})


def test_a_gallery_that_is_closed_while_it_catches_up_holds_nothing(path, random_units, monkeypatch):
    gallery = Gallery.open(path)
    with Gallery.open(path) as writer:
        seen(gallery)
        fill(writer, "second", random_units(views.SMALL + 1))
    with ThreadPoolExecutor(1) as pool, held_up(monkeypatch) as entered:
        seen(gallery)
        assert entered.wait(SOON)
        closing = pool.submit(gallery.close)
        with pytest.raises(TimeoutError):
            closing.result(0.05)
    closing.result(SOON)

    assert not gallery._views._aside.is_alive()
    with gallery._views.as_they_are() as snapshot:
        assert snapshot is None


def test_memory_that_changes_have_wasted_is_given_back(path, random_units, monkeypatch):
    monkeypatch.setattr("indexer.faiss_index.WASTE_ROWS", 5)
    with Gallery.open(path) as gallery:
        seen(gallery)
        for number in range(12):
            gallery.remove("first", hashes=[f"first {number}"])
            seen(gallery)
        until(lambda: not gallery._views._shown.snapshot.wasteful)

        assert gallery._views._shown.snapshot.references._count < 30
        assert gallery.verify() == []


def test_readers_see_whole_revisions_in_their_order_while_a_writer_works(path, random_units):
    """Each revision replaces the one reference of every class: an answer that mixes two revisions shows it."""
    vectors, rounds, done = random_units(8), 10, threading.Event()

    def read():
        with Gallery.open(path) as gallery:
            found = []
            while not done.is_set() or not found:
                for hits in gallery.search_references(vectors[:2], k=8):
                    (revision,) = {hit.reference.split()[0] for hit in hits}
                    assert len(hits) == 8
                    found.append(int(revision))
            return found

    def replace(gallery, number):
        hashes = [f"{number} {row}" for row in range(8)]
        gallery.stage(hashes, vectors)
        leave = [reference.id for reference in gallery.references()]
        come = [Coming(f"class {row}", hash, None, hash) for row, hash in enumerate(hashes)]
        gallery.revise("index", "again", leave=leave, come=come)

    with Gallery.open(path) as writer, ThreadPoolExecutor(2) as pool:
        replace(writer, 0)
        readers = [pool.submit(read) for _ in range(2)]
        try:
            for number in range(1, rounds):
                replace(writer, number)
        finally:
            done.set()
        orders = [reader.result(SOON) for reader in readers]

    for order in orders:
        assert order == sorted(order)


@pytest.fixture
def damaged(path):
    """A gallery with a flipped byte in a vector of its view on disk, which no one notices who does not ask for it."""
    with Gallery.open(path) as gallery:
        gallery.save_views()
        vector = gallery._views.ask(lambda snapshot: snapshot.references.all_vectors()[-1].tobytes())
    content = bytearray((path / REFERENCES).read_bytes())
    content[content.index(vector)] ^= 1
    (path / REFERENCES).write_bytes(content)
    return path


def test_a_query_that_comes_upon_damage_is_asked_again(damaged):
    with Gallery.open(damaged) as gallery:
        assert gallery.verify() == [f"{REFERENCES} does not match its checksum; the next query makes it anew"]
        assert seen(gallery) == {"first"}
        assert gallery.verify() == []

    with Gallery.open(damaged) as gallery:
        assert gallery.verify() == []


def test_threads_that_come_upon_damage_at_once_all_get_their_answer(damaged, monkeypatch):
    made = []
    anew = Snapshot.anew
    monkeypatch.setattr(Snapshot, "anew", lambda *arguments: (made.append(1), anew(*arguments))[1])
    with Gallery.open(damaged) as gallery, ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda _: seen(gallery), range(8))) == [{"first"}] * 8
    assert len(made) == 1


def test_damage_where_nothing_may_be_written_changes_no_answer(damaged):
    damaged.chmod(0o500)
    try:
        with Gallery.open(damaged) as gallery:
            assert seen(gallery) == {"first"}
            assert seen(gallery) == {"first"}
    finally:
        damaged.chmod(0o700)
