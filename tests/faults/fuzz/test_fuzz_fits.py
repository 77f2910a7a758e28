"""Damaged FITS files, odd cards, compressed and tiled files, compared with astropy."""

from __future__ import annotations

import gzip
import io
import warnings
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from fastnorm.io import Cutout
from fastnorm.io.maskbits import MaskBits
from tests.faults.fuzz.budget import Budget
from tests.faults.fuzz.cutout_cases import read, reason_of
from tests.faults.fuzz.mutate import Damaged, damaged, with_changes
from tests.faults.fuzz.watch import OWN_BYTES

pytestmark = pytest.mark.fuzz

RNG = np.random.default_rng(1)
IMAGE = RNG.normal(size=(3, 8, 9)).astype(np.float32)
INVVAR = RNG.random((3, 8, 9)).astype(np.float32) - 0.1
BITS = RNG.integers(0, 2**14, (8, 9)).astype(np.int32)
WCS: dict[str, Any] = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 10.5, "CRVAL2": -5.0}
WCS |= {"CRPIX1": 5.0, "CRPIX2": 4.5, "CD1_1": -7.3e-5, "CD2_2": 7.3e-5}


def written(*units: Any, checksum: bool = False, **header: Any) -> bytes:
    stream = io.BytesIO()
    units[0].header.update(header)
    fits.HDUList(list(units)).writeto(stream, checksum=checksum)
    return stream.getvalue()


def named(name: str, data: Any, kind: Any = fits.ImageHDU, **options: Any) -> Any:
    return kind(data, name=name, **options)


def tiled(**options: Any) -> Any:
    return named("IMAGE", IMAGE, fits.CompImageHDU, **options)


TABLE = fits.BinTableHDU.from_columns([fits.Column("x", "E", array=np.zeros(3))])
FILES = {
    "primary": written(fits.PrimaryHDU(IMAGE), RA=12.5, DEC=-3.25, BUNIT="nanomaggy", **WCS),
    "checksum": written(fits.PrimaryHDU(IMAGE), checksum=True),
    "survey": written(
        *(fits.PrimaryHDU(), named("IMAGE", IMAGE), named("INVVAR", INVVAR)),
        named("MASKBITS", BITS),
    ),
    "griz": written(fits.PrimaryHDU(RNG.normal(size=(4, 8, 9)).astype(">f8")), BANDS="griz"),
    "mask": written(
        fits.PrimaryHDU(), TABLE, named("", IMAGE), named("MASK", (BITS & 1).astype(np.uint8))
    ),
    "scaled": written(
        fits.PrimaryHDU(BITS.astype(np.int16)[None].repeat(3, 0)), BSCALE=0.5, BZERO=2.0, BLANK=7
    ),
    "gzip": gzip.compress(written(fits.PrimaryHDU(IMAGE)), mtime=0),
    "text": written(fits.PrimaryHDU(IMAGE), LONG="a quote ' and more, " * 9, HISTORY="made up"),
    "tiles": written(fits.PrimaryHDU(), tiled(compression_type="GZIP_2", quantize_level=0)),
    "rice": written(fits.PrimaryHDU(), tiled(compression_type="RICE_1", quantize_level=16)),
    "hcompress": written(
        fits.PrimaryHDU(),
        tiled(compression_type="HCOMPRESS_1", quantize_level=16, tile_shape=(1, 8, 9)),
    ),
    "plio": written(
        *(fits.PrimaryHDU(), tiled(compression_type="GZIP_1")),
        named("MASKBITS", BITS & 255, fits.CompImageHDU, compression_type="PLIO_1"),
    ),
}
PLAIN = {name: content for name, content in FILES.items() if name != "gzip"}


LATE = ("Unparsable", "CONTINUE cards must")
"""Errors that astropy raises only when a damaged card is accessed."""


def check(path: Path, content: bytes, unpacked: int = OWN_BYTES) -> bool:
    cutouts, rejected = read(path, content, unpacked)
    assert len(cutouts) + len(rejected) == 1
    if rejected:
        assert reason_of(path) == rejected[0].reason
        reason = rejected[0].reason
        is_damaged = reason.startswith("is damaged") and not any(map(reason.count, LATE))
        assert not is_damaged or not astropy_reads(content), reason
        return False
    same_as_astropy(cutouts[0], content)
    return True


def same_as_astropy(cutout: Cutout, content: bytes) -> None:
    with warnings.catch_warnings(), ExitStack() as exits:
        warnings.simplefilter("ignore")
        units = exits.enter_context(fits.open(io.BytesIO(_plain(content))))
        images = [unit for unit in units if unit.is_image and unit.shape]
        others = [unit for unit in images if unit.name not in ("INVVAR", "MASKBITS", "MASK")]
        image = next((unit for unit in images if unit.name == "IMAGE"), others[0])
        bands = str(image.header.get("BANDS", "")).strip()
        planes = list(map(bands.index, "grz")) if len(bands) == image.shape[0] else [0, 1, 2]
        pixels = image.data[planes].astype(np.float32)
        assert np.array_equal(cutout.pixels, pixels, equal_nan=True)
        # Others may be damaged.
        masks = [unit for unit in images if unit.name in ("INVVAR", "MASKBITS", "MASK")]
        found = {unit.name: unit.data for unit in reversed(masks)}
        bad = np.zeros(pixels.shape, bool)
        if "INVVAR" in found:
            bad |= ~(found["INVVAR"][planes] > 0)
        if "MASKBITS" in found:
            bits = found["MASKBITS"]
            bad |= MaskBits().mask(bits[0] if bits.ndim == 3 else bits)
        if "MASK" in found:
            bad |= found["MASK"] != 0
        if found:
            assert cutout.mask is not None
            assert np.array_equal(cutout.mask, bad)
        else:
            assert cutout.mask is None


def astropy_reads(content: bytes) -> bool:
    """Return whether astropy reads, without a warning, an image of three bands."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with fits.open(io.BytesIO(_plain(content)), checksum=True) as units:
                data = [unit.data for unit in units if unit.is_image and unit.shape]
    # Any error means that astropy cannot read the file.
    except Exception:
        return False
    return any(item is not None and item.ndim == 3 and item.dtype.kind == "f" for item in data)


def _plain(content: bytes) -> bytes:
    return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content


def test_fuzz_fits(budget: Budget, tmp_path: Path) -> None:
    def accepts(file: Damaged) -> bool:
        return check(tmp_path / "a.fits", file.content)

    budget.spend("fits, damaged", damaged(FILES), accepts)


KEYS = (
    *("SIMPLE", "BITPIX", "NAXIS", "NAXIS1", "NAXIS2", "NAXIS3", "NAXIS4", "EXTEND", "XTENSION"),
    *("PCOUNT", "GCOUNT", "GROUPS", "BSCALE", "BZERO", "BLANK", "BUNIT", "EXTNAME", "EXTVER"),
    *("CHECKSUM", "DATASUM", "BANDS", "RA", "DEC", "CTYPE1", "CTYPE2", "CRPIX1", "CRVAL1"),
    *("ZIMAGE", "ZBITPIX", "ZNAXIS", "ZNAXIS1", "ZNAXIS2", "ZNAXIS3", "ZTILE1", "ZTILE2"),
    *("ZTILE3", "ZCMPTYPE", "ZNAME1", "ZVAL1", "ZQUANTIZ", "ZDITHER0", "ZSCALE", "ZZERO"),
    *("ZBLANK", "TFIELDS", "TFORM1", "TTYPE1", "TFORM2", "TTYPE2", "TDIM1", "THEAP", "ANNRIN"),
    *("TSCAL1", "TZERO1", "TNULL1", "UINT", "INHERIT", "CONTINUE", "HIERARCH", "COMMENT", "END"),
    *("ANNROUT", "LONGSTRN", "BOZO", "", "A B", "ZMASKCMP", "FZALGOR"),
)
VALUES = (
    *("0", "1", "-1", "2", "3", "4", "8", "9", "16", "-32", "-64", "32", "64", "999", "1000"),
    *("2147483647", "4294967296", "9223372036854775807", "99999999999999999999", "1E400"),
    *("NaN", "1E-320", "0.0", "-0.5", "1.5D3", "(1, 2)", "T", "F", "", "'T'", "'IMAGE   '"),
    *("'INVVAR'", "'MASKBITS'", "'MASK'", "'griz'", "'zrgi'", "'grzz'", "'nanomaggy'", "'Jy'"),
    *("'counts'", "'RICE_1'", "'GZIP_1'", "'PLIO_1'", "'HCOMPRESS_1'", "'NOCOMPRESS'", "'1PB(9)'"),
    *("'1QB'", "'1PE(9999999)'", "'99999999999E'", "'BINTABLE'", "'IMAGE'", "'open", "'&'", "&"),
    *("'SUBTRACTIVE_DITHER_1'", "'NO_DITHER'", "'\u00e9'", "'0000000000000000'", "/ no value"),
)


@dataclass(frozen=True)
class Card:
    """Replace a card by another one, or insert one."""

    at: int
    key: str
    value: str
    is_new: bool

    def __call__(self, content: bytes) -> bytes:
        cards = _cards(content)
        if not cards:
            return content
        own = [at for at in cards if content[at : at + 8].strip() == self.key.encode()]
        at = own[self.at % len(own)] if own and not self.is_new else cards[self.at % len(cards)]
        card = f"{self.key:8}= {self.value:>20}".encode()[:80].ljust(80)
        if not self.is_new:
            return content[:at] + card + content[at + 80 :]
        end = (at // 2880 + 1) * 2880
        # The header keeps its length if it has an empty card; otherwise the data move by one card.
        tail = content[at:end]
        tail = tail[:-80] if tail.endswith(b" " * 80) else tail
        return content[:at] + card + tail + content[end:]


def _cards(content: bytes) -> list[int]:
    """Return the offsets of cards."""
    starts = range(0, len(content) - 79, 80)
    return [
        at for at in starts if content[at + 8 : at + 10] == b"= " or content[at : at + 4] == b"END "
    ]


cards: SearchStrategy[Any] = st.builds(
    Card,
    st.integers(0, 200),
    st.sampled_from(KEYS) | st.text("ABCXYZ019_-. a\u00e9\0", max_size=8),
    st.sampled_from(VALUES) | st.text(max_size=20) | st.integers().map(str),
    st.booleans(),
)


def with_cards(most: int) -> SearchStrategy[Damaged]:
    return with_changes(PLAIN, cards, 1, most)


def test_fuzz_cards(budget: Budget, tmp_path: Path) -> None:
    def accepts(file: Damaged) -> bool:
        return check(tmp_path / "a.fits", file.content)

    budget.spend("fits, odd cards", with_cards(3), accepts)


def test_fuzz_packed(budget: Budget, tmp_path: Path) -> None:
    """Read files with odd cards inside gzip files with correct checksums."""

    def accepts(file: Damaged) -> bool:
        content = gzip.compress(file.content, 1, mtime=0)
        cutouts, rejected = read(tmp_path / "a.fits.gz", content, len(file.content) + OWN_BYTES)
        plain, as_plain = read(tmp_path / "a.fits", file.content, OWN_BYTES)
        assert len(rejected) == len(as_plain)
        for packed, other in zip(cutouts, plain, strict=True):
            assert np.array_equal(packed.pixels, other.pixels, equal_nan=True)
        return bool(cutouts)

    budget.spend("fits, packed", with_cards(2) | damaged(PLAIN, most=2), accepts)
