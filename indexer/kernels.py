"""FAISS with matrix products made for this processor; imported before anything else imports FAISS.

FAISS's wheels for Linux bring an OpenBLAS of 2021. It takes Intel's later processors for one of 2004, and multiplies
matrices at a quarter of their speed there: searching for many queries, k-means, projections. What it shall take them
for can be said while it is loaded (OPENBLAS_CORETYPE); other libraries know better, so it is said to FAISS alone.
"""

from __future__ import annotations

import os
import sys
from itertools import takewhile
from pathlib import Path
from typing import Final

import numpy as np  # noqa: F401 - its own OpenBLAS knows better, and must be loaded by now

ASKED: Final = "OPENBLAS_CORETYPE"
CPUINFO: Final = Path("/proc/cpuinfo")  # of Linux
_NEEDED: Final = {"SkylakeX": {"avx512f", "avx512bw", "avx512dq", "avx512vl"}, "Haswell": {"avx2", "fma"}}


def core(cpuinfo: str) -> str | None:
    """Return what OpenBLAS shall take an Intel processor for, by what Linux says of it; None: what it finds itself."""
    facts = (line.partition(":") for line in cpuinfo.splitlines())
    told = {name.strip(): value.strip() for name, _, value in facts}
    if told.get("vendor_id") != "GenuineIntel":
        return None
    flags = set(told.get("flags", "").split())
    return next((name for name, needed in _NEEDED.items() if needed <= flags), None)


def load_faiss() -> None:
    """Import FAISS; leave the environment as it was. Who has imported it before, or has chosen, decides."""
    wanted = None
    if "faiss" not in sys.modules and ASKED not in os.environ and CPUINFO.is_file():
        with CPUINFO.open(encoding="utf-8", errors="replace") as file:
            wanted = core("".join(takewhile(str.strip, file)))  # of the first core: there may be hundreds
    if wanted is None:
        return
    os.environ[ASKED] = wanted
    try:
        import faiss  # noqa: F401, PLC0415 - now, and not before
    finally:
        del os.environ[ASKED]


load_faiss()
