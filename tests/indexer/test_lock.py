from __future__ import annotations

import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest

from indexer import lock
from indexer.errors import GalleryBusy, GalleryError, GalleryMissing
from indexer.lock import WriterLock

OWNER = """
import sys
from pathlib import Path
from indexer.lock import WriterLock
with WriterLock(Path(sys.argv[1])).held():
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def other_process(path):
    command = [sys.executable, "-c", OWNER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(lock, "LOCK_SECONDS", 0.1)


def test_a_second_process_is_told_who_writes_and_a_killed_owner_lets_go(tmp_path):
    path = tmp_path / "birds.gallery" / "writer.lock"
    path.parent.mkdir()
    with other_process(path) as owner:
        with pytest.raises(GalleryBusy, match=rf"birds\.gallery: .*process {owner.pid}"), WriterLock(path).held():
            pytest.fail("two writers")

        owner.kill()
        owner.wait()

        with WriterLock(path).held():
            pass


def test_who_holds_the_lock_may_take_it_again(tmp_path):
    writer = WriterLock(tmp_path / "writer.lock")

    with writer.held():
        with writer.held():
            pass
        with pytest.raises(GalleryBusy), WriterLock(tmp_path / "writer.lock").held():
            pytest.fail("the inner one let go of it")
    with WriterLock(tmp_path / "writer.lock").held():
        pass


def test_a_second_thread_waits_and_then_gives_up(tmp_path):
    writer = WriterLock(tmp_path / "writer.lock")
    outcomes = []

    def take(seconds):
        try:
            with writer.held(seconds=seconds):
                outcomes.append("held")
        except GalleryBusy:
            outcomes.append("busy")

    with writer.held():
        hasty = threading.Thread(target=take, args=(0.01,))
        hasty.start()
        hasty.join()
        patient = threading.Thread(target=take, args=(30,))
        patient.start()
    patient.join()

    assert outcomes == ["busy", "held"]


def test_a_failure_inside_lets_go(tmp_path):
    writer = WriterLock(tmp_path / "writer.lock")

    with pytest.raises(ZeroDivisionError), writer.held():
        raise ZeroDivisionError

    with WriterLock(tmp_path / "writer.lock").held():
        pass


def test_a_place_that_cannot_be_written_is_told_in_one_line(tmp_path):
    (tmp_path / "lock").mkdir()

    with pytest.raises(GalleryError, match=r"lock: is a folder.*; remove it"), WriterLock(tmp_path / "lock").held():
        pytest.fail("a folder is no lock")


def test_a_gallery_that_is_gone_is_not_made_anew(tmp_path):
    with pytest.raises(GalleryMissing, match="gone"), WriterLock(tmp_path / "gone" / "lock").held():
        pytest.fail("no folder")

    assert list(tmp_path.iterdir()) == []
