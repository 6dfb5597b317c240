"""A list of images: a CSV or Parquet file with the columns ``path`` and ``class``, and any others as attributes.

Paths are relative to the list's folder, or absolute. A reference from a list keeps its absolute path.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from indexer import images
from indexer.attributes import checked, parsed
from indexer.errors import ArgumentError, SourceError
from indexer.names import check_name
from indexer.places import Stat, file_stat
from indexer.printable import printable
from indexer.sources import BAD_NAME, NOT_UTF8, Failure, Found, Listing, is_utf8, listing

SUFFIXES: Final = (".csv", ".tsv", ".parquet")

Row = Mapping[str, Any]


class Manifest:
    """A list of image files, each with its class and attributes; the files lie wherever they are."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = os.path.abspath(root)  # noqa: PTH100 - links in it are not resolved
        self.folder = os.path.dirname(self.root)  # noqa: PTH120

    def listing(self) -> Listing:
        """Return the files of the list; rows that cannot be used are listed as failed, by path or number."""
        found: dict[str, Found] = {}
        failed = []
        for number, row in enumerate(self._rows(), start=1):
            try:
                one = self._found(row)
                if found.setdefault(one.path, one).name != one.name:
                    raise ArgumentError(f"is in two classes, {found[one.path].name} and {one.name}: choose one")
            except ArgumentError as error:
                failed.append(Failure(printable(str(row.get("path") or f"row {number}")), str(error)))
        return listing(self.root, found.values(), failed)

    def stat(self, path: str) -> Stat | None:
        """Return size, time and inode of a file."""
        return file_stat(path)

    def read(self, path: str) -> bytes:
        """Return a file's bytes."""
        return images.read(path)

    def _found(self, row: Row) -> Found:
        path, name = row.get("path"), row.get("class")
        if not isinstance(path, str) or not path:
            raise ArgumentError("names no file")
        if not is_utf8(path):
            raise ArgumentError(NOT_UTF8)
        try:
            named = check_name("" if name is None else str(name))
        except ArgumentError as error:
            raise ArgumentError("names no class" if name in (None, "") else BAD_NAME) from error
        others = {key: value for key, value in row.items() if key not in ("path", "class")}
        return Found(os.path.normpath(os.path.join(self.folder, path)), named, checked(others) or None)  # noqa: PTH118

    def _rows(self) -> Iterator[Row]:
        suffix = Path(self.root).suffix.lower()
        try:
            if suffix == ".parquet":
                yield from _parquet(self.root)
            else:
                yield from _csv(self.root, "\t" if suffix == ".tsv" else ",")
        except (OSError, ValueError, csv.Error) as error:
            if isinstance(error, ArgumentError):
                raise
            why = printable(getattr(error, "strerror", None) or str(error).splitlines()[0])
            raise SourceError(f"{printable(self.root)}: cannot be read as a list of images ({why})") from error


def _csv(path: str, delimiter: str) -> Iterator[Row]:
    with Path(path).open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, delimiter=delimiter, strict=True)
        _check_columns(path, reader.fieldnames or ())
        for row in reader:
            if None in row or None in row.values():
                raise SourceError(f"{printable(path)}: line {reader.line_num} has not as many columns as the first one")
            yield {
                key: value if key in ("path", "class") else (parsed(value) if value else None)
                for key, value in row.items()
            }


def _parquet(path: str) -> Iterator[Row]:
    try:
        parquet = import_module("pyarrow.parquet")
    except ImportError as error:
        raise SourceError(
            f"{printable(path)}: reading Parquet needs pyarrow: pip install 'firstsight[parquet]', or save it as CSV"
        ) from error
    with parquet.ParquetFile(path) as file:
        _check_columns(path, file.schema_arrow.names)
        for batch in file.iter_batches():
            yield from batch.to_pylist()


def _check_columns(path: str, columns: Any) -> None:
    missing = [column for column in ("path", "class") if column not in columns]
    if missing:
        raise SourceError(
            f"{printable(path)}: has no column {missing[0]!r}: a list of images has the columns path and class"
        )
