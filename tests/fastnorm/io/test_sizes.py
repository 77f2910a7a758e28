"""Tests that files that are, or claim to be, far too large are rejected before allocation."""

from __future__ import annotations

import gzip
import io
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from astropy.io import fits
from pyarrow import parquet

from dhs import checkpoint
from dhs.audit.artefacts import find_artefacts
from dhs.checkpoint import CheckpointError
from dhs.pack import open_pack
from dhs.simulate.config import read_survey_config
from dhs.train.config import read_config
from fastnorm.io import CutoutError, read_cutouts
from fastnorm.io.cutout import MOST_BYTES
from fastnorm.io.numpy_files import load_mask
from tests.faults.fuzz.watch import watched

PIXELS = np.random.default_rng(1).normal(size=(3, 8, 9)).astype(np.float32)
HUGE = 2**34


def reason(path: Path, size: int = 0, read: Callable[[Path], object] | None = None) -> str:
    """Return why a file is rejected; check that this uses memory for ``size`` bytes at most."""
    with watched(size), pytest.raises(CutoutError) as caught:
        list(read_cutouts(path)) if read is None else read(path)
    return caught.value.reason


def zeros(mebibytes: int) -> bytes:
    """Deflate zeros without holding them in memory, by repeating one block."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    return block * mebibytes + packer.flush()


def header(shape: tuple[int, ...], version: int = 1, claims: int | None = None) -> bytes:
    text = repr({"descr": "<f4", "fortran_order": False, "shape": shape}).encode() + b"\n"
    width = 2 if version == 1 else 4
    length = len(text) if claims is None else claims
    return b"\x93NUMPY" + bytes([version, 0]) + length.to_bytes(width, "little") + text


def archive(
    path: Path, content: bytes, size: int, name: str = "cutout.npy", checksum: int = 0
) -> Path:
    """Write an archive of one deflated entry, with any size in its directory."""
    numbers = (20, 0, 8, 0, 0, checksum, len(content), size, len(name), 0)
    common = struct.pack("<HHHHHIIIHH", *numbers)
    local = b"PK\x03\x04" + common + name.encode() + content
    entry = b"PK\x01\x02\x14\0" + common + struct.pack("<HHHII", 0, 0, 0, 0, 0) + name.encode()
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 1, 1, len(entry), len(local), 0)
    path.write_bytes(local + entry + end)
    return path


def deflated(content: bytes) -> bytes:
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush()


def test_zip_bomb(tmp_path: Path) -> None:
    bomb = archive(tmp_path / "a.npz", zeros(4000), 4000 * 2**20)
    assert bomb.stat().st_size < 2**23
    assert "its array 'cutout' takes 4,194,304,000 bytes; at most" in reason(bomb)
    mask = archive(tmp_path / "b.npz", zeros(4000), 4000 * 2**20, "mask.npy")
    assert "its array 'mask' takes" in reason(mask, read=load_mask)


def test_a_directory_that_lies(tmp_path: Path) -> None:
    array = header((8, 9, 3))
    small = archive(tmp_path / "a.npz", deflated(array) + zeros(2000), len(array) + 8 * 9 * 3 * 4)
    assert "gave" in reason(small) or "Bad CRC" in reason(small)
    large = archive(tmp_path / "b.npz", deflated(array + PIXELS.tobytes()), 2**32 - 2)
    assert "takes 4,294,967,294 bytes" in reason(large)
    # A claimed size within the limit: no memory is allocated before the data exist.
    claimed = MOST_BYTES - len(header((2**20, 64, 1)))
    shape = (claimed // 12, 1, 3)
    array = header(shape)
    size = len(array) + shape[0] * 12
    half = archive(tmp_path / "c.npz", deflated(array), size, checksum=zlib.crc32(array))
    assert "cut short or damaged" in reason(half)


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_headers_of_arrays_that_claim_gigabytes(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    for shape in ((10**9, 3, 101, 101), (2**62, 3, 1, 1)):
        _put(path, header(shape))
        assert "its header states shape" in reason(path)
    _put(path, header((3, 8, 9), 2, claims=2**32 - 1))
    assert "its header takes 4,294,967,295 bytes" in reason(path)


def _put(path: Path, array: bytes) -> None:
    if path.suffix == ".npz":
        archive(path, deflated(array), len(array), checksum=zlib.crc32(array))
    else:
        path.write_bytes(array)


def test_a_cutout_of_a_stack_that_is_too_large(tmp_path: Path) -> None:
    side = 8192
    start = header((1, 3, side, side))
    path = tmp_path / "a.npy"
    path.write_bytes(start)
    os.truncate(path, len(start) + 3 * side * side * 4)
    assert "one cutout in it takes 805,306,368 bytes" in reason(path)


def test_a_million_entries(tmp_path: Path) -> None:
    one = archive(tmp_path / "a.npz", b"", 0).read_bytes()
    local, _, rest = one.partition(b"PK\x01\x02")
    entries = (b"PK\x01\x02" + rest.partition(b"PK\x05\x06")[0]) * 10**6
    end = struct.pack("<4s4H2IH", b"PK\x05\x06", 0, 0, 1, 1, len(entries), len(local), 0)
    (tmp_path / "a.npz").write_bytes(local + entries + end)
    assert "a part of it takes 56,000,000 bytes" in reason(tmp_path / "a.npz")
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as file:
        for k in range(5000):
            file.writestr(f"{k}", b"")
    assert "has 5,000 entries" in reason(tmp_path / "b.npz")


def test_gzip_bomb_that_does_not_say_so(tmp_path: Path) -> None:
    stream = io.BytesIO()
    fits.PrimaryHDU(PIXELS).writeto(stream)
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    start = packer.compress(stream.getvalue()) + packer.flush(zlib.Z_FULL_FLUSH)
    (tmp_path / "a.fits").write_bytes(gzip.compress(b"")[:10] + start + zeros(4000))
    assert "the unpacked file takes" in reason(tmp_path / "a.fits", MOST_BYTES // 8)


def card(content: bytes, name: str, value: object) -> bytes:
    at = content.rindex(f"{name:8}=".encode())
    return content[:at] + f"{name:8}= {value!s:>20}".encode().ljust(80) + content[at + 80 :]


def test_fits_that_claims_terabytes(tmp_path: Path) -> None:
    stream = io.BytesIO()
    fits.PrimaryHDU(PIXELS).writeto(stream)
    content = stream.getvalue()
    for axis in (1, 2):
        content = card(content, f"NAXIS{axis}", 10**6)
    (tmp_path / "a.fits").write_bytes(content)
    assert "truncated" in reason(tmp_path / "a.fits")


@pytest.mark.parametrize("name", ["NAXIS", "TFIELDS", "ZNAXIS"])
def test_fits_that_claims_billions_of_axes_or_columns(tmp_path: Path, name: str) -> None:
    content = card(tiled(quantize_level=0), name, 2**31 - 1)
    (tmp_path / "a.fits").write_bytes(content)
    assert "= 2147483647 is above the FITS limit of 999" in reason(tmp_path / "a.fits")


def tiled(**options: Any) -> bytes:
    stream = io.BytesIO()
    image = fits.CompImageHDU(PIXELS, name="IMAGE", compression_type="GZIP_1", **options)
    fits.HDUList([fits.PrimaryHDU(), image]).writeto(stream)
    return stream.getvalue()


def test_tiles_that_claim_terabytes(tmp_path: Path) -> None:
    content = tiled(quantize_level=0)
    for axis in (1, 2):
        content = card(content, f"ZNAXIS{axis}", 10**6)
    (tmp_path / "a.fits.fz").write_bytes(content)
    assert "its image takes 12,000,000,000,000 bytes" in reason(tmp_path / "a.fits.fz")


def test_tiles_that_are_bombs(tmp_path: Path) -> None:
    content = bytearray(tiled(quantize_level=0, tile_shape=(3, 8, 9)))
    bomb = gzip.compress(b"")[:10] + zeros(4000)
    table = content.rindex(b"END" + b" " * 77)
    data = (table // 2880 + 1) * 2880
    content[data : data + 8] = struct.pack(">II", len(bomb), 0)
    content = bytearray(card(bytes(content), "PCOUNT", len(bomb)))
    whole = bytes(content[: data + 8]) + bomb
    whole += bytes(-len(whole) % 2880)
    (tmp_path / "a.fits.fz").write_bytes(whole)
    assert "its unpacked content takes" in reason(tmp_path / "a.fits.fz", 2**20)


def sparse(path: Path, start: bytes, size: int, end: bytes = b"") -> Path:
    """Write a sparse file, which takes no space on the disk."""
    path.write_bytes(start)
    with path.open("r+b") as stream:
        stream.truncate(size)
        stream.seek(0, os.SEEK_END)
        stream.write(end)
    return path


def test_files_of_cutouts_that_are_too_large(tmp_path: Path) -> None:
    assert "the file takes" in reason(sparse(tmp_path / "a.fits", b"SIMPLE  =", HUGE))
    assert "the file takes" in reason(
        sparse(tmp_path / "a.npy", b"\x93NUMPY", HUGE), read=load_mask
    )


@pytest.mark.parametrize("length", [2**25, 10**9, 2**63])
def test_header_of_a_checkpoint(tmp_path: Path, length: int) -> None:
    path = sparse(tmp_path / "a.safetensors", struct.pack("<Q", length) + b"{", HUGE)
    with watched(0), pytest.raises(CheckpointError, match=f"a header of {length:,} bytes"):
        checkpoint.read(path)


BOMB = "a: &a [1, 1]\n" + "".join(
    f"{chr(k)}: &{chr(k)} [*{chr(k - 1)}, *{chr(k - 1)}]\n" for k in range(98, 123)
)


@pytest.mark.parametrize("read", [read_config, read_survey_config])
def test_configurations(tmp_path: Path, read: Callable[[Path], object]) -> None:
    path = tmp_path / "a.yaml"
    for text, said in ((BOMB, "references"), ("a: " + "[" * 500, "nested too deeply")):
        path.write_text(text)
        with watched(0), pytest.raises(ValueError, match=said):
            read(path)
    sparse(path, b"train: {}\n", 10**8)
    with watched(0), pytest.raises(ValueError, match="has more than 65,536 bytes"):
        read(path)


@pytest.mark.parametrize(
    "name", ["evaluation.json", "comparison.json", "realism.json", "grid.json"]
)
def test_reports(tmp_path: Path, name: str) -> None:
    sparse(tmp_path / name, b'{"a": "', 10**9)
    with watched(0):
        found = find_artefacts([tmp_path])
    (rejected,) = found.rejected
    assert "bytes, too many for a file written by dhs" in rejected.reason
    (tmp_path / name).write_text("[" * 10**5)
    (rejected,) = find_artefacts([tmp_path]).rejected
    assert "not valid JSON" in rejected.reason


def test_metadata_of_tables(tmp_path: Path) -> None:
    path = tmp_path / "manifest.parquet"
    sparse(path, b"PAR1", 10**9, struct.pack("<I", 9 * 10**8) + b"PAR1")
    with watched(0, is_traced=False):
        found = find_artefacts([tmp_path])
    (rejected,) = found.rejected
    assert "900,000,000 bytes" in rejected.reason
    with watched(0, is_traced=False), pytest.raises(ValueError, match="900,000,000 bytes"):
        open_pack(tmp_path)


def test_metadata_that_are_nested_too_deeply(tmp_path: Path) -> None:
    table = pyarrow.table({"a": [1]}).replace_schema_metadata({"dhs": "[" * 10**5})
    parquet.write_table(table, tmp_path / "manifest.parquet")
    with pytest.raises(ValueError, match="are not valid JSON"):
        open_pack(tmp_path)
    (rejected,) = find_artefacts([tmp_path]).rejected
    assert "not valid JSON" in rejected.reason
