"""Damaged and odd NumPy archives and arrays, compared with NumPy."""

from __future__ import annotations

import io
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from fastnorm.io import Cutout
from tests.faults.fuzz.budget import Budget
from tests.faults.fuzz.cutout_cases import read, reason_of
from tests.faults.fuzz.mutate import Damaged, damaged
from tests.faults.fuzz.watch import OWN_BYTES

pytestmark = pytest.mark.fuzz

IMAGE = np.random.default_rng(1).normal(size=(3, 4, 5)).astype(np.float32)
MASK = np.random.default_rng(2).random((4, 5)) < 0.2


class Runs:
    """An object that writes a file when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return eval, ("open('unpickled', 'w').close()",)


def saved(save: Callable[..., None], *arrays: Any, **named: Any) -> bytes:
    stream = io.BytesIO()
    save(stream, *arrays, **named)
    return stream.getvalue()


META = {"meta_galaxy_id": "0001m040_1", "meta_ra": 12.5, "meta_dec": np.float32(-3.25)}
LAST = IMAGE.transpose(1, 2, 0)
ARCHIVES = {
    "plain": saved(np.savez, cutout=LAST),
    "meta": saved(np.savez, cutout=LAST.astype(">f8"), **META),
    "mask": saved(np.savez_compressed, cutout=LAST, mask=MASK, **META),
    "masks": saved(np.savez, cutout=LAST, mask=np.stack([MASK] * 3, 2).astype(np.uint8), more=LAST),
    "objects": saved(np.savez, cutout=LAST, meta_galaxy_id=np.array(Runs(), object)),
    "half": saved(np.savez_compressed, cutout=np.asfortranarray(LAST.astype(np.float16))),
}
ARRAYS = {
    "one": saved(np.save, IMAGE),
    "stack": saved(np.save, np.stack([IMAGE, IMAGE + 1, np.full_like(IMAGE, np.nan)])),
    "fortran": saved(np.save, np.asfortranarray(IMAGE)),
    "doubles": saved(np.save, IMAGE.astype(">f8")),
    "objects": saved(np.save, np.array([Runs()] * 3, object)),
    "pickle": pickle.dumps(IMAGE),
}
MEMBERS = ARRAYS | {
    "cutout": saved(np.save, LAST),
    "mask": saved(np.save, MASK),
    "id": saved(np.save, np.array("0001m040_1")),
    "ra": saved(np.save, np.array(12.5)),
    "nothing": b"",
}


def same_as_numpy(cutout: Cutout, path: Path) -> None:
    """Assert that NumPy reads the same pixels and the same mask."""
    with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
        pixels = archive["cutout"].transpose(2, 0, 1).astype(np.float32)
        assert np.array_equal(cutout.pixels, pixels, equal_nan=True)
        if cutout.mask is None:
            assert "mask" not in archive
            return
        mask = archive["mask"]
        mask = mask.transpose(2, 0, 1) if mask.ndim == 3 else mask
        assert np.array_equal(cutout.mask, np.broadcast_to(mask != 0, cutout.pixels.shape))


def numpy_reads(path: Path) -> bool:
    """Return whether NumPy finds everything that a cutout needs in an archive."""
    is_array = True
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as archive:
            for name in ("mask", *META):
                if {f"{name}.npy", name} & {*archive.files}:
                    is_array = is_array and isinstance(archive[name], np.ndarray)
            cutout = archive["cutout"]
    # Any error means that NumPy cannot read the archive.
    except Exception:
        return False
    if not (is_array and isinstance(cutout, np.ndarray)):
        return False
    is_image = cutout.ndim == 3 and cutout.shape[2] == 3 and cutout.dtype.kind == "f"
    return bool(is_image and np.isfinite(cutout).any() and (np.abs(cutout) < 1e38).all())


STRICTER = (
    "is compressed by method",
    *("has .npy version", "its array 'mask'", "contains Python objects", "bytes in total, but"),
    *("more than once", "bytes; at most", "has no array 'cutout'"),
)
"""Reasons for refusing files that NumPy reads."""


def check_archive(path: Path, content: bytes) -> bool:
    cutouts, rejected = read(path, content, unpacked=OWN_BYTES)
    assert len(cutouts) + len(rejected) == 1
    if cutouts:
        same_as_numpy(cutouts[0], path)
        assert reason_of(path) is None
        return True
    assert reason_of(path) == rejected[0].reason
    if not any(words in rejected[0].reason for words in STRICTER):
        assert not numpy_reads(path), rejected[0].reason
    return False


def test_fuzz_archives(budget: Budget, tmp_path: Path) -> None:
    def accepts(file: Damaged) -> bool:
        return check_archive(tmp_path / "a.npz", file.content)

    budget.spend("npz, damaged", damaged(ARCHIVES), accepts)


NAMES = ("cutout.npy", "mask.npy", "meta_galaxy_id.npy", "meta_ra.npy", "meta_dec.npy", "cutout")
KINDS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
SIZES = (0, 1, 100, 2**20, 2**31, 2**32 - 1)

Parts = list[tuple[str, Damaged, int]]
Lies = list[tuple[int, int, int]]


def archive_of(parts: Parts, lies: Lies) -> bytes:
    """Return a valid archive of damaged arrays, perhaps with a false size in its directory."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, part, kind in parts:
            info = zipfile.ZipInfo(name)
            info.compress_type = kind
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Duplicate name")
                archive.writestr(info, part.content)
    content = bytearray(stream.getvalue())
    places = [at for at in range(len(content) - 4) if content[at : at + 4] == b"PK\x01\x02"]
    for which, field, size in lies if places else ():
        at = places[which % len(places)] + (20, 24)[field]
        content[at : at + 4] = struct.pack("<I", size)
    return bytes(content)


def test_fuzz_archives_of_odd_arrays(budget: Budget, tmp_path: Path) -> None:
    name = st.sampled_from(NAMES) | st.text(min_size=1, max_size=12).filter(_can_be_a_name)
    part = st.tuples(name, damaged(MEMBERS, most=2), st.sampled_from(KINDS))
    lie = st.tuples(st.integers(0, 5), st.integers(0, 1), st.sampled_from(SIZES))
    inputs = st.tuples(
        st.tuples(st.just("cutout.npy"), damaged({"cutout": MEMBERS["cutout"]}), st.just(0)),
        st.lists(part, max_size=5),
        st.lists(lie, max_size=1),
    )

    def accepts(given: tuple[tuple[str, Damaged, int], Parts, Lies]) -> bool:
        first, parts, lies = given
        return check_archive(tmp_path / "a.npz", archive_of([first, *parts], lies))

    budget.spend("npz of odd arrays", inputs, accepts)


def _can_be_a_name(name: str) -> bool:
    try:
        zipfile.ZipInfo(name)
        return bool(name.encode())
    except ValueError:
        return False


def test_fuzz_arrays(budget: Budget, tmp_path: Path) -> None:
    path = tmp_path / "a.npy"

    def accepts(file: Damaged) -> bool:
        cutouts, rejected = read(path, file.content)
        if cutouts:
            stack = np.load(path, allow_pickle=False)
            rows = stack if stack.ndim == 4 else stack[None]
            assert len(rows) == len(cutouts) + len(rejected)
            for cutout in cutouts:
                row = int(cutout.id[-7:-1]) if stack.ndim == 4 else 0
                with np.errstate(over="ignore"):
                    expected = rows[row].astype(np.float32)
                assert np.array_equal(cutout.pixels, expected, equal_nan=True)
        return bool(cutouts)

    budget.spend("npy, damaged", damaged(ARRAYS), accepts)


numbers = st.integers() | st.sampled_from((3, 4, 5, 60, 240, -1, 2**31, 2**63, 10**400))
lengths = numbers | st.booleans() | st.none() | st.floats() | st.text(max_size=3)
descriptions = st.recursive(
    st.sampled_from(("<f4", ">f8", "<f2", "<f16", "|O", "<U9", "|V4", "<c8", "|b1", "<M8[s]", "f"))
    | st.text(max_size=6)
    | numbers
    | st.sampled_from(("(2,3)<f4", "<f4,<f4", "|S0", "<f4" * 50, "(10000000000,)<f4", "(0,)f4")),
    lambda inner: (
        st.lists(st.tuples(st.text(max_size=3), inner), max_size=3)
        | st.tuples(inner, st.tuples(numbers))
        | st.lists(st.tuples(st.text(max_size=3), inner, st.tuples(numbers)), max_size=2)
    ),
    max_leaves=6,
)
headers = st.fixed_dictionaries(
    {
        "descr": descriptions | st.just("<f4"),
        "fortran_order": st.sampled_from((False, True, None, 0, 1.5, "x")),
        "shape": st.just((3, 4, 5))
        | st.just((4, 5, 3))
        | st.lists(lengths, max_size=5).map(tuple)
        | st.lists(lengths, max_size=3)
        | numbers,
    },
    optional={"more": numbers, "Descr": descriptions},
)
texts = headers.map(repr) | st.text(max_size=60) | st.integers(1, 3000).map(lambda n: "(" * n)
versions = st.sampled_from(((1, 0), (2, 0), (3, 0), (0, 0), (255, 255)))


def array_of(text: str, version: tuple[int, int], length: int | None, size: int) -> bytes:
    """Return a .npy file with any header, and perhaps a false header length."""
    content = text.encode()
    count = len(content) if length is None else length
    width = 2 if version == (1, 0) else 4
    start = b"\x93NUMPY" + bytes(version) + (count % 256**width).to_bytes(width, "little")
    result: bytes = start + content + bytes(range(1, 101)) * (size // 100) + bytes(size % 100)
    return result


def test_fuzz_headers(budget: Budget, tmp_path: Path) -> None:
    size = st.sampled_from((240, 480, 120, 0, 60, 1000))
    length = st.none() | st.none() | st.sampled_from((0, 1, 65535, 2**32 - 1, 2**31))
    inputs = st.builds(array_of, texts, versions, length, size)

    def accepts(content: bytes) -> bool:
        path = tmp_path / "a.npy"
        cutouts, _ = read(path, content)
        if cutouts:
            assert np.load(path, allow_pickle=False).size
        return check_archive(tmp_path / "a.npz", _alone(content)) or bool(cutouts)

    budget.spend("npy, odd headers", inputs, accepts)


def _alone(content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("cutout.npy", content)
    return stream.getvalue()
