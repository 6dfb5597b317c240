"""The image sets that benchmarks and some tests use, unpacked once into a cache outside the project."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent


def data_folder() -> Path:
    """Return the folder of the sets: ``FIRSTSIGHT_DATA``, or ``shared/data`` beside the project."""
    return Path(os.environ.get("FIRSTSIGHT_DATA", PROJECT.parent / "shared" / "data"))


def cache_folder() -> Path:
    """Return the folder that holds what is made of the sets: ``firstsight/data`` in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "firstsight" / "data"


def unpacked(archive: str) -> Path:
    """Return the folder that ``archive``, named from the data folder, unpacks to.

    Raises:
        FileNotFoundError: the set is not on this machine.
    """
    packed = data_folder() / archive
    if not packed.is_file():
        raise FileNotFoundError(f"{packed} is not here: set FIRSTSIGHT_DATA to the folder of the image sets")
    cache = cache_folder()
    target = cache / packed.name.split(".")[0]
    if not target.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            fresh = Path(scratch) / target.name
            shutil.unpack_archive(packed, fresh, **({} if packed.suffix == ".zip" else {"filter": "data"}))
            # Most archives hold one folder of their own name; it is the set.
            inner = fresh / target.name
            (inner if inner.is_dir() else fresh).replace(target)
    return target
