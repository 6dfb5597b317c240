from __future__ import annotations

import threading
import time

import pytest

from indexer import build
from indexer.stations import IN_THREADS, ORDER, Clock


def test_a_clock_adds_up_threads_and_blocks_that_fail():
    clock = Clock(workers=3, batch_size=1, room=4)

    def work():
        with clock.at("decoding"):
            time.sleep(0.02)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    def fail():
        with clock.at("reading"):
            time.sleep(0.01)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()

    spent = clock.read(finding=0.5)
    assert spent.decoding >= 0.06
    assert 0.01 <= spent.reading < 0.06
    assert (spent.finding, spent.preparing, spent.embedding, spent.images) == (0.5, 0, 0, 0)


@pytest.mark.parametrize("slow", ["prepare", "embed"])
def test_stations_add_up_to_no_more_than_the_time_of_their_threads_and_show_which_is_slow(
    gallery, model, photo, tmp_path, slow
):
    for number in range(24):
        photo(tmp_path / "photos" / "heron" / f"{number}.png", number)
    plain = getattr(model, slow)

    def slowed(given):
        time.sleep(0.005 if slow == "prepare" else 0.06)
        return plain(given)

    setattr(model, slow, slowed)
    report = build.index(gallery, tmp_path / "photos", model, batch_size=4, workers=2)

    found, wall = report.stations, report.seconds
    assert all(getattr(found, name) > 0 for name in ORDER)
    assert sum(getattr(found, name) for name in IN_THREADS) <= 2 * wall
    assert found.embedding + found.waiting <= wall
    assert found.finding + found.writing <= wall
    assert (found.workers, found.batch_size, found.images) == (2, 4, 24)
    if slow == "prepare":
        assert found.preparing >= 24 * 0.005
        assert found.waiting > found.embedding
        assert found.ahead < 0.5
    else:
        assert found.embedding >= 6 * 0.06
        assert found.embedding > found.waiting
        assert found.ahead > 0.3


def test_images_that_come_one_by_one_have_their_stations_too(gallery, model, photo, tmp_path):
    images = [("heron", photo(tmp_path / f"{number}.png", number)) for number in range(5)]

    report = build.index(gallery, [*images, images[0]], model, batch_size=2, workers=1)

    assert report.stations.images == 5
    assert report.stations.embedding + report.stations.waiting <= report.seconds
    assert report.stations.ahead <= 1


def test_what_changes_nothing_has_no_stations(gallery, model, photo, tmp_path):
    photo(tmp_path / "photos" / "heron" / "0.png", 0)

    assert build.index(gallery, tmp_path / "photos", model, dry_run=True).stations is None
