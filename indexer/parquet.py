"""Rows of the catalog as Parquet files, and back, some thousand in memory at a time. Needs the extra "parquet"."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import IO, Any

import numpy as np
from sqlalchemy import Boolean, Column, Float, Integer, LargeBinary, Table, Text

from indexer.errors import FirstsightError
from indexer.reader import chunks

ROWS = 4096

Rows = Iterable[Sequence[Any]]


class NoTable(Exception):
    """The file cannot be read as the table that it should hold; the message says why."""


def library() -> Any:
    """Return pyarrow; a FirstsightError names the extra that brings it."""
    try:
        import pyarrow.parquet  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise FirstsightError("Parquet files need pyarrow: pip install 'firstsight[parquet]'") from error
    return pyarrow


def write(file: IO[bytes], table: Table, rows: Rows) -> int:
    """Write rows, with a value a column of ``table`` each, to ``file``; return how many there were."""
    arrow, count = library(), 0
    columns = list(table.columns)
    schema = arrow.schema([arrow.field(one.name, _type(arrow, one), nullable=one.nullable) for one in columns])
    with arrow.parquet.ParquetWriter(file, schema, compression="zstd") as writer:
        for some in chunks(rows, ROWS):
            values = zip(*some, strict=True)
            arrays = [_array(arrow, field.type, column) for field, column in zip(schema, values, strict=True)]
            writer.write_batch(arrow.record_batch(arrays, schema=schema))
            count += len(some)
    return count


def read(path: Path, table: Table) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of the file by column, some thousand at a time; NoTable if it does not hold such rows."""
    arrow = library()
    try:
        with arrow.parquet.ParquetFile(path) as file:
            _check_columns(arrow, file.schema_arrow, table)
            for batch in file.iter_batches(ROWS, columns=[column.name for column in table.columns]):
                values = [_values(batch.column(column.name), column) for column in table.columns]
                yield [dict(zip(table.columns.keys(), row, strict=True)) for row in zip(*values, strict=True)]
    except (arrow.ArrowException, OSError) as error:
        raise NoTable(f"cannot be read ({str(error).splitlines()[0]})") from error


def _type(arrow: Any, column: Column[Any]) -> Any:
    if column.name == "vector":
        return arrow.list_(arrow.float32())
    kinds = {
        Boolean: arrow.bool_(),
        Float: arrow.float64(),
        Integer: arrow.int64(),
        LargeBinary: arrow.binary(),
        Text: arrow.string(),
    }
    return kinds[type(column.type)]


def _array(arrow: Any, kind: Any, values: Sequence[Any]) -> Any:
    if not arrow.types.is_list(kind):
        return arrow.array(values, kind)
    floats = np.frombuffer(b"".join(values), "<f4")
    ends = accumulate((len(blob) // 4 for blob in values), initial=0)
    return arrow.ListArray.from_arrays(arrow.array(list(ends), arrow.int32()), arrow.array(floats))


def _check_columns(arrow: Any, schema: Any, table: Table) -> None:
    wanted = {column.name: _type(arrow, column) for column in table.columns}
    if sorted(schema.names) != sorted(wanted):
        raise NoTable(f"has the columns {', '.join(schema.names)}, not {', '.join(wanted)}")
    for name, kind in wanted.items():
        found = schema.field(name).type
        # Writers name the items of a list as they like.
        listed = name == "vector" and arrow.types.is_list(found)
        if (found.value_type != kind.value_type) if listed else found != kind:
            raise NoTable(f"holds {found} as {name}, not {kind}")


def _values(array: Any, column: Column[Any]) -> list[Any]:
    if array.null_count and not column.nullable:
        raise NoTable(f"lacks a value of {column.name}")
    if column.name != "vector":
        return array.to_pylist()
    floats = array.flatten()
    if floats.null_count:
        raise NoTable("lacks a number of a vector")
    ends = np.cumsum(array.value_lengths().to_numpy())
    return [part.tobytes() for part in np.split(floats.to_numpy().astype("<f4"), ends[:-1])] if len(ends) else []
