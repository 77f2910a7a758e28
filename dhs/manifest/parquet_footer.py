"""Read the footer of a Parquet file without PyArrow.

PyArrow ends the process where the statistics of a column contradict its schema, if it is asked for
the metadata of that column. A read is safe: it raises an error. The footer is in the compact
protocol of Apache Thrift; the numbers of its fields are those of ``parquet.thrift``.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

MAGIC = b"PAR1"
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 11, 12
_INTEGERS = (4, 5, 6)
_MOST_LEVELS = 16
_DIFFERENCES = {6, 7}
"""Encodings DELTA_LENGTH_BYTE_ARRAY and DELTA_BYTE_ARRAY."""
_ROW_GROUPS, _COLUMNS, _METADATA = 4, 1, 3
_ENCODINGS, _PATH, _VALUES = 2, 3, 5


class Chunk(NamedTuple):
    """A column in one group of rows.

    ``path``: such as ``notes.list.element``. ``values``: number of values, of which a row can have
    many. ``is_of_differences``: texts are coded as differences to those before.
    """

    path: str
    values: int
    is_of_differences: bool


def read_chunks(content: bytes) -> list[list[Chunk]]:
    """Read the columns of every group of rows.

    Parameters
    ----------
    content : bytes
        Content of a Parquet file.

    Returns
    -------
    list of list of Chunk

    Raises
    ------
    ValueError
        The footer is damaged.
    """
    (size,) = struct.unpack("<I", content[-8:-4].rjust(4, b"\0"))
    if content[-4:] != MAGIC or size > len(content) - 12:
        raise ValueError("it has no footer")
    reader = _Reader(content[len(content) - 8 - size : len(content) - 8])
    try:
        groups = reader.struct().get(_ROW_GROUPS, [])
        return [[_chunk(column[_METADATA]) for column in group[_COLUMNS]] for group in groups]
    except (LookupError, TypeError, AttributeError, UnicodeDecodeError, struct.error) as error:
        raise ValueError("its footer is damaged") from error


def _chunk(metadata: dict[int, Any]) -> Chunk:
    path = ".".join(part.decode() for part in metadata[_PATH])
    values = metadata[_VALUES]
    if values < 0:
        raise ValueError(f"its column {path} has {values} values")
    return Chunk(path, values, bool({*metadata[_ENCODINGS]} & _DIFFERENCES))


class _Reader:
    """Decodes Thrift's compact protocol from bytes that may be anything."""

    def __init__(self, content: bytes) -> None:
        self._content, self._at, self._levels = content, 0, 0

    def struct(self) -> dict[int, Any]:
        """Read a struct as its fields by number."""
        self._levels += 1
        if self._levels > _MOST_LEVELS:
            raise ValueError("its footer is damaged")
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            step, kind = divmod(head, 16)
            number = number + step if step else self._integer()
            fields[number] = kind == _TRUE if kind in (_TRUE, _FALSE) else self._value(kind)
        self._levels -= 1
        return fields

    def _value(self, kind: int) -> Any:
        if kind in _INTEGERS:
            return self._integer()
        if kind == _STRUCT:
            return self.struct()
        if kind == _BINARY:
            return self._take(self._count())
        if kind in (_LIST, _SET):
            return list(self._items())
        if kind == _DOUBLE:
            return struct.unpack("<d", self._take(8))[0]
        if kind in (_TRUE, _FALSE, _BYTE):  # in lists
            return self._byte()
        # Footers have no maps.
        raise ValueError("its footer is damaged")

    def _items(self) -> Iterator[Any]:
        count, kind = divmod(self._byte(), 16)
        count = self._count() if count == 15 else count
        yield from islice(iter(lambda: self._value(kind), None), count)

    def _byte(self) -> int:
        return self._take(1)[0]

    def _take(self, count: int) -> bytes:
        taken = self._content[self._at : self._at + count]
        if len(taken) < count:
            raise ValueError("its footer is cut short")
        self._at += count
        return taken

    def _count(self) -> int:
        """Read an unsigned number in groups of seven bits."""
        value = shift = 0
        while True:
            byte = self._byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
            if shift > 63:
                raise ValueError("its footer is damaged")

    def _integer(self) -> int:
        """Read a signed number, whose sign is the lowest bit."""
        value = self._count()
        return (value >> 1) ^ -(value & 1)
