from __future__ import annotations

import threading
import time

import pytest

from indexer.errors import ArgumentError
from indexer.room import LEAST, Room, in_bytes, resident, shared_out


@pytest.mark.parametrize(
    ("told", "count"),
    [
        (1, 1),
        ("1500000000", 1_500_000_000),
        ("1.5GB", 1_500_000_000),
        ("1.5 gb", 1_500_000_000),
        ("800MB", 800_000_000),
        ("2GiB", 2 * 2**30),
        ("64k", 64_000),
        ("7B", 7),
    ],
)
def test_a_number_of_bytes_may_have_a_unit(told, count):
    assert in_bytes(told) == count


@pytest.mark.parametrize("told", [0, -1, True, "", "GB", "1.5 tons", "-3MB", "1e9GB", None, "0MB", 1.5])
def test_what_is_no_number_of_bytes_is_refused_with_an_example(told):
    with pytest.raises(ArgumentError, match=r"1\.5GB|at least 1 byte"):
        in_bytes(told)


def test_together_pictures_never_take_more_than_there_is_and_a_larger_one_is_alone():
    room, inside, most, lock = Room(10), [], [], threading.Lock()

    def work(size):
        with room.place() as place:
            place.take(size)
            with lock:
                inside.append(size)
                most.append(list(inside))
            time.sleep(0.001)
            with lock:
                inside.remove(size)

    sizes = [3, 4, 5, 11, 2, 10, 6, 1, 25, 3, 3, 3]
    threads = [threading.Thread(target=work, args=(size,)) for size in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert len(most) == len(sizes)
    assert all(sum(together) <= 10 or len(together) == 1 for together in most)
    assert max(map(len, most)) > 1


def test_a_place_is_given_back_when_its_picture_fails():
    room = Room(10)

    def fail():
        with room.place() as place:
            place.take(10)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with room.place() as place:
        place.take(10)


class Hungry:
    working = 10**7


def test_fewer_images_are_embedded_at_once_where_memory_is_scarce_and_never_none():
    free = resident() + 8 * 10**8
    room, batch = shared_out(free, Hungry(), 100)
    assert 35 <= batch <= 41  # half of 800 MB, 10 MB each; give or take what this process takes meanwhile
    assert room.size == pytest.approx(4 * 10**8, rel=0.1)

    assert shared_out(free, Hungry(), 8)[1] == 8
    assert shared_out(free, object(), 100)[1] == 100
    room, batch = shared_out(1, Hungry(), 100)
    assert room.size == LEAST
    assert batch == LEAST // 10**7
    Hungry.working = 10**12
    assert shared_out(free, Hungry(), 100)[1] == 1
