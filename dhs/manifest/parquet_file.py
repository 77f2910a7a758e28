"""Parquet tables of strangers, decoded group by group within a limit of memory."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow
from pyarrow import compute, parquet
from pyarrow.lib import string_to_tzinfo

from dhs.manifest.parquet_footer import Chunk, read_chunks
from dhs.manifest.sizes import (
    NUMBER_BYTES,
    TEXT_BYTES,
    Allowance,
    require_columns,
    require_plausible,
)

_PLAIN_TEXT = (pyarrow.string(), pyarrow.large_string(), pyarrow.binary(), pyarrow.large_binary())
_TEXT = (*_PLAIN_TEXT, pyarrow.string_view(), pyarrow.binary_view())
_ROWS_OF_A_PIECE = 256
_LEAST_BYTES = 4
"""Least number of bytes that Arrow takes for a value in a list, with its level."""
_MOST_AT_ONCE = 2**30
"""Largest number of bytes of one array of text, whose offsets have 32 bits."""


def read_parquet(path: Path, content: bytes) -> pyarrow.Table:
    """Read a Parquet table, whose size is checked before and while it is decoded.

    Text is decoded as numbers into a list of the different texts, so that a long text that many
    rows repeat is counted before it is copied into each of them.

    Parameters
    ----------
    path : Path
        The file, for error messages.
    content : bytes
        Content of the file.

    Returns
    -------
    pyarrow.Table

    Raises
    ------
    ValueError
        The table has too many rows or columns, takes too much memory, or has a column twice.
    pyarrow.ArrowException, OSError
        The file is damaged.
    """
    file = parquet.ParquetFile(pyarrow.BufferReader(content))
    schema = _without_pandas(file.schema_arrow)
    rows, columns = file.metadata.num_rows, file.metadata.num_columns
    require_columns(path, columns)
    require_plausible(path, rows, len(content))
    twice = [name for name, count in Counter(schema.names).items() if count > 1]
    if twice:
        raise ValueError(f"{path} has the column {twice[0]!r} more than once; keep one.")
    for field in schema:
        _check_time_zone(path, field)
    texts = {field.name for field in schema if field.type in _TEXT}
    meter = _Meter(path, f"its {rows:,} rows of {columns:,} columns")
    meter.add(len(content))
    meter.add(rows * (NUMBER_BYTES * (columns - len(texts)) + TEXT_BYTES * len(texts)))
    groups = _chunks(path, content, columns)
    meter.add(_bytes_of_long_values(file.metadata.schema, groups))
    differences = {chunk.path for group in groups for chunk in group if chunk.is_of_differences}
    in_pieces = texts & differences
    inner = _text_within(file.metadata) - {*schema.names}
    if inner & differences:
        raise ValueError(
            f"{path}: the column {min(inner & differences)!r} has text within lists or structs, "
            "coded as differences, whose length is known only after all of it is decoded. Write it "
            "with another encoding, such as PyArrow's default, or leave the column out."
        )
    at_once = [name for name in schema.names if name not in in_pieces]
    codes = [*texts - in_pieces, *inner]
    coded = parquet.ParquetFile(pyarrow.BufferReader(content), read_dictionary=codes)
    tables = []
    for number in range(file.num_row_groups):
        group = coded.read_row_group(number, at_once)
        found = {}
        for name in at_once:
            kind = schema.field(name).type
            found[name] = _metered(group[name], kind, meter)
            if found[name].type != kind:
                found[name] = file.read_row_group(number, [name])[name]
        for name in in_pieces:
            found[name] = _read_in_pieces(file, number, schema.field(name), meter)
        tables.append(pyarrow.table([found[name] for name in schema.names], schema=schema))
    return pyarrow.concat_tables(tables) if tables else schema.empty_table()


def _without_pandas(schema: pyarrow.Schema) -> pyarrow.Schema:
    """Remove the notes of pandas, which need not be true: every column is a column here."""
    notes = schema.metadata or {}
    return schema.with_metadata({name: notes[name] for name in notes if name != b"pandas"})


def _check_time_zone(path: Path, field: pyarrow.Field) -> None:
    zone = getattr(field.type, "tz", None)
    if zone is None:
        return
    try:
        string_to_tzinfo(zone)
    except Exception as error:  # each library of time zones raises its own
        raise ValueError(
            f"{path}: the column {field.name} has the time zone {zone!r}, which is not known here; "
            "write it in UTC."
        ) from error


class _Meter:
    """Counts the memory of one table, and refuses it when there is too much."""

    def __init__(self, path: Path, what: str) -> None:
        self._allowance, self._what, self._size = Allowance(path), what, 0

    def add(self, size: int) -> None:
        self._size += size
        self._allowance.require(self._what, self._size)


def _chunks(path: Path, content: bytes, columns: int) -> list[list[Chunk]]:
    try:
        groups = read_chunks(content)
        if any(len(group) != columns for group in groups):
            raise ValueError("its groups of rows have other columns than its schema")
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}).") from error
    return groups


def _text_within(metadata: parquet.FileMetaData) -> set[str]:
    """Return the paths of texts, such as ``notes.list.element``."""
    columns = map(metadata.schema.column, range(metadata.num_columns))
    return {
        column.path
        for column in columns
        if column.physical_type == "BYTE_ARRAY" and column.logical_type.type != "DECIMAL"
    }


def _bytes_of_long_values(schema: parquet.ParquetSchema, groups: list[list[Chunk]]) -> int:
    """Return the bytes of values of a fixed length, and of lists, of which a row can have many."""
    columns = [schema.column(k) for k in range(len(schema))]
    return sum(
        chunk.values * max(column.length, _LEAST_BYTES)
        for group in groups
        for column, chunk in zip(columns, group, strict=True)
        if "." in column.path or column.physical_type == "FIXED_LEN_BYTE_ARRAY"
    )


def _read_in_pieces(
    file: parquet.ParquetFile, group: int, field: pyarrow.Field, meter: _Meter
) -> pyarrow.ChunkedArray:
    """Read a column that Arrow cannot read as codes, a few rows at a time."""
    chunks = []
    for batch in file.iter_batches(_ROWS_OF_A_PIECE, [group], [field.name]):
        meter.add(2 * batch.nbytes)
        chunks.append(batch.column(0))
    return pyarrow.chunked_array(chunks, field.type).combine_chunks()


def _metered(
    column: pyarrow.ChunkedArray, kind: pyarrow.DataType, meter: _Meter
) -> pyarrow.ChunkedArray:
    """Count the text of a column, or the values of its lists, and decode text.

    Views of text, and text within lists and structs, are counted and remain coded.
    """
    if pyarrow.types.is_nested(kind):
        meter.add(column.nbytes)
    if column.type == kind:
        return column
    meter.add(2 * sum(map(_length, column.chunks)))
    return _plain(column, kind) if kind in _PLAIN_TEXT else column


def longest_text(column: pyarrow.ChunkedArray) -> int:
    """Return the number of bytes of the longest text in a column, or 0 without any."""
    if pyarrow.types.is_null(column.type):
        return 0
    parts = [
        chunk.dictionary if isinstance(chunk, pyarrow.DictionaryArray) else chunk
        for chunk in column.chunks
    ]
    return max((compute.max(compute.binary_length(part)).as_py() or 0 for part in parts), default=0)


def _length(array: pyarrow.Array) -> int:
    """Return the number of bytes of text that an array has after it is decoded."""
    if isinstance(array, pyarrow.DictionaryArray):
        lengths = compute.binary_length(array.dictionary).cast(pyarrow.int64())
        return compute.sum(lengths.take(array.indices)).as_py() or 0
    if isinstance(array, pyarrow.MapArray):
        return _length(array.keys) + _length(array.items)
    if isinstance(array, pyarrow.StructArray):
        return sum(map(_length, array.flatten()))
    if pyarrow.types.is_nested(array.type):
        return _length(array.flatten())
    return int(array.nbytes)


def _plain(column: pyarrow.ChunkedArray, kind: pyarrow.DataType) -> pyarrow.ChunkedArray:
    """Copy coded text into every row."""
    parts = []
    for chunk in column.chunks:
        step = max(1, _MOST_AT_ONCE // max(longest_text(pyarrow.chunked_array([chunk])), 1))
        parts += [chunk[start : start + step].cast(kind) for start in range(0, len(chunk), step)]
    return pyarrow.chunked_array(parts, kind)
