"""What kind of place it is that holds the images: a folder, a list, an archive, or something behind a URL."""

from __future__ import annotations

import os
import tarfile
import zipfile
from pathlib import Path

from indexer.places import Folder, Source
from indexer.sources_archive import Archive
from indexer.sources_manifest import SUFFIXES, Manifest
from indexer.sources_remote import Remote


def opened(root: str | os.PathLike[str] | Source, *, class_depth: int = 1) -> Source:
    """Return the source at a path or URL, or the one given.

    Args:
        root: a folder, a zip or tar file, a list of images (CSV, TSV, Parquet), a URL, or a Source.
        class_depth: how many levels of folders name a class; a list names them itself.

    Raises:
        SourceError: it cannot be opened as what it seems to be.
        ArgumentError: ``class_depth`` is not a positive integer.
    """
    if not isinstance(root, str | os.PathLike):
        return root
    place = os.fspath(root)
    if "://" in place:
        return Remote(place, class_depth=class_depth)
    if not os.path.isfile(place):  # noqa: PTH113 - Path cannot hold a NUL, and says so less clearly
        return Folder(place, class_depth=class_depth)
    if Path(place).suffix.lower() in SUFFIXES:
        return Manifest(place)
    if zipfile.is_zipfile(place) or tarfile.is_tarfile(place):
        return Archive(place, class_depth=class_depth)
    return Folder(place, class_depth=class_depth)  # says that it is none
