"""The folder of a gallery: what lies where, and how folders and files come into being whole or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from indexer.errors import GalleryError, GalleryExists, GalleryMissing

CATALOG = "catalog.sqlite"
REFERENCES = "references.faiss"
PROTOTYPES = "prototypes.faiss"
KNOWN = "known.pages"
VIEWS = (REFERENCES, PROTOTYPES, KNOWN)
NEARBY = "nearby.faiss"  # of references
NEARBY_PROTOTYPES = "nearby_prototypes.faiss"
LOCK = "writer.lock"
VIEWS_LOCK = "views.lock"


def make(path: str | os.PathLike[str], fill: Callable[[Path], None]) -> None:
    """Make the folder under another name, let ``fill`` write into it, and rename it.

    Raises:
        GalleryExists: there is something at ``path`` that is not an empty folder.
        GalleryError: it cannot be made there.
    """
    target = Path(path).absolute()
    scratch = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        if target.is_symlink() or (target.exists() and not (target.is_dir() and not any(target.iterdir()))):
            raise GalleryExists(f"{path}: exists already; open it, or choose another place")
        scratch.mkdir(parents=True)
        fill(scratch)
        with suppress(FileNotFoundError):
            target.rmdir()
        scratch.rename(target)
        sync(target.parent)
    except OSError as error:
        raise GalleryError(f"{path}: cannot be made ({error.strerror}); choose another place") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def find(path: str | os.PathLike[str]) -> Path:
    """Return the absolute path of the gallery at ``path``; GalleryMissing if there is none."""
    target = Path(path).absolute()
    if not (target / CATALOG).is_file():
        found = "is not a gallery" if os.path.lexists(target) else "there is no gallery here"
        raise GalleryMissing(f"{path}: {found}; index a folder into a new one, or check the path")
    return target


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """Yield a file that becomes ``path`` when the block ends: whole and on the disk, or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        temporary.unlink(missing_ok=True)  # what a killed writer left, or a fifo, which would wait for a reader
        with temporary.open("w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    sync(path.parent)


def set_aside(path: Path) -> None:
    """Let what is at ``path``, if anything is, be there no longer: a file goes, anything else gets another name."""
    if path.is_file() or path.is_symlink():
        path.unlink()
    elif path.exists():
        path.rename(path.with_name(f"{path.name}.{secrets.token_hex(4)}.damaged"))


def sync(folder: Path) -> None:
    """Make renames in ``folder`` survive a power cut, where the system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
