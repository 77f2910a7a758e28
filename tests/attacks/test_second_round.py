"""Tiles, HDUs and archives that crash or stop a decoder, and tables and catalogues that lie."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import time
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from astropy.io import fits
from pyarrow import parquet

import dhs.manifest.sizes
from dhs.fetch.catalogue import read_catalogue
from dhs.manifest.parquet_file import read_parquet
from dhs.manifest.table import read_manifest
from fastnorm.io import CutoutError, read_cutouts

IMAGE = np.random.default_rng(0).normal(size=(3, 33, 35)).astype(np.float32)
RICE: dict[str, Any] = {"compression_type": "RICE_1", "quantize_method": 1, "dither_seed": 5}
HCOMPRESS: dict[str, Any] = {"compression_type": "HCOMPRESS_1", "tile_shape": (1, 33, 35)}


def tiled(**options: Any) -> bytes:
    stream = io.BytesIO()
    unit = fits.CompImageHDU(IMAGE, name="IMAGE", quantize_level=16, **options)
    fits.HDUList([fits.PrimaryHDU(), unit]).writeto(stream)
    return stream.getvalue()


def with_card(content: bytes, name: str, value: int) -> bytes:
    start = content.rindex(f"{name:<8}= ".encode())
    return content[:start] + str(fits.Card(name, value)).encode() + content[start + 80 :]


def with_shape(rows: int, columns: int) -> bytes:
    content = bytearray(tiled(**HCOMPRESS))
    start = content.index(b"\xdd\x99", content.rindex(b"END" + b" " * 77))
    content[start + 2 : start + 10] = struct.pack(">ii", rows, columns)
    return bytes(content)


def reason(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(CutoutError) as caught:
            list(read_cutouts(path))
    return caught.value.reason


def test_honest_tiles_are_read(tmp_path: Path) -> None:
    for options in (RICE, HCOMPRESS, RICE | {"tile_shape": (1, 16, 16)}):
        (tmp_path / "a.fits").write_bytes(tiled(**options))
        [cutout] = read_cutouts(tmp_path / "a.fits")
        assert np.abs(cutout.pixels - IMAGE).max() < 0.5


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("ZVAL2", -4, "BYTEPIX is -4"),  # the decoder would read from anywhere in memory
        ("ZVAL2", 8, "BYTEPIX is 8"),
        ("ZDITHER0", -1000000000, "ZDITHER0 is -1000000000"),
        ("ZDITHER0", 0, "ZDITHER0 is 0"),
        ("ZTILE2", -(2**31), "not all positive integers"),
    ],
)
def test_lies_of_the_header_of_tiles(tmp_path: Path, name: str, value: int, expected: str) -> None:
    assert expected in reason(tmp_path / "a.fits", with_card(tiled(**RICE), name, value))


@pytest.mark.parametrize("shape", [(0, 0), (35, 33), (1, 1155), (2, 2)])
def test_a_tile_of_another_shape_is_not_decoded(tmp_path: Path, shape: tuple[int, int]) -> None:
    assert "a tile says that its shape is not (33, 35)" in reason(
        tmp_path / "a.fits", with_shape(*shape)
    )


def test_tiles_that_share_bytes(tmp_path: Path) -> None:
    content = tiled(**RICE)
    data = content.rindex(b"END" + b" " * 77) // 2880 * 2880 + 2880
    shared = struct.pack(">ii", 10_000_000, 0) + content[data + 8 :]
    assert "more bytes than the file" in reason(tmp_path / "a.fits", content[:data] + shared)


def test_an_image_of_more_tiles_than_rows(tmp_path: Path) -> None:
    content = with_card(tiled(**HCOMPRESS), "ZNAXIS1", 2**31 - 1)
    assert "more than its 3 tiles" in reason(tmp_path / "a.fits", content)


def test_an_hdu_that_leads_back_to_itself(tmp_path: Path) -> None:
    content = with_card(tiled(**RICE), "GCOUNT", -1)
    assert "more than 64 HDUs" in reason(tmp_path / "a.fits", content)


def test_gzip_headers_that_begin_in_each_other(tmp_path: Path) -> None:
    junk = b"\x1f\x8b\x08\x08\x01\x01\x01\x01\x01\x01" * 20_000
    table = fits.BinTableHDU.from_columns([fits.Column("ZCMPTYPE", f"{len(junk)}A")], nrows=1)
    stream = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(IMAGE), table]).writeto(stream)
    content = stream.getvalue()
    start = content.rindex(b"END" + b" " * 77) // 2880 * 2880 + 2880
    content = content[:start] + junk + content[start + len(junk) :]
    began = time.process_time()
    assert "too many beginnings" in reason(tmp_path / "a.fits", content)
    assert time.process_time() - began < 1


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_archives_that_are_unpacked_whole(tmp_path: Path, method: int) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive, archive.open("cutout.npy", "w") as entry:
        np.save(entry, np.zeros((33, 35, 3), np.float32))
    assert f"compressed by method {method}" in reason(tmp_path / "a.npz", stream.getvalue())


@pytest.mark.parametrize(
    ("before", "after", "is_read"), [(b">f8", b"\\88", False), (b"33, 35", b"33L,35", True)]
)
def test_odd_headers_are_read_without_a_warning(
    tmp_path: Path, before: bytes, after: bytes, is_read: bool
) -> None:
    """Check an escape that Python does not know, and a number of Python 2."""
    stream = io.BytesIO()
    np.save(stream, IMAGE.astype(">f8"))
    path = tmp_path / "a.npy"
    path.write_bytes(stream.getvalue().replace(before, after))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            cutouts = list(read_cutouts(path))
        except CutoutError:
            cutouts = []
    assert (len(cutouts), [str(item.message) for item in said]) == (int(is_read), [])


def test_rows_of_long_values_and_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dhs.manifest.sizes, "free_memory", lambda: 2**26)
    number = 2**22
    values = {
        "long": pa.array([b"x" * 2**20], pa.binary(2**20)).take(pa.array([0] * 100)),
        "list": pa.ListArray.from_arrays([0, number], pa.nulls(number, pa.int64()).fill_null(0)),
    }
    for name, value in values.items():
        path = tmp_path / f"{name}.parquet"
        parquet.write_table(pa.table({name: value}), path)
        assert path.stat().st_size < 2**22
        with pytest.raises(ValueError, match="of memory; at most"):
            read_manifest(path)


FOOTERS = """
import io, sys
from pathlib import Path
import pyarrow as pa
from pyarrow import parquet
from dhs.manifest.table import read_table

stream, path = io.BytesIO(), Path(sys.argv[1])
columns = {"cutout_path": ["a", "b"], "label": [0, 1], "notes": [["x"], []]}
parquet.write_table(pa.table(columns), stream, store_schema=False)
content = stream.getvalue()
start = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
refused = 0
for at in range(start, len(content) - 8):
    for value in (0, 1, 2, 3, 25, 28, 76, 255):
        changed = bytearray(content)
        changed[at] = value
        try:
            read_table(path, bytes(changed))
        except ValueError as error:
            assert str(path) in str(error), error
            refused += 1
print(refused)
"""


def test_no_byte_of_a_footer_ends_the_process(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FOOTERS, str(tmp_path / "a.parquet")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 500


TEXT = pa.array([{"a": "x" * 2**20}])
MANY = pa.array([0] * 200)
WITHIN = {
    "view": TEXT.field(0).take(MANY).cast(pa.string_view()),
    "struct": TEXT.take(MANY),
    "list": pa.ListArray.from_arrays([0, 200], TEXT.field(0).take(MANY)),
    "list of structs": pa.ListArray.from_arrays([0, 200], TEXT.take(MANY)),
    "map": pa.MapArray.from_arrays([0, 200], pa.array(map(str, range(200))), TEXT.take(MANY)),
}


# Arrays may outlive the test, and are freed through this pool.
POOL = pa.default_memory_pool()
COUNTING = pa.proxy_memory_pool(POOL)


@pytest.mark.parametrize("name", WITHIN)
def test_text_within_structs_and_lists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({"notes": WITHIN[name], "label": [1] * len(WITHIN[name])})
    parquet.write_table(table, path)
    assert path.stat().st_size < 2**18
    assert read_parquet(path, path.read_bytes()) == table
    monkeypatch.setattr(dhs.manifest.sizes, "free_memory", lambda: 2**28)
    pa.set_memory_pool(COUNTING)
    try:
        with pytest.raises(ValueError, match="of memory; at most"):
            read_manifest(path)
    finally:
        pa.set_memory_pool(POOL)
    assert COUNTING.max_memory() < 2**24


def test_text_within_lists_in_an_encoding_that_hides_its_length(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    parquet.write_table(
        pa.table({"notes": WITHIN["list"]}),
        path,
        use_dictionary=False,
        column_encoding={"notes.list.element": "DELTA_BYTE_ARRAY"},
    )
    with pytest.raises(ValueError, match=r"column 'notes\.list\.element' has text within lists"):
        read_manifest(path)


def test_many_comments(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"#\n" * 400_000 + b"cutout_path,label\na.npz,1\n")
    began = time.process_time()
    assert len(read_manifest(path)[0]) == 1
    assert time.process_time() - began < 1


@pytest.mark.parametrize("said", ['{"index_columns": ["galaxy_id"]}', "not JSON"])
def test_what_pandas_is_said_to_have_written(tmp_path: Path, said: str) -> None:
    table = pa.table({"cutout_path": ["a", "b"], "galaxy_id": ["x", "y"]})
    table = table.replace_schema_metadata({"pandas": said, "dhs": '{"data_origin": "x"}'})
    parquet.write_table(table, tmp_path / "a.parquet")
    read, metadata = read_manifest(tmp_path / "a.parquet")
    assert list(read.columns) == ["cutout_path", "galaxy_id"]
    assert metadata == {"data_origin": "x"}


@pytest.mark.parametrize("end", ["\n", "\r"])
def test_a_csv_file_with_a_column_twice(tmp_path: Path, end: str) -> None:
    (tmp_path / "a.csv").write_text(f'cutout_path,"cutout_path"{end}a,b{end}', newline="")
    with pytest.raises(ValueError, match="has the column 'cutout_path' more than once"):
        read_manifest(tmp_path / "a.csv")


FIELDS = '<FIELD name="ra" datatype="double"/><FIELD name="dec" datatype="double"/>'


@pytest.mark.parametrize("kind", ["BINARY", "FITS"])
def test_a_catalogue_that_names_another_file(tmp_path: Path, kind: str) -> None:
    (tmp_path / "secret").write_text("a secret")
    link = f'<{kind}><STREAM href="file://{tmp_path}/secret"/></{kind}>'
    text = f"<VOTABLE><RESOURCE><TABLE>{FIELDS}<DATA>{link}</DATA></TABLE></RESOURCE></VOTABLE>"
    (tmp_path / "a.vot").write_text(text)
    with pytest.raises(ValueError, match="write them into the file"):
        read_catalogue(tmp_path / "a.vot", None)


def test_a_catalogue_that_claims_rows(tmp_path: Path) -> None:
    row = "<TABLEDATA><TR><TD>1</TD><TD>2</TD></TR></TABLEDATA>"
    table = f'<TABLE nrows="99999999999">{FIELDS}<DATA>{row}</DATA></TABLE>'
    (tmp_path / "a.vot").write_text(f"<VOTABLE><RESOURCE>{table}</RESOURCE></VOTABLE>")
    with pytest.raises(ValueError, match="has no readable table"):
        read_catalogue(tmp_path / "a.vot", None)


def test_a_value_that_pandas_cannot_read_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "far.parquet"
    days = pa.array([2**31 - 1], pa.int32()).cast(pa.date32())
    parquet.write_table(pa.table({"cutout_path": ["a.fits"], "day": days}), path)
    with pytest.raises(ValueError, match=r"far\.parquet has a value that cannot be read \(.*year"):
        read_manifest(path)


def test_columns_behind_a_name_with_a_line_break_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "wide.csv"
    names = ",".join(f"c{k}" for k in range(10_001))
    path.write_text(f'"a\nb",{names}\n1{10_001 * ",1"}\n')
    with pytest.raises(ValueError, match=r"wide\.csv has 10,002 columns; at most 10,000"):
        read_manifest(path)
