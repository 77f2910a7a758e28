"""Catalogues of the cutouts to fetch, checked as a whole before the first request."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow
from numpy.typing import NDArray

from dhs.arguments import existing
from dhs.manifest.table import read_table
from dhs.pack.source import MOST_NAMED, RESERVED
from fastnorm.io.fits_warnings import damage_only
from fastnorm.paths import local_path, open_file
from fastnorm.text import one_line

NEEDED, ID = ("ra", "dec"), "galaxy_id"
PREFIX = "target_"
ASTROPY_FORMATS = {
    ".fits": "fits",
    ".fits.gz": "fits",
    ".ecsv": "ascii.ecsv",
    ".vot": "votable",
    ".vot.gz": "votable",
    ".xml": "votable",
}
"""Formats of `astropy.table`, by suffix."""
OWN = ("cutout_path", "mask_path", "file_sha256", "url", *RESERVED)
MOST_BYTES_OF_ID = 200


@dataclass(frozen=True, eq=False)
class Catalogue:
    """A checked catalogue, with one entry per row.

    Attributes
    ----------
    ids : list of str
        File names without suffix.
    ra, dec : (N,) float64
        Degrees.
    others : pyarrow.Table
        All other columns.
    """

    ids: list[str] = field(repr=False)
    ra: NDArray[np.float64] = field(repr=False)
    dec: NDArray[np.float64] = field(repr=False)
    others: pyarrow.Table = field(repr=False)

    def __len__(self) -> int:
        return len(self.ids)


def read_catalogue(source: str | Path | pyarrow.Table, limit: int | None) -> Catalogue:
    """Read a catalogue and check every row.

    Parameters
    ----------
    source : str, Path or pyarrow.Table
        See `dhs.fetch.fetch`.
    limit : int, optional
        Number of rows to read, from the first. By default, all rows.

    Returns
    -------
    Catalogue

    Raises
    ------
    OSError
        The file cannot be read.
    ValueError
        The file is not a catalogue or has faults. The message lists all of them.
    """
    if isinstance(source, str | Path):
        name, table = str(source), _read(existing(local_path(source)))
    else:
        name, table = "the catalogue", source
    table = table.slice(0, limit)
    columns, faults = _find_columns(table, is_csv=name.endswith(".csv"))
    _refuse(name, faults)
    ra, dec = (table[columns[key]].cast(pyarrow.float64(), safe=False).to_numpy() for key in NEEDED)
    if ID in columns:
        ids = table[columns[ID]].cast(pyarrow.string()).fill_null("").to_pylist()
    else:
        ids = [position_name(*position) for position in zip(ra, dec, strict=True)]
    _refuse(name, list(_row_faults(ids, ra, dec)))
    return Catalogue(ids, ra, dec, table.drop_columns(list(columns.values())))


def position_name(ra: float, dec: float) -> str:
    """Return the id for a position without one, like ``ra150.1234567_dec+02.1234567``."""
    return f"ra{ra:011.7f}_dec{dec:+011.7f}"


def _refuse(name: str, faults: list[str]) -> None:
    if faults:
        raise ValueError("\n  ".join([f"{name} cannot be fetched:", *faults]))


def _read(path: Path) -> pyarrow.Table:
    name = path.name.lower()
    kind = next((kind for suffix, kind in ASTROPY_FORMATS.items() if name.endswith(suffix)), None)
    if kind is not None:
        return _read_with_astropy(path, kind)
    if path.suffix not in (".parquet", ".csv"):
        suffixes = ", ".join((".parquet", ".csv", *ASTROPY_FORMATS))
        raise ValueError(f"{path} has an unknown suffix; expected one of {suffixes}.")
    return read_table(path)


def _read_with_astropy(path: Path, kind: str) -> pyarrow.Table:
    """Read the first table of a file in a format of astropy."""
    from astropy.table import Table

    options = {"mask_invalid": False} if kind == "fits" else {}
    with open_file(path) as stream:
        try:
            # astropy only warns about a truncated file.
            with damage_only(path):
                if kind == "votable":
                    _refuse_links(stream)
                table = Table.read(stream, format=kind, **options)
                table.convert_bytestring_to_unicode()
            for name in table.colnames:
                unit = table[name].unit
                # Unrecognised units are ignored.
                is_angle = unit is not None and unit.physical_type == "angle"
                if _is_position(name) and is_angle and unit != "deg":
                    raise ValueError(f"{name} is in {unit}; convert it to degrees")
            return pyarrow.table({name: _arrow(table[name]) for name in table.colnames})
        except (OSError, ValueError, TypeError, LookupError, MemoryError, Warning) as error:
            reason = one_line(f"{type(error).__name__}: {error}")
            raise ValueError(f"{path} has no readable table ({reason}).") from error


def _refuse_links(stream: BinaryIO) -> None:
    """Refuse a VOTable whose data are in another file or on a server, which astropy would open."""
    from astropy.utils.xml.iterparser import get_xml_iterator

    with get_xml_iterator(stream) as parts:
        for is_start, tag, data, _ in parts:
            if is_start and tag.rpartition(":")[2] == "STREAM" and "href" in data:
                raise ValueError(f"its data are at {data['href']!r}; write them into the file")
    stream.seek(0)


def _is_position(name: str) -> bool:
    return name.lower() in (*NEEDED, *(f"{PREFIX}{key}" for key in NEEDED))


def _arrow(column: Any) -> pyarrow.Array:
    values, mask = np.ma.getdata(column), np.ma.getmask(column)
    if values.ndim > 1 or values.dtype.kind == "O":
        return pyarrow.array(column.tolist())
    if values.dtype.kind in "iuf":
        values = values.astype(values.dtype.newbyteorder("="))
    return pyarrow.array(values, mask=mask if mask is not np.ma.nomask else None)


def _find_columns(table: pyarrow.Table, is_csv: bool) -> tuple[dict[str, str], list[str]]:
    """Find the columns ra, dec and galaxy_id, ignoring case, and list their faults.

    DESI calls positions TARGET_RA and TARGET_DEC, which count if neither ra nor dec exists.
    """
    names, found, faults = table.column_names, {}, []
    is_plain = any(name.lower() in NEEDED for name in names)
    for key in (*NEEDED, ID):
        sought = key if is_plain or key == ID else f"{PREFIX}{key}"
        called = [name for name in names if name.lower() == sought]
        if len(called) > 1:
            faults.append(f"several columns are named {key}: {', '.join(called)}; keep one.")
        elif called:
            found[key] = called[0]
        elif key in NEEDED:
            faults.append(f"no column {key}; its columns are {', '.join(names) or 'none'}.")
    types = pyarrow.types
    for key, name in found.items():
        kind = table[name].type
        is_number = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
        is_text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
        if key != ID and not is_number:
            faults.append(f"{name} is of type {kind}; it must be a number, in degrees.")
        if key == ID and not (is_text or types.is_integer(kind)):
            faults.append(f"{name} is of type {kind}; it must be text or an integer.")
        if key == ID and is_csv and name != ID:
            faults.append(f"{name}: in a CSV it must be spelled {ID}, to be read as text.")
    own = [name for name in names if name in OWN]
    if own:
        faults.append(f"columns reserved for the manifest: {', '.join(own)}; rename them.")
    if not len(table):
        faults.append("no rows.")
    return found, faults


def _row_faults(ids: list[str], ra: NDArray[np.float64], dec: NDArray[np.float64]) -> Iterator[str]:
    # NaN fails these comparisons.
    yield from _wrong("whose ra is not in [0, 360] degrees", ~((ra >= 0) & (ra <= 360)), ra)
    yield from _wrong("whose dec is not in [-90, 90] degrees", ~(np.abs(dec) <= 90), dec)
    is_bad = np.array([not _is_file_name(name) for name in ids])
    what = (
        f"whose {ID} is not a valid file name (no / or \\, no leading dot, no control characters, "
        f"1 to {MOST_BYTES_OF_ID} bytes)"
    )
    yield from _wrong(what, is_bad, ids)
    # Some file systems ignore case.
    folded = np.array([name.casefold() for name in ids])
    _, group, count = np.unique(folded, return_inverse=True, return_counts=True)
    what = f"with the {ID} (or position) of another row, ignoring case as some file systems do"
    yield from _wrong(what, (count[group] > 1) & ~is_bad, ids)


def _is_file_name(name: str) -> bool:
    return (
        name.isprintable()
        and not name.startswith(".")
        and not set(name) & {"/", "\\"}
        and 0 < len(name.encode("utf-8", "surrogatepass")) <= MOST_BYTES_OF_ID
    )


def _wrong(what: str, is_wrong: NDArray[np.bool_], values: Any) -> Iterator[str]:
    """Describe a kind of faulty rows: their number and the first few values."""
    rows = np.flatnonzero(is_wrong)
    if rows.size:
        named = "; ".join(f"row {row} ({values[row]})" for row in rows[:MOST_NAMED])
        yield f"{rows.size:,} rows {what}: {named}{'; ...' if rows.size > MOST_NAMED else ''}"
