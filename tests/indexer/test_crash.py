"""kill -9 at any moment: what was acknowledged is there, what was not is gone whole, and the next run goes on."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import crash
import numpy as np
import pytest

from indexer import build
from indexer.gallery import Gallery

CONFTEST = Path(__file__).with_name("conftest.py")

# A process that has imported everything forks one that indexes: five starts for the price of one.
FORKS = """
import os, runpy, sys, time
from indexer import build, pipeline
from indexer.gallery import Gallery

Toy = runpy.run_path(sys.argv[1])["Toy"]
pipeline.COMMIT_SECONDS = 0

class Slow(Toy):
    def embed(self, images):
        time.sleep(0.01)
        return super().embed(images)

for _ in sys.stdin:
    child = os.fork()
    if child == 0:
        os.write(1, b"%d\\n" % os.getpid())
        with Gallery.open(sys.argv[2]) as gallery:
            stage = gallery.stage
            gallery.stage = lambda *rows: (stage(*rows), os.write(1, b"staged\\n"))
            build.index(gallery, sys.argv[3], Slow(), batch_size=4)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    print("killed" if os.WIFSIGNALED(status) else status, flush=True)
"""


@pytest.fixture
def photos(tmp_path, photo):
    for number in range(160):
        photo(tmp_path / "photos" / f"class {number % 20:02}" / f"{number}.png", number)
    return tmp_path / "photos"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_bulk_index_killed_five_times_ends_as_one_that_was_not(tmp_path, photos, model, catalog_of):
    with Gallery.create(tmp_path / "unbroken", dim=16, fingerprint="toy") as gallery:
        build.index(gallery, photos, model)
        hashes = [one.hash for one in gallery.references()]
    Gallery.create(tmp_path / "killed", dim=16, fingerprint="toy").close()
    command = [sys.executable, "-c", FORKS, CONFTEST, tmp_path / "killed", photos]
    outcomes, staged, moments = [], [], random.Random(7)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        for _ in range(5):
            print("go", file=process.stdin, flush=True)
            child = int(process.stdout.readline())
            for _ in range(moments.randrange(6)):  # of 40 batches
                assert process.stdout.readline() == "staged\n"
            time.sleep(moments.uniform(0, 0.02))
            os.kill(child, signal.SIGKILL)
            outcomes.append(next(line.strip() for line in process.stdout if line != "staged\n"))
            with Gallery.open(tmp_path / "killed") as gallery:
                assert gallery.verify() == []
                assert (gallery.revision, len(gallery)) in {(0, 0), (1, 160)}
                staged.append(len(gallery.staged_or_known(hashes)))
        process.stdin.close()

    counting = type(model)()
    with Gallery.open(tmp_path / "killed") as gallery:
        report = build.index(gallery, photos, counting)
        assert gallery.verify() == []
    assert outcomes == ["killed"] * 5
    assert staged == sorted(staged)
    assert (report.revision, report.images, report.failed) == (1, 160, [])
    assert counting.embedded == 160 - staged[-1] < 160
    assert catalog_of(tmp_path / "killed") == catalog_of(tmp_path / "unbroken")
    assert {entry.name for entry in (tmp_path / "killed").iterdir()} >= {"references.faiss", "prototypes.faiss"}


@pytest.fixture(scope="module")
def hands():
    """Writers to hurt, and a folder for what they write."""
    with crash.writers() as made:
        yield made


def test_what_was_acknowledged_survives_writers_that_are_killed_or_fail_at_random(hands):
    seen = crash.many(*hands, rounds=8, seed=11)

    assert any("killed" in what for what in seen)


@pytest.mark.parametrize(("name", "kind", "error"), [("learn", "kill halfway", 0), ("undo", "fail", errno.ENOSPC)])
def test_a_change_is_whole_or_nothing_whichever_call_is_the_last(hands, name, kind, error):
    writers, folder = hands
    if not writers.faulty:
        pytest.skip("no compiler here to make faults with")
    path, dice = folder / name / "birds.gallery", random.Random(12)
    story = crash.begun(path, dice)

    calls = crash.sweep(writers, path, story, crash.drawn(dice, story, (name,)), crash.Fault(kind, 1, 1, error), step=6)

    assert calls > 20


def test_a_dictionary_that_differs_is_noticed(hands):
    path, dice = hands[1] / "noticed" / "birds.gallery", random.Random(13)
    story = crash.begun(path, dice)
    forgotten = crash.drawn(dice, story, ("forget",))
    more, less = (
        story.then(story.state.holding(story.state.references | {("stork", 59): False})),
        crash.OPERATIONS["forget"].tell(story, forgotten[1]),
    )

    for other in (more, less):
        with pytest.raises(AssertionError, match="neither before nor after"):
            crash.settled(path, other, other)


def test_a_view_half_written_when_the_power_went_does_no_harm(tmp_path):
    path = tmp_path / "birds.gallery"
    with Gallery.create(path, dim=16, fingerprint="toy") as gallery:
        gallery.add("heron", [("hash", None, np.ones(16))])
    (path / "references.faiss.tmp").write_bytes(b"half of it")

    with Gallery.open(path) as gallery:
        gallery.add("egret", [("other", None, -np.ones(16))])
        assert gallery.search_references(np.ones(16), k=1)[0][0].name == "heron"
        gallery.save_views()
        assert gallery.verify() == []

    assert not (path / "references.faiss.tmp").exists()
