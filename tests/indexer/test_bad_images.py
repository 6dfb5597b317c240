"""Bad files (``tests/crash/bad_images.py``), read by one process with little memory: each an image, or a reason.

The process has 1 GiB beyond what it begins with, and an alarm that ends it; what each file cost is measured in it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from bad_images import BAD, DEAR, HALF_THE_PIXELS, LARGE, MUTATED, ODD, PLACES

from indexer.images import MAX_PIXELS

SECONDS = 5.0  # of a processor, whoever else uses it
MEGABYTES = 1024

READER = """
import json, re, resource, signal, sys, time
from indexer import images

def megabytes(field):
    with open("/proc/self/status") as file:
        return int(re.search(field + r":\\s+(\\d+)", file.read())[1]) / 1024

limit = int(megabytes("VmSize") + 1024) * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for line in sys.stdin:
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak begins anew
    before, started = megabytes("VmRSS"), time.process_time()
    signal.alarm(60)
    try:
        image = images.load(json.loads(line)).image
        told = {"mode": image.mode, "size": image.size, "bytes": len(image.tobytes())}
        del image
    except images.ImageError as error:
        told = {"reason": str(error)}
    signal.alarm(0)
    told |= {"seconds": time.process_time() - started, "megabytes": megabytes("VmHWM") - before}
    print(json.dumps(told), flush=True)
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What the reader said of each, one process for all of them."""
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("the peak memory of a single file is known only on Linux")
    folder = tmp_path_factory.mktemp("bad")
    files = MUTATED | {name: data for name, (data, _) in (BAD | ODD).items()}
    for name, data in (files | DEAR).items():
        (folder / name).write_bytes(data() if callable(data) else data)
    for name, (make, _) in PLACES.items():
        make(folder / name)
    names = [*files, *DEAR, *PLACES]
    orders = "".join(json.dumps(str(folder / name)) + "\n" for name in names)
    # Memory that is freed goes back at once, or it would be missing from the next file's peak.
    calm = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1", "OPENBLAS_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", READER],
        input=orders,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | calm,
    )
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    assert len(lines) == len(names), f"{names[len(lines)]} ended the process: {ran.returncode} {ran.stderr}"
    assert ran.stderr == ""
    return dict(zip(names, lines, strict=True))


@pytest.mark.parametrize("name", [*MUTATED, *BAD, *ODD, *PLACES])
def test_it_is_an_image_or_has_a_reason_and_costs_little(told, name):
    one = told[name]

    assert one["seconds"] < SECONDS
    assert one["megabytes"] < MEGABYTES
    if "reason" in one:
        assert one["reason"].count("\n") == 0
        assert len(one["reason"].rsplit(f"/{name}: ")[1]) > 5
    else:
        assert (one["mode"], one["bytes"]) == ("RGB", 3 * one["size"][0] * one["size"][1])
        assert 0 < one["bytes"] <= 3 * MAX_PIXELS


@pytest.mark.parametrize("name", [*BAD, *PLACES])
def test_the_reason_of_a_bad_file_is_said(told, name):
    (_, expected) = BAD.get(name) or PLACES[name]

    assert expected in told[name].get("reason", "nothing")


@pytest.mark.parametrize("name", ODD)
def test_an_odd_file_is_seen_all_the_same(told, name):
    assert tuple(told[name].get("size", [told[name]])) == ODD[name][1]


@pytest.mark.parametrize("name", DEAR)
def test_the_largest_image_of_each_kind_fits_into_a_gigabyte(told, name):
    limit = MAX_PIXELS // 2 if name.startswith(HALF_THE_PIXELS) else MAX_PIXELS

    assert told[name]["size"] == [LARGE, LARGE]
    assert told[name]["megabytes"] * limit / LARGE**2 < 1.2 * MEGABYTES  # what a small file costs counts 64 times
    assert told[name]["seconds"] < SECONDS


def test_there_are_more_than_sixty_kinds():
    assert len(MUTATED | BAD | PLACES) > 60
