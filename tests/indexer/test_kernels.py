"""Which kernels FAISS's OpenBLAS is told to take, and that nobody else is told."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from indexer.kernels import ASKED, CPUINFO, core

INTEL = "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Intel: a processor\nflags\t\t: {}\n\n"
OLD, NEW = "fpu sse2 avx", "fpu sse2 avx avx2 fma"
WIDE = f"{NEW} avx512f avx512bw avx512dq avx512vl avx512_vnni"
TELL = """
import os
import indexer
from threadpoolctl import threadpool_info
loaded = [one for one in threadpool_info() if "faiss" in one["filepath"] and one["internal_api"] == "openblas"]
print(os.environ.get("OPENBLAS_CORETYPE"), *(one["architecture"] for one in loaded))
"""


@pytest.mark.parametrize(("flags", "expected"), [(OLD, None), (NEW, "Haswell"), (WIDE, "SkylakeX"), ("", None)])
def test_the_widest_instructions_that_a_processor_has_are_used(flags, expected):
    assert core(2 * INTEL.format(flags)) == expected


def test_other_makers_processors_are_recognised_without_help():
    assert core(INTEL.format(WIDE).replace("GenuineIntel", "AuthenticAMD")) is None
    assert core("processor: 0\nFeatures: fp asimd\n") is None
    assert core("") is None


def told(**settings):
    environment = {name: value for name, value in os.environ.items() if name != ASKED} | settings
    done = subprocess.run([sys.executable, "-c", TELL], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()


@pytest.mark.skipif(not CPUINFO.is_file(), reason="Linux says what its processor is")
def test_faiss_is_told_and_nobody_else():
    pytest.importorskip("threadpoolctl")
    expected = core(CPUINFO.read_text(encoding="utf-8"))
    asked, *architectures = told()
    if not architectures:
        pytest.skip("this FAISS has no OpenBLAS of its own")

    assert asked == "None"
    assert expected in (None, *architectures)
    assert told(OPENBLAS_CORETYPE="Prescott") == ["Prescott", "Prescott"]
