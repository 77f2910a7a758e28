"""Checks of the HDUs of FITS files, because astropy and its decoders trust what they say."""

from __future__ import annotations

import io
import math
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fastnorm.io.cutout import CutoutError

_COLUMNS = ("COMPRESSED_DATA", "GZIP_COMPRESSED_DATA", "UNCOMPRESSED_DATA")
MOST_UNITS = 64
_BYTES_OF_RICE = (1, 2, 4)


def check_units(path: Path, content: bytes) -> None:
    """Refuse a file on which astropy crashes, never ends, or decodes tiles to anything.

    Parameters
    ----------
    path : Path
        The file, for messages.
    content : bytes
        Content of the file, unpacked.

    Raises
    ------
    CutoutError
        The file has too many HDUs, or a compressed image contradicts the standard or the file.
    """
    from astropy.io import fits

    options = {"memmap": False, "lazy_load_hdus": True, "disable_image_compression": True}
    with fits.open(io.BytesIO(content), **options) as units:
        for number, unit in enumerate(units):
            # After a negative GCOUNT, astropy reads the same HDU for ever.
            if number == MOST_UNITS:
                raise CutoutError(path, f"has more than {MOST_UNITS} HDUs, which is the limit.")
            if isinstance(unit, fits.BinTableHDU) and "ZCMPTYPE" in unit.header:
                place = unit.fileinfo()["datLoc"]
                for fault in _faults(unit.header, unit.data, content[place:]):
                    raise CutoutError(
                        path, f"HDU {number}: {fault}; write it again with another compression."
                    )


def _faults(header: Any, table: Any, content: bytes) -> Iterator[str]:
    kind, values = str(header["ZCMPTYPE"]).strip(), dict(header.items())
    if kind == "PLIO_1" and values["ZBITPIX"] < 0:
        yield (
            "ZCMPTYPE is PLIO_1, which cannot hold floating-point pixels (ZBITPIX is "
            f"{values['ZBITPIX']})"
        )
    sides = [values[f"ZNAXIS{k}"] for k in range(1, values["ZNAXIS"] + 1)]
    tile = [values.get(f"ZTILE{k}", 1 if k > 1 else sides[0]) for k in range(1, len(sides) + 1)]
    if not all(isinstance(side, int) and side > 0 for side in tile):
        yield f"its tiles have sides {tile}, which are not all positive integers"
    for k in range(1, 10):
        name, value = values.get(f"ZNAME{k}"), values.get(f"ZVAL{k}")
        if name == "BYTEPIX" and value not in _BYTES_OF_RICE:
            yield f"BYTEPIX is {value!r}, not one of {', '.join(map(str, _BYTES_OF_RICE))}"
    seed = values.get("ZDITHER0", 0)
    if str(values.get("ZQUANTIZ", "")).startswith("SUBTRACTIVE") and not (
        isinstance(seed, int) and seed > 0
    ):
        yield f"ZDITHER0 is {seed!r}, not a positive integer"
    rows = table.view(np.ndarray)
    places = [rows[name] for name in _COLUMNS if name in (rows.dtype.names or ())]
    if any(place.ndim != 2 or place.shape[1] != 2 for place in places):
        yield "its column of tiles is not of variable length"
        return
    # Tiles that share bytes let a small file be unpacked again and again.
    if sum(int(place[:, 0].astype(np.int64).sum()) for place in places) > len(content):
        yield "its tiles have more bytes than the file"
    if kind == "HCOMPRESS_1":
        if math.prod(_counts(sides, tile)) > len(rows):
            yield f"its image needs more than its {len(rows):,} tiles"
        heap = values.get("THEAP", values["NAXIS1"] * values["NAXIS2"])
        for (length, start), shape in zip(places[0].tolist(), _shapes(sides, tile), strict=False):
            said = content[heap + start + 2 : heap + start + 10]
            # The decoder writes as many pixels as the tile says, wherever they end.
            if length and struct.unpack(">ii", said) != shape:
                yield f"a tile says that its shape is not {shape}"


def _counts(sides: list[int], tile: list[int]) -> list[int]:
    return [-(-side // step) for side, step in zip(sides, tile, strict=True)]


def _shapes(sides: list[int], tile: list[int]) -> Iterator[tuple[int, ...]]:
    """Yield rows and columns of each tile, in the order of the file."""
    for place in np.ndindex(*reversed(_counts(sides, tile))):
        starts = [k * step for k, step in zip(reversed(place), tile, strict=True)]
        shape = [min(step, side - at) for step, side, at in zip(tile, sides, starts, strict=True)]
        yield tuple(k for k in reversed(shape) if k > 1)
