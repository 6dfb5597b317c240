"""Faults in the system calls of a process, by a library that is loaded before all others (``faults.c``)."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

KINDS = {"kill before": 1, "kill after": 2, "kill halfway": 3, "fail": 4}
FOR_EVER = 2**31


class Fault(NamedTuple):
    """What is to happen to the calls below the gallery's folder from the first to the last, counted from 1."""

    kind: str
    first: int
    last: int = FOR_EVER
    error: int = errno.EIO
    reads: bool = False  # count the calls that read, and not those that write


def compiled(folder: Path) -> Path | None:
    """Compile the library into ``folder``; None where that is not possible."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or sys.platform != "linux":
        return None
    library = folder / "faults.so"
    source = Path(__file__).with_suffix(".c")
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"]
    return library if subprocess.run(command, capture_output=True, check=False).returncode == 0 else None


def preloaded(library: Path | None) -> dict[str, str]:
    """The environment of a process that is to have faults."""
    return {**os.environ, "OMP_NUM_THREADS": "1", **({"LD_PRELOAD": str(library)} if library else {})}


def arm(folder: str, fault: Fault) -> None:
    """Inside that process: from now on."""
    kind, first, last, error, reads = fault
    library = ctypes.CDLL(None)
    library.fault_arm(os.fsencode(folder), KINDS[kind], int(reads), error, ctypes.c_long(first), ctypes.c_long(last))


def disarm() -> None:
    if fired() is not None:
        ctypes.CDLL(None).fault_arm(b"", 0, 0, 0, ctypes.c_long(0), ctypes.c_long(0))


def fired() -> int | None:
    """Inside that process: how many calls were hit; None if there can be no faults."""
    count = getattr(ctypes.CDLL(None), "fault_fired", None)
    return None if count is None else count()
