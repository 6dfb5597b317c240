"""kill -9 at any moment: what was acknowledged is there, what was not is gone whole, and the next run goes on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

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
pipeline.COMMIT_SECONDS = 0.02

class Slow(Toy):
    def embed(self, images):
        time.sleep(0.01)
        return super().embed(images)

for _ in sys.stdin:
    child = os.fork()
    if child == 0:
        os.write(1, b"%d\\n" % os.getpid())
        with Gallery.open(sys.argv[2]) as gallery:
            build.index(gallery, sys.argv[3], Slow(), batch_size=4)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    print("killed" if os.WIFSIGNALED(status) else status, flush=True)
"""

# Learns one reference after another, and says so each time it was acknowledged.
LEARN = """
import os, sys
import numpy as np
from indexer.gallery import Gallery
with Gallery.open(sys.argv[1]) as gallery:
    for number in range(100_000):
        gallery.add(f"class {number % 7}", [(f"{number}", None, np.eye(16)[number % 16])])
        os.write(1, b"%d\\n" % number)
"""


@pytest.fixture
def photos(tmp_path, photo):
    for number in range(160):
        photo(tmp_path / "photos" / f"class {number % 20:02}" / f"{number}.png", number)
    return tmp_path / "photos"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_bulk_index_killed_five_times_ends_as_one_that_was_not(tmp_path, photos, model, catalog_of):
    with Gallery.create(tmp_path / "unbroken", dim=16, fingerprint="toy") as gallery:
        started = time.perf_counter()
        build.index(gallery, photos, model)
        lasts = time.perf_counter() - started + 160 / 4 * 0.01
        hashes = [one.hash for one in gallery.references()]
    Gallery.create(tmp_path / "killed", dim=16, fingerprint="toy").close()
    command = [sys.executable, "-c", FORKS, CONFTEST, tmp_path / "killed", photos]
    outcomes, staged, moments = [], [], random.Random(7)
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        for _ in range(5):
            print("go", file=process.stdin, flush=True)
            child = int(process.stdout.readline())
            time.sleep(moments.uniform(0, 0.6 * lasts))
            os.kill(child, signal.SIGKILL)
            outcomes.append(process.stdout.readline().strip())
            with Gallery.open(tmp_path / "killed") as gallery:
                assert gallery.verify() == []
                assert (gallery.revision, len(gallery)) in {(0, 0), (1, 160)}
                staged.append(len(gallery.staged_or_known(hashes)))
        process.stdin.close()

    counting = type(model)()
    with Gallery.open(tmp_path / "killed") as gallery:
        report = build.index(gallery, photos, counting)
        assert gallery.verify() == []
    assert "killed" in outcomes
    assert staged == sorted(staged)
    assert (report.revision, report.images, report.failed) == (1, 160, [])
    assert counting.embedded == 160 - staged[-1] < 160
    assert catalog_of(tmp_path / "killed") == catalog_of(tmp_path / "unbroken")
    assert {entry.name for entry in (tmp_path / "killed").iterdir()} >= {"references.faiss", "prototypes.faiss"}


def test_every_acknowledged_change_survives_a_kill(tmp_path):
    path = tmp_path / "birds.gallery"
    Gallery.create(path, dim=16, fingerprint="toy").close()
    with subprocess.Popen([sys.executable, "-c", LEARN, path], stdout=subprocess.PIPE, text=True) as process:
        acknowledged = [int(process.stdout.readline()) for _ in range(25)]
        process.kill()
        acknowledged += [int(line) for line in process.stdout.read().split()]

    with Gallery.open(path) as gallery:
        assert gallery.verify() == []
        assert len(gallery) - len(acknowledged) in (0, 1)  # one may have been finished, and not said so
        assert gallery.revision == len(gallery)
        assert len(gallery.search_references(np.ones(16), k=10**6)[0]) == len(gallery)
        gallery.add("after", [("after", None, np.ones(16))])


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
