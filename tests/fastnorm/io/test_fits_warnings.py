"""A warning of astropy rejects a file only if it is about pixels or coordinates."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits

from dhs.constants import PIXEL_SCALE
from dhs.fetch.check import check_cutout
from dhs.fetch.client import BadAnswerError
from dhs.fetch.service import Service
from fastnorm import nddata
from fastnorm.io import CutoutError, CutoutWarning, read_cutouts
from fastnorm.nddata.fits_output import normalize_file
from tests.fastnorm.io.fits_cases import DEC, RA, SIDE, legacy_units, sky

CARD = b"REMARK  = 'somebody'           / a comment"
OBSGEO = {"OBSGEO-B": 31.9, "OBSGEO-L": -111.6, "OBSGEO-H": 2120.0, "MJD-OBS": 57000.0}
HEADERS: dict[str, dict[str, Any]] = {
    "an old name of the frame": {"RADECSYS": "FK5", "EQUINOX": 2000.0},
    "an old name of the equinox": {"EPOCH": 2000.0},
    "a place of the telescope": OBSGEO,
    "places of the telescope that differ": OBSGEO | {"OBSGEO-X": 1.0, "OBSGEO-Y": 2.0},
    "a date in the old order": {"DATE-OBS": "31/12/99"},
    "a date in words": {"DATE-OBS": "in the night"},
    "a value for missing integers": {"BLANK": -32768},
    "three axes": {"CTYPE3": "BAND", "CRPIX3": 1.0, "CRVAL3": 1.0},
}
CARDS = {
    "an accent": b"REMARK  = 'somebod\xe9'           / a comment",
    "an accent in a comment": b"REMARK  = 'somebody'           / a comm\xc3\xa9t",
    "a keyword in lower case": b"remark  = 'somebody'           / a comment",
    "a keyword with a space": b"RE MARK = 'somebody'           / a comment",
    "no equals sign": b"REMARK    'somebody'           / a comment",
    "no quotes": b"REMARK  =  somebody            / a comment",
    "a tab": b"REMARK  = 'some\tody'           / a comment",
    "a NUL": b"REMARK  = 'some\0\0\0\0'           / a comment",
}


def content(checksum: bool = False, **header: Any) -> bytes:
    found = legacy_units()
    found[0].header["REMARK"] = ("somebody", "a comment")
    found[0].header.update(header)
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found.writeto(stream, checksum=checksum, output_verify="ignore")
    return stream.getvalue()


def replaced(old: bytes, by: bytes, start: bytes | None = None) -> bytes:
    start = content() if start is None else start
    assert start.count(old) == 1
    assert len(old) == len(by)
    return start.replace(old, by)


def with_card(card: bytes) -> bytes:
    return replaced(CARD, card.ljust(len(CARD)))


GOOD = {name: content(**header) for name, header in HEADERS.items()}
GOOD |= {name: with_card(card) for name, card in CARDS.items()}
GOOD["padding at the end"] = content() + bytes(100)


@pytest.mark.parametrize("name", GOOD)
def test_what_changes_neither_pixels_nor_coordinates(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.fits"
    path.write_bytes(GOOD[name])
    expected = legacy_units()[0].data
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        [cutout] = read_cutouts(path)
    assert len(caught) <= 1
    assert np.array_equal(cutout.pixels, expected)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = nddata.read(path)
    assert len(caught) <= 1
    for warning in caught:
        assert issubclass(warning.category, CutoutWarning)
        assert str(warning.message).startswith(f"{path}: ")
        assert str(warning.message).isprintable()
        assert warning.filename == __file__
    assert np.array_equal(data.data, expected)
    place, expected_place = (wcs.pixel_to_world_values(9, 8) for wcs in (data.wcs, sky()))
    np.testing.assert_allclose(place, expected_place, atol=1e-12)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        normalize_file(path, tmp_path / "out.fits")
    assert len(caught) <= 1
    with warnings.catch_warnings():
        # Cards that FITS does not allow are kept as they are.
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", ".*verification failed")
        with fits.open(tmp_path / "out.fits", checksum=True) as out:
            assert out[0].header["ANNRIN"] == 32.5


def test_the_notice_says_what_is_odd(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    path.write_bytes(GOOD["an old name of the frame"])
    with pytest.warns(CutoutWarning, match=r"a\.fits: .*RADECSYS keyword is deprecated"):
        nddata.read(path)
    path.write_bytes(GOOD["an accent"])
    with pytest.warns(CutoutWarning, match="non-ASCII characters"):
        list(read_cutouts(path))


WHOLE = content()


def with_bytes(name: bytes, card: bytes, after: bytes = b"SIMPLE") -> bytes:
    """Overwrite the first card of a name in the header that begins with another card."""
    start = WHOLE.index(name.ljust(8), WHOLE.index(after))
    return WHOLE[:start] + card.ljust(80) + WHOLE[start + 80 :]


def with_changed_pixel() -> bytes:
    summed = bytearray(content(checksum=True))
    summed[2880 * 3] ^= 1
    return bytes(summed)


DAMAGED = {
    "truncated": WHOLE[:-2880],
    "a pixel that differs": with_changed_pixel(),
    "no number": with_bytes(b"CRVAL1", b"CRVAL1  =               15O.00"),
    "no equals sign": with_bytes(b"CRVAL1", b"CRVAL1                  150.00"),
    "text": with_bytes(b"CRVAL1", b"CRVAL1  = 'here'"),
    "an accent in a name": with_bytes(b"CRVAL1", b"CRV\xc9L1  =                150.1"),
    "an accent in a projection": with_bytes(b"CTYPE1", b"CTYPE1  = 'RA---T\xc9N'"),
    "an accent in the bands": with_bytes(b"BANDS", b"BANDS   = 'gr\xe9'"),
    "no end of a header": with_bytes(b"END", b"ENDE"),
    "no end of another header": with_bytes(b"END", b"ENDE", b"XTENSION"),
    "a unit that is lost": with_bytes(b"PCOUNT", b"PCOUNT  =   x", b"XTENSION"),
    "a unit of no type": with_bytes(b"XTENSION", b"XTENSION=  IMAGE"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_what_changes_pixels_or_coordinates(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.fits"
    path.write_bytes(DAMAGED[name])
    with pytest.raises(CutoutError, match=r"a\.fits: "):
        nddata.read(path)
    if name != "text":  # the reader of pixels takes no position from text
        with pytest.raises(CutoutError, match=r"a\.fits: "):
            list(read_cutouts(path))


def test_downloads_are_judged_alike(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    service = Service("http://localhost", "ls-dr10", SIDE, images_only=False)
    assert sky().wcs.cd[1, 1] * 3600 == pytest.approx(PIXEL_SCALE)
    for name in ("an old name of the frame", "a place of the telescope", "a keyword with a space"):
        path.write_bytes(GOOD[name])
        check_cutout(path, RA, DEC, service)
    path.write_bytes(DAMAGED["text"])
    with pytest.raises(BadAnswerError, match="CRVAL1"):
        check_cutout(path, RA, DEC, service)
