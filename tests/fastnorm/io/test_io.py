"""Tests of the readers of cutouts, on good files and on all kinds of bad files."""

from __future__ import annotations

import gzip
import io
import os
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from fastnorm.io import Cutout, CutoutError, Rejected, count_cutouts, find_cutouts, read_cutouts
from tests import SHARED

REAL = SHARED / "data" / "dr10_cutouts"


def make_pixels(seed: int = 0, shape: tuple[int, ...] = (3, 40, 41)) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def save_npz(path: Path, pixels: NDArray[Any], **meta: Any) -> Path:
    np.savez(path, cutout=pixels.transpose(1, 2, 0), **meta)
    return path


def save_fits(path: Path, pixels: NDArray[Any], checksum: bool = False, **header: Any) -> Path:
    unit = fits.PrimaryHDU(pixels)
    unit.header.update(header)
    unit.writeto(path, checksum=checksum)
    return path


def save_npy(path: Path, pixels: NDArray[Any]) -> Path:
    np.save(path, pixels)
    return path


def read_one(path: Path) -> Cutout:
    (cutout,) = read_cutouts(path)
    assert cutout.pixels.dtype == np.float32
    assert cutout.pixels.flags.c_contiguous
    assert cutout.path == path
    return cutout


def reason(path: Path) -> str:
    with pytest.raises(CutoutError) as caught:
        list(read_cutouts(path))
    assert caught.value.path == path
    assert str(caught.value) == f"{path}: {caught.value.reason}"
    rejected: list[Rejected] = []
    with warnings.catch_warnings():
        # A caller who ignores warnings must not receive a damaged image.
        warnings.simplefilter("ignore")
        assert list(read_cutouts(path, rejected)) == []
    assert rejected == [Rejected(path, caught.value.reason)]
    return caught.value.reason


def test_npz_with_its_meta(tmp_path: Path) -> None:
    pixels = make_pixels()
    meta = {"meta_galaxy_id": "0001m040_1", "meta_ra": 12.5, "meta_dec": -3.25}
    cutout = read_one(save_npz(tmp_path / "a.npz", pixels, **meta))
    assert np.array_equal(cutout.pixels, pixels)
    assert (cutout.id, cutout.ra, cutout.dec) == ("0001m040_1", 12.5, -3.25)


def test_npz_without_meta_is_named_by_its_file(tmp_path: Path) -> None:
    cutout = read_one(save_npz(tmp_path / "a.b.npz", make_pixels(), meta_ra=np.nan))
    assert (cutout.id, cutout.ra, cutout.dec) == ("a.b", None, None)


@pytest.mark.parametrize("dtype", ["<f2", ">f4", "<f8", ">f8"])
@pytest.mark.parametrize("compressed", [False, True])
def test_npz_of_any_float_and_order(tmp_path: Path, dtype: str, compressed: bool) -> None:
    pixels = make_pixels().astype(dtype)
    stored = np.asfortranarray(pixels.transpose(1, 2, 0))
    (np.savez_compressed if compressed else np.savez)(tmp_path / "a.npz", cutout=stored)
    assert np.array_equal(read_one(tmp_path / "a.npz").pixels, pixels.astype(np.float32))


@pytest.mark.parametrize("suffix", [".fits", ".fit", ".fits.gz", ".FITS"])
@pytest.mark.parametrize("checksum", [False, True])
def test_fits_primary_image(tmp_path: Path, suffix: str, checksum: bool) -> None:
    pixels = make_pixels()
    path = save_fits(tmp_path / f"a{suffix}", pixels, checksum, RA=12.5, DEC=-3.25)
    cutout = read_one(path)
    assert np.array_equal(cutout.pixels, pixels)
    assert (cutout.id, cutout.ra, cutout.dec) == ("a", 12.5, -3.25)


def test_fits_first_image_extension(tmp_path: Path) -> None:
    pixels = make_pixels()
    table = fits.BinTableHDU.from_columns([fits.Column("x", "E", array=np.zeros(3))])
    units = [fits.PrimaryHDU(), table, fits.ImageHDU(pixels), fits.ImageHDU(pixels[:2])]
    fits.HDUList(units).writeto(tmp_path / "a.fits")
    assert np.array_equal(read_one(tmp_path / "a.fits").pixels, pixels)


def test_fits_compressed_tiles(tmp_path: Path) -> None:
    pixels = make_pixels()
    unit = fits.CompImageHDU(pixels, compression_type="GZIP_1", quantize_level=0)
    fits.HDUList([fits.PrimaryHDU(), unit]).writeto(tmp_path / "a.fits.fz", checksum=True)
    cutout = read_one(tmp_path / "a.fits.fz")
    assert np.array_equal(cutout.pixels, pixels)
    assert cutout.id == "a"


def test_fits_scale_and_blank_are_honoured(tmp_path: Path) -> None:
    unit = fits.PrimaryHDU(np.arange(3 * 40 * 40, dtype=np.int16).reshape(3, 40, 40))
    unit.header.update(BSCALE=0.5, BZERO=2.0, BLANK=7)
    unit.writeto(tmp_path / "a.fits")
    pixels = read_one(tmp_path / "a.fits").pixels.ravel()
    assert np.isnan(pixels[7])
    assert np.isnan(pixels).sum() == 1
    assert pixels[10] == 7.0


@pytest.mark.parametrize(
    ("reference", "expected"), [(20.5, (10.0, -5.0)), (21, (10.0, -5.0)), (900.0, (None, None))]
)
def test_fits_position_from_wcs(
    tmp_path: Path, reference: float, expected: tuple[float | None, float | None]
) -> None:
    wcs: dict[str, Any] = {
        "CTYPE1": "RA---TAN",
        "CTYPE2": "DEC--TAN",
        "CRVAL1": 10.0,
        "CRVAL2": -5.0,
    }
    wcs |= {"CRPIX1": reference, "CRPIX2": reference}
    path = save_fits(tmp_path / "a.fits", make_pixels(shape=(3, 40, 40)), **wcs)
    cutout = read_one(path)
    assert (cutout.ra, cutout.dec) == expected


def test_npy_single(tmp_path: Path) -> None:
    pixels = make_pixels()
    cutout = read_one(save_npy(tmp_path / "one.npy", pixels))
    assert np.array_equal(cutout.pixels, pixels)
    assert cutout.id == "one"


def test_npy_stack(tmp_path: Path) -> None:
    stack = make_pixels(shape=(5, 3, 30, 31)).astype(">f8")
    path = save_npy(tmp_path / "many.npy", stack)
    cutouts = list(read_cutouts(path))
    assert [cutout.id for cutout in cutouts] == [f"many[{row:06d}]" for row in range(5)]
    assert np.array_equal([cutout.pixels for cutout in cutouts], stack.astype(np.float32))
    assert count_cutouts(path) == 5


def test_a_bad_row_of_a_stack_leaves_the_others(tmp_path: Path) -> None:
    stack = make_pixels(shape=(4, 3, 30, 30))
    stack[2] = np.nan
    path = save_npy(tmp_path / "many.npy", stack)
    rejected: list[Rejected] = []
    rows = [cutout.id[-2] for cutout in read_cutouts(path, rejected)]
    assert rows == ["0", "1", "3"]
    assert [item.path for item in rejected] == [path]
    assert "every pixel of row 2 is NaN" in rejected[0].reason
    with pytest.raises(CutoutError, match="row 2"):
        list(read_cutouts(path))


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real cutouts at {REAL.name}")
def test_real_cutouts() -> None:
    cutouts = [cutout for path in find_cutouts([REAL]) for cutout in read_cutouts(path)]
    assert len(cutouts) == 4
    assert cutouts[0].id == cutouts[0].path.stem == "0001m040_4091"
    for cutout in cutouts:
        with np.load(cutout.path, allow_pickle=False) as archive:
            assert np.array_equal(cutout.pixels, archive["cutout"].transpose(2, 0, 1))
            assert (cutout.ra, cutout.dec) == (archive["meta_ra"], archive["meta_dec"])


SAVERS: dict[str, Callable[[Path, NDArray[Any]], Path]] = {
    ".npz": save_npz,
    ".fits": save_fits,
    ".npy": save_npy,
}


@pytest.fixture(params=SAVERS)
def suffix(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_every_pixel_nan(tmp_path: Path, suffix: str) -> None:
    path = SAVERS[suffix](tmp_path / f"a{suffix}", np.full((3, 30, 30), np.nan, np.float32))
    assert "every pixel of the cutout is NaN" in reason(path)


def test_wrong_number_of_bands(tmp_path: Path, suffix: str) -> None:
    path = SAVERS[suffix](tmp_path / f"a{suffix}", make_pixels(shape=(4, 30, 31)))
    shape = "(30, 31, 4)" if suffix == ".npz" else "(4, 30, 31)"
    assert f"has shape {shape}; expected" in reason(path)


def test_one_band_only(tmp_path: Path, suffix: str) -> None:
    save = {".npz": lambda path, pixels: np.savez(path, cutout=pixels)}.get(suffix, SAVERS[suffix])
    save(tmp_path / f"a{suffix}", make_pixels(shape=(30, 31)))
    assert "has shape (30, 31)" in reason(tmp_path / f"a{suffix}")


def test_integers_are_no_fluxes(tmp_path: Path, suffix: str) -> None:
    path = SAVERS[suffix](tmp_path / f"a{suffix}", np.ones((3, 30, 30), np.int32))
    assert "expected a floating-point dtype, in nanomaggies" in reason(path)


def test_values_beyond_float32(tmp_path: Path, suffix: str) -> None:
    pixels = make_pixels().astype(np.float64)
    pixels[0, 0, 0] = 1e39
    path = SAVERS[suffix](tmp_path / f"a{suffix}", pixels)
    assert "beyond the range of float32" in reason(path)


def test_empty_file_and_other_text(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.touch()
    assert "the file is empty (0 bytes)" in reason(path)
    path.write_bytes(b"neither a header nor pixels\n" * 200)
    assert "is damaged, or its content does not match its suffix" in reason(path)


def test_truncated_anywhere(tmp_path: Path, suffix: str) -> None:
    path = SAVERS[suffix](tmp_path / f"a{suffix}", make_pixels())
    content = path.read_bytes()
    for length in [1, 5, 9, 60, 100, 127, 130, 2000, 2880, 4000, len(content) * 2 // 3]:
        path.write_bytes(content[:length])
        assert reason(path)


def test_any_changed_byte_is_named_or_harmless(tmp_path: Path, suffix: str) -> None:
    path = SAVERS[suffix](tmp_path / f"a{suffix}", make_pixels(shape=(3, 10, 10)))
    content = path.read_bytes()
    rng = np.random.default_rng(5)
    for place in np.unique(rng.integers(0, min(len(content), 1500), 120)):
        changed = bytearray(content)
        changed[place] ^= int(rng.integers(1, 256))
        path.write_bytes(changed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rejected: list[Rejected] = []
            assert len(list(read_cutouts(path, rejected))) + len(rejected) == 1


def test_trailing_bytes_of_an_array(tmp_path: Path) -> None:
    path = save_npy(tmp_path / "a.npy", make_pixels())
    path.write_bytes(path.read_bytes() + b"more")
    assert "cut short or damaged" in reason(path)


def test_truncated_gzip(tmp_path: Path) -> None:
    content = save_fits(tmp_path / "a.fits", make_pixels()).read_bytes()
    path = tmp_path / "b.fits.gz"
    path.write_bytes(gzip.compress(content)[:-2000])
    assert "damaged" in reason(path)


def test_wrong_fits_checksum(tmp_path: Path) -> None:
    path = save_fits(tmp_path / "a.fits", make_pixels(), checksum=True)
    content = bytearray(path.read_bytes())
    content[-3000] ^= 1
    path.write_bytes(content)
    assert "a checksum in it does not match" in reason(path)


def test_fits_cut_short_behind_its_image_or_without_one(tmp_path: Path) -> None:
    units = [fits.PrimaryHDU(make_pixels()), fits.ImageHDU(make_pixels())]
    fits.HDUList(units).writeto(tmp_path / "a.fits")
    content = (tmp_path / "a.fits").read_bytes()
    (tmp_path / "a.fits").write_bytes(content[:-5000])
    assert "truncated" in reason(tmp_path / "a.fits")
    fits.HDUList([fits.PrimaryHDU()]).writeto(tmp_path / "b.fits")
    assert "has no image" in reason(tmp_path / "b.fits")


def test_npz_without_the_key(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", image=make_pixels(), weight=make_pixels())
    assert reason(tmp_path / "a.npz") == "has no array 'cutout'; found image, weight."


def test_npz_of_objects_is_not_unpickled(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", cutout=np.array([[[1, None, "x"]]], dtype=object))
    assert "contains Python objects, which are never loaded" in reason(tmp_path / "a.npz")


def test_npz_of_object_meta_is_not_unpickled(tmp_path: Path) -> None:
    meta = np.array(None, dtype=object)
    save_npz(tmp_path / "a.npz", make_pixels(), meta_galaxy_id=meta)
    assert "contains Python objects, which are never loaded" in reason(tmp_path / "a.npz")


def test_npz_with_a_wrong_crc(tmp_path: Path) -> None:
    path = save_npz(tmp_path / "a.npz", make_pixels())
    content = bytearray(path.read_bytes())
    content[2000] ^= 1
    path.write_bytes(content)
    assert "Bad CRC-32" in reason(path)


def claim(shape: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue() + bytes(64)


@pytest.mark.parametrize("shape", [(10**9, 3, 101, 101), (-1, 3, 40, 40), (2**70, 3, 4, 4)])
def test_absurd_sizes_are_refused_before_memory_is_taken(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    (tmp_path / "a.npy").write_bytes(claim(shape))
    assert "its header states shape" in reason(tmp_path / "a.npy")
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("cutout.npy", claim((*shape[1:], shape[0])))
    assert "its header states shape" in reason(tmp_path / "a.npz")


def test_stack_in_fortran_order_or_of_nothing(tmp_path: Path) -> None:
    save_npy(tmp_path / "a.npy", np.asfortranarray(make_pixels()))
    assert "in Fortran order" in reason(tmp_path / "a.npy")
    save_npy(tmp_path / "b.npy", make_pixels(shape=(0, 3, 30, 30)))
    assert "has shape (0, 3, 30, 30); expected" in reason(tmp_path / "b.npy")


def test_file_that_shrinks_while_it_is_read(tmp_path: Path) -> None:
    path = save_npy(tmp_path / "a.npy", make_pixels(shape=(50, 3, 40, 40)))
    full = path.stat().st_size
    rejected: list[Rejected] = []
    cutouts = read_cutouts(path, rejected)
    next(cutouts)
    os.truncate(path, 200_000)
    left = list(cutouts)
    assert len(left) < 49
    assert [item.path for item in rejected] == [path]
    assert f"shrank from {full} to 200000 bytes while row" in rejected[0].reason


def test_unknown_suffix_and_missing_file(tmp_path: Path) -> None:
    assert "has an unknown suffix; expected one of .npz" in reason(tmp_path / "a.txt")
    assert "No such file" in reason(tmp_path / "a.npy")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.npy")
    assert reason(tmp_path / "a.npy").startswith("is a pipe, not a regular file")


def test_without_astropy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_fits(tmp_path / "a.fits", make_pixels())
    monkeypatch.setitem(sys.modules, "astropy.io", None)
    with pytest.raises(ImportError, match=r"pip install '\.\[cli\]' in a checkout"):
        list(read_cutouts(path))


def test_find_in_folders_files_and_patterns(tmp_path: Path) -> None:
    names = ["b.npz", "a.npy", "in/c.fits", "in/d.fits.gz", "in/deep/e.fit", "f.fits.fz"]
    for name in [*names, "notes.txt", ".z.npy.tmp-1"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert find_cutouts([tmp_path]) == sorted(tmp_path / name for name in names)
    assert find_cutouts([str(tmp_path / "*.np?")]) == [tmp_path / "a.npy", tmp_path / "b.npz"]
    assert find_cutouts([tmp_path / "**/*.fit*"]) == [
        tmp_path / name for name in ["f.fits.fz", "in/c.fits", "in/d.fits.gz", "in/deep/e.fit"]
    ]
    twice = find_cutouts([tmp_path / "b.npz", tmp_path, tmp_path / "notes.txt"])
    assert twice[0] == tmp_path / "b.npz"
    assert len(twice) == len(names) + 1


def test_find_a_name_with_brackets(tmp_path: Path) -> None:
    path = tmp_path / "field[1].npz"
    path.touch()
    assert find_cutouts([path]) == [path]


def test_find_names_what_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.npz").touch()
    wanted = [tmp_path / name for name in ["*.fits", "none.npz", "empty", "a.npz"]]
    rejected: list[Rejected] = []
    assert find_cutouts(wanted, rejected) == [tmp_path / "a.npz"]
    assert [item.path for item in rejected] == wanted[:3]
    expected = ["the pattern matches no file", "does not exist", "the folder has no file"]
    for item, text, path in zip(rejected, expected, wanted, strict=False):
        assert text in item.reason
        with pytest.raises(CutoutError, match=text):
            find_cutouts([path])
