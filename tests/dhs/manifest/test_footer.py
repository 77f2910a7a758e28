"""Footers of Parquet files: what PyArrow says of them, and an error for anything else."""

from __future__ import annotations

import io
import random
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from dhs.manifest.parquet_footer import read_chunks
from tests.dhs.manifest.test_sizes import KINDS

TABLE = pyarrow.table({name: pyarrow.array(values, kind) for name, (kind, values) in KINDS.items()})


def written(**options: Any) -> bytes:
    stream = io.BytesIO()
    parquet.write_table(TABLE, stream, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"row_group_size": 1},
        {"version": "1.0", "compression": "gzip"},
        {"use_dictionary": False, "column_encoding": {"string": "DELTA_BYTE_ARRAY"}},
        {"write_statistics": False, "write_page_index": True, "store_schema": False},
    ],
)
def test_the_columns_are_those_of_pyarrow(options: dict[str, Any]) -> None:
    content = written(**options)
    metadata = parquet.read_metadata(io.BytesIO(content))
    expected = []
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        chunks = map(group.column, range(group.num_columns))
        expected.append(
            [
                (c.path_in_schema, c.num_values, any("DELTA_" in name for name in c.encodings))
                for c in chunks
            ]
        )
    assert read_chunks(content) == expected
    assert len(expected) == metadata.num_row_groups > 0


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1\xff\xff\xff\xffPAR1", b"x" * 40])
def test_no_footer(content: bytes) -> None:
    with pytest.raises(ValueError, match="it has no footer"):
        read_chunks(content)


def test_damaged_footers_are_errors() -> None:
    content, dice, refused = written(), random.Random(0), 0
    size = int.from_bytes(content[-8:-4], "little")
    for _ in range(2000):
        changed = bytearray(content)
        for _ in range(dice.randint(1, 4)):
            changed[-8 - dice.randint(1, size)] = dice.randrange(256)
        try:
            read_chunks(bytes(changed))
        except ValueError:
            refused += 1
    assert refused > 200
