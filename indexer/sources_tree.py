"""Classes of files that are known by their paths alone: those of an archive, or behind a URL."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from indexer.errors import ArgumentError
from indexer.names import check_name
from indexer.printable import printable
from indexer.sources import BAD_NAME, CLUTTER, IMAGE_SUFFIXES, NOT_UTF8, Failure, Found, Listing, is_utf8, listing


def listed(
    root: str,
    paths: Iterable[str],
    *,
    class_depth: int,
    names: Mapping[str, str] | None = None,
    failed: Iterable[Failure] = (),
) -> Listing:
    """Return what a place holds, as ``sources.find`` does for a folder.

    Args:
        root: the place.
        paths: of its files, relative to it, with slashes.
        class_depth: how many levels of folders name a class.
        names: classes that are known otherwise, by path.
        failed: what the place itself cannot give.

    Raises:
        SourceError: as ``sources.find``; whether a file outside of class folders is an image, its suffix tells.
    """
    files, outside, wrong = [], [], list(failed)
    for path in paths:
        parts = path.split("/")
        if any(part.startswith(".") or part.lower() in CLUTTER for part in parts):
            continue
        stated = (names or {}).get(path)
        if not is_utf8(path):
            wrong.append(Failure(printable(path), NOT_UTF8))
        elif stated is None and len(parts) <= class_depth:
            outside += [path] if path.lower().endswith(IMAGE_SUFFIXES) else []
        else:
            try:
                files.append(Found(path, _name(parts[:class_depth] if stated is None else [stated])))
            except ArgumentError:
                wrong.append(Failure(printable(path), BAD_NAME if stated is None else "has a class that is no name"))
    return listing(root, files, wrong, outside=outside)


def _name(levels: Iterable[str]) -> str:
    return "/".join(check_name(level) for level in levels)
