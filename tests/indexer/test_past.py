"""A gallery answers as of a revision what a copy of it, put aside at that revision, answers now: bit for bit."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from indexer.errors import ArgumentError, ClassMissing, RevisionMissing
from indexer.gallery import Gallery
from indexer.snapshot import Snapshot

POOL = np.random.default_rng(7).normal(size=(40, 16))
QUERIES = np.random.default_rng(1).normal(size=(3, 16))
NAMES = ["egret", "heron", "stork"]


def answers(gallery, as_of=None):
    """All that a gallery says, with every bit of the numbers."""
    classes = gallery.search_classes(QUERIES, k=2, as_of=as_of)
    names = gallery.classes(as_of=as_of)
    return (
        [(found.hits, found.scores.tobytes()) for found in classes],
        gallery.search_references(QUERIES, k=99, as_of=as_of),
        names,
        gallery.references(as_of=as_of),
        [gallery.describe(name, as_of=as_of) for name in names],
    )


names, numbers = st.sampled_from(NAMES), st.sets(st.integers(0, 39), min_size=1, max_size=5)
steps = st.one_of(
    st.tuples(st.just("add"), names, numbers),
    st.tuples(st.just("forget"), names, st.integers(0, 4)),
    st.tuples(st.just("remove"), names),
    st.tuples(st.just("rename"), names, names),
    st.tuples(st.just("set"), names, st.integers(0, 3)),
    st.tuples(st.just("undo")),
)


def change(gallery, kind, name="", other=None):
    """Make the change, if it can be made."""
    present = gallery.classes()
    if kind == "add":
        gallery.add(name, [(f"{number}", f"{number}.jpg", POOL[number]) for number in sorted(other)])
    elif kind == "undo" and gallery.revision:
        gallery.undo()
    elif name not in present:
        return
    elif kind == "forget":
        gallery.remove(name, hashes=[one.hash for one in gallery.references() if one.name == name][:1])
    elif kind == "remove":
        gallery.remove(name)
    elif kind == "rename" and other not in present:
        gallery.rename(name, other)
    elif kind == "set":
        gallery.set(name, {"price": other})


@given(st.lists(steps, min_size=2, max_size=8), st.data())
@settings(max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_revision_is_answered_as_by_a_copy_put_aside(tmp_path_factory, sequence, data):
    folder, expected = tmp_path_factory.mktemp("made"), {}
    Gallery.create(folder / "birds.gallery", dim=16, fingerprint="toy").close()
    for step in sequence:
        with Gallery.open(folder / "birds.gallery") as gallery:
            change(gallery, *step)
            revision = gallery.revision
        shutil.rmtree(folder / "aside", ignore_errors=True)
        shutil.copytree(folder / "birds.gallery", folder / "aside")
        with Gallery.open(folder / "aside") as aside:
            expected[revision] = answers(aside)

    asked = data.draw(st.permutations(sorted(expected)))
    with Gallery.open(folder / "birds.gallery") as gallery:
        for revision in asked:
            assert answers(gallery, revision) == expected[revision]
        assert answers(gallery) == expected[max(expected)]
        assert gallery.verify() == []


@pytest.fixture
def birds(gallery):
    """Five revisions: egrets come, herons come, egrets are renamed, one goes, herons go."""
    gallery.add("egret", [(f"{row}", None, POOL[row]) for row in range(3)])
    gallery.add("heron", [(f"{row}", None, POOL[row]) for row in range(3, 6)])
    gallery.rename("egret", "white egret")
    gallery.remove("white egret", hashes=["0"])
    gallery.remove("heron")
    return gallery


def test_the_beginning_is_empty_and_the_newest_revision_is_now(birds):
    assert answers(birds, 0)[1:] == ([[], [], []], {}, [], [])
    assert answers(birds, 5) == answers(birds)


def test_a_revision_that_is_not_there_is_refused(birds):
    with pytest.raises(RevisionMissing, match="there is no revision 6; the newest is 5"):
        birds.search_classes(QUERIES, as_of=6)
    with pytest.raises(RevisionMissing):
        birds.classes(as_of=6)
    for wrong in (-1, "3", 1.5, True):
        with pytest.raises(ArgumentError):
            birds.search_references(QUERIES, as_of=wrong)


def test_after_a_look_into_the_past_the_present_is_as_before(birds):
    before = answers(birds)
    with pytest.raises(ClassMissing):
        birds.describe("no such", as_of=2)
    answers(birds, 2)

    assert answers(birds) == before
    assert birds.add("ibis", [("9", None, POOL[9])]).revision == 6
    assert [revision.id for revision in birds.log()] == [6, 5, 4, 3, 2, 1]


def test_the_past_of_a_gallery_that_may_only_be_read_can_be_seen(birds, tmp_path):
    birds.close()
    for path in birds.path.iterdir():
        path.chmod(0o400)
    birds.path.chmod(0o500)
    try:
        with Gallery.open(birds.path) as gallery:
            assert gallery.classes(as_of=2) == {"egret": 3, "heron": 3}
            assert len(gallery.search_references(QUERIES[0], k=99, as_of=2)[0]) == 6
    finally:
        birds.path.chmod(0o700)


def test_what_the_past_has_in_common_with_the_present_takes_no_memory_of_its_own(birds):
    now, then = birds._views.ask(lambda snapshot: snapshot), birds._views.ask(lambda snapshot: snapshot, 2)
    assert np.shares_memory(now.references._buffer.vectors, then.references._buffer.vectors)
    birds.add("ibis", [("9", None, POOL[9])])
    later = birds._views.ask(lambda snapshot: snapshot)
    assert np.shares_memory(now.references._buffer.vectors, later.references._buffer.vectors)


def test_few_revisions_are_kept_in_memory_and_not_made_again(birds, monkeypatch):
    for revision in (1, 2, 3, 4):
        answers(birds, revision)
    assert len(birds._views._remembered) == 2
    monkeypatch.setattr(Snapshot, "at", lambda *_: pytest.fail("made again"))

    for revision in (3, 4, 3):
        birds.search_classes(QUERIES, as_of=revision)


def test_threads_may_ask_different_revisions(birds):
    expected = {revision: answers(birds, revision) for revision in range(6)}
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda number: answers(birds, number % 6), range(24)))

    assert found == [expected[number % 6] for number in range(24)]
