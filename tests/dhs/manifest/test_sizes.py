"""Tables that say more than memory holds are refused; others are read as pyarrow reads them."""

from __future__ import annotations

import datetime
import decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from benchmarks.memory import peak_bytes, reset_peak
from dhs.manifest import sizes
from dhs.manifest.table import read_manifest, read_table

ROWS = 3_000_000


def save(path: Path, columns: dict[str, Any], **options: Any) -> Path:
    parquet.write_table(pyarrow.table(columns), path, **options)
    return path


def repeated(text: str, rows: int) -> pyarrow.Array:
    return pyarrow.DictionaryArray.from_arrays(np.zeros(rows, np.int32), [text])


def set_free(monkeypatch: pytest.MonkeyPatch, size: float) -> None:
    monkeypatch.setattr(sizes, "free_memory", lambda: int(size))


def test_a_small_file_that_says_it_has_millions_of_rows(tmp_path: Path) -> None:
    columns = {"cutout_path": repeated("a.npz", ROWS), "label": np.zeros(ROWS, np.int8)}
    path = save(tmp_path / "a.parquet", columns, row_group_size=ROWS, store_schema=False)
    assert path.stat().st_size < 30_000
    before = reset_peak()
    with pytest.raises(ValueError, match=r"has 3,000,000 rows in .* at most 50 rows per byte"):
        read_manifest(path)
    assert peak_bytes() - before < 2e7


def test_paths_in_the_most_compact_encoding_are_read(tmp_path: Path) -> None:
    paths = [f"cutouts/{k:07d}.npz" for k in range(1_100_000)]
    path = save(
        tmp_path / "a.parquet",
        {"cutout_path": paths},
        compression="zstd",
        use_dictionary=False,
        column_encoding={"cutout_path": "DELTA_BYTE_ARRAY"},
    )
    assert len(paths) > 5 * path.stat().st_size
    assert read_table(path)["cutout_path"].to_pylist() == paths


def test_rows_beyond_the_free_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.parquet", {"galaxy_id": np.arange(10**5), "label": np.zeros(10**5)})
    said = r"a.parquet: its 100,000 rows of 2 columns would take .* Split the table into smaller"
    set_free(monkeypatch, 3.9e6)
    with pytest.raises(ValueError, match=said):
        read_table(path)
    set_free(monkeypatch, 8e6)
    assert len(read_table(path)) == 10**5


@pytest.mark.parametrize("name", ["comment", "cutout_path"])
def test_a_long_text_that_many_rows_repeat(tmp_path: Path, name: str) -> None:
    columns = {name: repeated("a" * 10**6, 10**5), "label": np.zeros(10**5, np.int8)}
    path = save(tmp_path / "a.parquet", columns, compression="zstd", store_schema=False)
    assert path.stat().st_size < 10_000
    before = reset_peak()
    with pytest.raises(ValueError, match=r"would take 200\.\d GB of memory; at most"):
        read_table(path)
    assert peak_bytes() - before < 5e7


def test_one_long_id_is_not_padded_into_every_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_free(monkeypatch, 1e8)
    ids = ["a" * 10**4, *map(str, range(9999))]
    said = "galaxy_id with 10,000 rows, the longest of 10,000 bytes, would take 0.4 GB"
    with pytest.raises(ValueError, match=said):
        read_table(save(tmp_path / "a.parquet", {"galaxy_id": ids}))
    (tmp_path / "a.csv").write_text("\n".join(["galaxy_id", *ids]))
    with pytest.raises(ValueError, match=said):
        read_table(tmp_path / "a.csv")
    assert len(read_table(save(tmp_path / "b.parquet", {"comment": ids}))) == 10**4
    # So has a column that the user names for the ids.
    with pytest.raises(ValueError, match=said.replace("galaxy_id", "comment")):
        read_table(tmp_path / "b.parquet", text_columns=("comment",))


def test_a_list_with_many_values_in_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save(tmp_path / "a.parquet", {"a": [np.zeros(10**7, np.int32)]})
    assert path.stat().st_size < 10_000
    set_free(monkeypatch, 4e7)
    with pytest.raises(ValueError, match=r"1 rows of 1 columns would take 0\.0 GB"):
        read_table(path)


def test_a_csv_file_with_many_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.csv").write_text("a,b\n" + "1,2\n" * 10**5)
    set_free(monkeypatch, 5e6)
    with pytest.raises(ValueError, match="its 100,001 rows of 2 columns would take"):
        read_table(tmp_path / "a.csv")
    set_free(monkeypatch, 6e5)
    with pytest.raises(ValueError, match="its 400,004 bytes would take"):
        read_table(tmp_path / "a.csv")
    set_free(monkeypatch, 1e7)
    assert len(read_table(tmp_path / "a.csv")) == 10**5


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_many_columns(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    names = [f"c{k}" for k in range(10_001)]
    if suffix == "csv":
        path.write_text("\n".join([",".join(names)] * 2))
    else:
        save(path, {name: [1] for name in names})
    with pytest.raises(ValueError, match="has 10,001 columns; at most 10,000 are allowed"):
        read_table(path)


def test_a_column_twice(tmp_path: Path) -> None:
    table = pyarrow.table([[1], [2]], names=["a", "a"])
    parquet.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="has the column 'a' more than once"):
        read_table(tmp_path / "a.parquet")


KINDS: dict[str, tuple[pyarrow.DataType, Any]] = {
    "string": (pyarrow.string(), ["a", "é", None, "", "a", "b" * 9]),
    "large_string": (pyarrow.large_string(), ["a", "é", None, "", "a", "b" * 9]),
    "string_view": (pyarrow.string_view(), ["a", "é", None, "", "a", "b" * 99]),
    "binary": (pyarrow.binary(), [b"\xff", None, b"", b"a", b"a", b"a"]),
    "nothing": (pyarrow.string(), [None] * 6),
    "null": (pyarrow.null(), [None] * 6),
    "dictionary": (pyarrow.dictionary(pyarrow.int8(), pyarrow.string()), list("aabbab")),
    "int8": (pyarrow.int8(), [1, -1, None, 0, 1, 2]),
    "uint64": (pyarrow.uint64(), [2**64 - 1, 0, None, 0, 1, 2]),
    "float": (pyarrow.float32(), [1.5, float("inf"), None, -0.0, 1, 2]),
    "bool": (pyarrow.bool_(), [True, False, None, True, True, False]),
    "time": (pyarrow.timestamp("us", "Europe/Paris"), [datetime.datetime(2026, 1, 1)] * 6),
    "list": (pyarrow.list_(pyarrow.string()), [["a", "b"], [], None, ["a"], ["c"], ["a"]]),
    "struct": (pyarrow.struct([("x", pyarrow.string())]), [{"x": "a"}] * 6),
    "map": (pyarrow.map_(pyarrow.string(), pyarrow.binary()), [{"a": b"b"}, {}, None] * 2),
    "structs": (
        pyarrow.large_list(pyarrow.struct([("x", pyarrow.large_string()), ("y", pyarrow.int8())])),
        [[{"x": "a", "y": 1}, {"x": None, "y": None}], [None], None] * 2,
    ),
    "decimals": (pyarrow.list_(pyarrow.decimal128(9, 2)), [[decimal.Decimal("1.25")], None] * 3),
}


@pytest.mark.parametrize("rows", [6, 2, 0])
def test_every_type_is_read_as_pyarrow_reads_it(tmp_path: Path, rows: int) -> None:
    fields = [
        pyarrow.field(name, kind, metadata={"unit": name}) for name, (kind, _) in KINDS.items()
    ]
    arrays = [pyarrow.array(values, kind) for kind, values in KINDS.values()]
    table = pyarrow.table(arrays, pyarrow.schema(fields, {"dhs": "{}"})).slice(0, rows)
    path = tmp_path / "a.parquet"
    for options in ({}, {"row_group_size": 4}, {"store_schema": False}, {"use_dictionary": False}):
        parquet.write_table(table, path, **options)
        found, expected = read_table(path), parquet.read_table(path)
        assert found.equals(expected)
        assert found.schema.equals(expected.schema, check_metadata=True)
        assert found.to_pandas().equals(expected.to_pandas())
