"""``dhs depth``: fill in seeing and depth in a table of cutouts where they are missing."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow
from numpy.typing import NDArray
from pyarrow import csv, parquet

from dhs.arguments import existing, real_array
from dhs.injection.psf import LEAST_FWHM_ARCSEC, MOST_FWHM_ARCSEC
from dhs.manifest.columns import CUTOUT_PATH, MASK_PATH
from dhs.manifest.naming import Naming
from dhs.manifest.paths import refuse_escapes
from dhs.manifest.table import is_number, manifest_path, read_table
from dhs.selection.config import PSFDEPTH_UNITS
from dhs.selection.depth import (
    Opened,
    SeeingCard,
    open_cutout,
    psfdepth_of_invvar,
    psfdepth_of_sky,
    seeing_of_header,
)
from dhs.selection.hosts import UNIT_KEY, depth_of_inverse_variance
from fastnorm.atomic import atomic_path
from fastnorm.io import CutoutError, Rejected, find_cutouts
from fastnorm.io.maskbits import MaskBits
from fastnorm.paths import local_path

SIZE, DEPTH, FROM = "psfsize_r", "psfdepth_r", "_from"
GIVEN, INVVAR, SKY, MISSING = "table", "INVVAR", "sky noise", "missing"
INVERSE_VARIANCE, MAG = PSFDEPTH_UNITS
ARCSEC = "arcsec"
NO_SEEING = "the seeing is unknown"
"""Start of the reason why a row has no depth that an assumed seeing would give it."""


class DepthTable(NamedTuple):
    """Result of `write_depths`.

    ``rows``: number of rows. ``seeing``, ``depth``: number of rows by where the value is from.
    ``magnitudes``: median 5-sigma depth by where it is from. ``unit``: unit of ``psfdepth_r``.
    ``rejected``: rows without a depth, with the reasons. ``has_labels``: whether the table has a
    column ``label``. ``written``: whether the table was written, which needs one depth.
    """

    rows: int
    seeing: dict[str, int]
    depth: dict[str, int]
    magnitudes: dict[str, float]
    unit: str
    rejected: list[Rejected]
    has_labels: bool
    written: bool


class _Value(NamedTuple):
    value: float
    origin: str


def write_depths(
    source: str | Path,
    out: Path,
    *,
    psf_fwhm: float | None = None,
    seeing_card: SeeingCard | None = None,
    psfdepth_unit: str = "",
    mask_bits: MaskBits = MaskBits(),  # noqa: B008
    label_col: str | None = None,
    id_col: str | None = None,
    path_pattern: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> DepthTable:
    """Write a table with seeing and depth in r, measured where the given table lacks them.

    The columns ``psfsize_r_from`` and ``psfdepth_r_from`` say for every row where the value is
    from, or why it is missing.

    Parameters
    ----------
    source : str or Path
        A ``.parquet`` or ``.csv`` table with ``cutout_path``, or a folder of cutouts.
    out : Path
        The ``.parquet`` file to write, or ``.csv`` if the table is one. If it is not in the folder
        of ``source``, the paths in it are absolute.
    psf_fwhm : float, optional
        FWHM of the PSF in r of cutouts whose seeing is unknown, arcsec. Only their depth is
        computed with it; ``psfsize_r`` stays empty.
    seeing_card : SeeingCard, optional
        Header card of the seeing; see `dhs.selection.depth.seeing_of_header`.
    psfdepth_unit : {"", "nanomaggy^-2", "mag"}
        Unit of the depths in the table. If empty, the unit is read from the metadata of the
        column.
    mask_bits : MaskBits
        Bits of MASKBITS that make a pixel of a FITS file bad.
    label_col, id_col, path_pattern : str, optional
        Same as in `dhs.pack.write_pack`; the written table has the columns of a manifest.
    progress : function, optional
        Called with the number of rows done and the total.

    Returns
    -------
    DepthTable

    Raises
    ------
    TypeError, ValueError
        The table has no ``cutout_path`` or is a pack; a column is not numeric; the unit of depths
        in it is unknown; or an argument is out of its range.
    OSError
        A table cannot be read or written.
    """
    if psf_fwhm is not None:
        low, high = LEAST_FWHM_ARCSEC, MOST_FWHM_ARCSEC
        psf_fwhm = float(real_array("psf_fwhm", psf_fwhm, low, high, ndim=0))
    naming = Naming.of(label_col, id_col, path_pattern)
    table, folder, name = _open(source, naming)
    _require_kept(out, name)
    unit = _unit(table, name, psfdepth_unit)
    sizes, depths = _column(table, SIZE, name), _column(table, DEPTH, name)
    is_depth = np.isfinite(depths) & ((depths > 0) | (unit != INVERSE_VARIANCE))
    paths = [str(path) for path in table[CUTOUT_PATH].to_pylist()]
    masks = table[MASK_PATH].to_pylist() if MASK_PATH in table.column_names else [None] * len(paths)
    before = [_texts(table, column + FROM) for column in (SIZE, DEPTH)]
    seeing: list[_Value] = []
    found: list[_Value] = []
    positions: list[tuple[float | None, float | None]] = []
    for row, path in enumerate(paths):
        size = _Value(sizes[row], before[0][row] or GIVEN) if sizes[row] > 0 else None
        depth = _Value(depths[row], before[1][row] or GIVEN) if is_depth[row] else None
        position: tuple[float | None, float | None] = (None, None)
        if size is None or depth is None or "ra" not in table.column_names:
            try:
                opened = open_cutout(folder, path, masks[row], mask_bits)
            except CutoutError as error:
                why = _Value(np.nan, f"{MISSING}: {error.reason.rstrip('.')}")
                size, depth = size or why, depth or why
            else:
                position = opened.ra, opened.dec
                size = size or _seeing(opened, seeing_card)
                depth = depth or _depth(opened, size, psf_fwhm, unit)
        seeing.append(size)
        found.append(depth)
        positions.append(position)
        if progress is not None:
            progress(row + 1, len(paths))
    rejected = [
        Rejected(folder / path, depth.origin.removeprefix(f"{MISSING}: "))
        for path, depth in zip(paths, found, strict=True)
        if np.isnan(depth.value)
    ]
    table = _with_positions(table, positions)
    # A column of nothing would forbid constants in the configuration of a grid.
    if any(np.isfinite(item.value) for item in seeing):
        table = _with(table, SIZE, seeing, ARCSEC)
    table = _with_text(table, SIZE + FROM, seeing)
    table = _with_text(_with(table, DEPTH, found, unit), DEPTH + FROM, found)
    is_written = len(rejected) < len(paths)
    if is_written:
        table = _absolute(table, folder, out)
        with atomic_path(out) as temporary:
            _write(table, out, temporary)
    return DepthTable(
        len(paths),
        _counted(seeing),
        _counted(found),
        _medians(found, unit),
        unit,
        rejected,
        "label" in table.column_names,
        is_written,
    )


def _open(source: str | Path, naming: Naming) -> tuple[pyarrow.Table, Path, str]:
    """Return the rows, the folder that relative paths start from, and the name of the table."""
    path = existing(local_path(source))
    if path.is_dir() and not (path / "manifest.parquet").is_file():
        files = [str(file.relative_to(path)) for file in find_cutouts([path])]
        table = pyarrow.table({CUTOUT_PATH: pyarrow.array(files, pyarrow.string())})
        return naming.applied(table, path), path, str(path)
    path = manifest_path(path)
    table = read_table(path, text_columns=naming.text_columns())
    if "shard" in table.column_names:
        raise ValueError(
            f"{path} belongs to a pack, which contains no headers and no INVVAR; give the table "
            "that it was packed from, and pack the result again."
        )
    own, table = table.column_names, naming.applied(table, path)
    if CUTOUT_PATH not in table.column_names:
        listed = ", ".join(own)
        raise ValueError(
            f"{path} has no column {CUTOUT_PATH}; it has {listed}. Name the files with "
            "path_pattern='cutouts/{NAME}.fits', where NAME is one of these columns."
        )
    if table[CUTOUT_PATH].null_count:
        raise ValueError(f"{path}: {CUTOUT_PATH} is missing in some rows.")
    for column in (CUTOUT_PATH, MASK_PATH):
        if column in table.column_names:
            refuse_escapes(path, column, table[column].to_pylist())
    return table, path.parent, str(path)


def _require_kept(out: Path, source: str) -> None:
    """Refuse a CSV that would lose what the given table states beside its columns."""
    if out.suffix == ".csv" and Path(source).suffix != ".csv":
        raise ValueError(
            f"out={str(out)!r} is a .csv, which states neither the origin of the cutouts nor the "
            f"unit of {DEPTH}, and {source} is not a .csv; give a .parquet."
        )


def _write(table: pyarrow.Table, out: Path, temporary: Path) -> None:
    if out.suffix == ".csv":
        csv.write_csv(table, temporary)
    else:
        parquet.write_table(table, temporary)


def _unit(table: pyarrow.Table, name: str, stated: str) -> str:
    """Return the unit of the depths; empty if it is not declared and there is nothing to add."""
    if stated not in ("", *PSFDEPTH_UNITS):
        raise ValueError(
            f"psfdepth_unit={stated!r} is not known; expected {' or '.join(PSFDEPTH_UNITS)}."
        )
    if DEPTH not in table.column_names:
        return stated or INVERSE_VARIANCE
    field = table.schema.field(DEPTH)
    declared = str((field.metadata or {}).get(UNIT_KEY, b"").decode())
    if declared and declared not in PSFDEPTH_UNITS:
        raise ValueError(f"{name}: {DEPTH} declares the unknown unit {declared!r}.")
    if stated and declared and stated != declared:
        raise ValueError(
            f"psfdepth_unit={stated!r} contradicts {name}, whose {DEPTH} is in {declared!r}."
        )
    given = np.isfinite(_column(table, DEPTH, name))
    if not (stated or declared) and given.any():
        if given.all():
            return ""
        raise ValueError(
            f"{name} has depths, and does not declare their unit; give --psfdepth-unit "
            f"{INVERSE_VARIANCE} (catalogues) or --psfdepth-unit {MAG} (bricks)."
        )
    return stated or declared or INVERSE_VARIANCE


def _column(table: pyarrow.Table, name: str, file: str) -> NDArray[np.float64]:
    if name not in table.column_names:
        return np.full(len(table), np.nan)
    if not is_number(table[name].type):
        raise ValueError(f"{file}: {name} is of type {table[name].type}; it must be a number.")
    values: NDArray[np.float64] = table[name].cast(pyarrow.float64(), safe=False).to_numpy()
    return values


def _texts(table: pyarrow.Table, name: str) -> list[Any]:
    """Return where values are from; nothing for one that was missing."""
    if name not in table.column_names:
        return [None] * len(table)
    texts = [str(text or "") for text in table[name].to_pylist()]
    return [None if text.startswith(MISSING) else text for text in texts]


def _seeing(opened: Opened, card: SeeingCard | None) -> _Value:
    if opened.header is None:
        return _Value(np.nan, f"{MISSING}: the file has no FITS header")
    try:
        fwhm, name = seeing_of_header(opened.header, card)
    except ValueError as error:
        return _Value(np.nan, f"{MISSING}: {error}")
    return _Value(fwhm, f"header {name}")


def _depth(opened: Opened, seeing: _Value, assumed: float | None, unit: str) -> _Value:
    fwhm, remark = seeing.value, ""
    if np.isnan(fwhm):
        if assumed is None:
            why = seeing.origin.removeprefix(f"{MISSING}: ")
            return _Value(np.nan, f"{MISSING}: {NO_SEEING} ({why})")
        fwhm, remark = assumed, f" at an assumed PSF FWHM of {assumed:g} arcsec"
    try:
        if opened.invvar is not None:
            _require_image(opened)
            # A pixel without a value carries no flux, whatever its weight.
            weights = np.where(np.isfinite(opened.pixels), opened.invvar, 0)
            value, origin = psfdepth_of_invvar(weights, fwhm), INVVAR
            if not value > 0 and psfdepth_of_invvar(opened.invvar, fwhm) > 0:
                return _Value(
                    np.nan, f"{MISSING}: no finite pixel of r at the object has an INVVAR"
                )
            if not value > 0:
                return _Value(np.nan, f"{MISSING}: INVVAR is 0 at the object")
        else:
            value, origin = psfdepth_of_sky(opened.pixels, opened.is_good, fwhm), SKY
    except ValueError as error:
        return _Value(np.nan, f"{MISSING}: {error}")
    if unit == MAG:
        value = float(depth_of_inverse_variance(np.array(value)))
    return _Value(value, origin + remark)


def _require_image(opened: Opened) -> None:
    """Refuse a band without an image, whose weights state a depth all the same."""
    finite = opened.pixels[np.isfinite(opened.pixels)]
    if not finite.size:
        raise ValueError("no pixel of r is finite")
    if finite.min() == finite.max():
        raise ValueError("all pixels of r have one value")


def _with(table: pyarrow.Table, name: str, values: list[_Value], unit: str) -> pyarrow.Table:
    """Return the table with a column of numbers that declares its unit."""
    numbers = [None if np.isnan(item.value) else item.value for item in values]
    declared = {UNIT_KEY: unit.encode()} if unit else None
    field = pyarrow.field(name, pyarrow.float64(), metadata=declared)
    return _put(table, field, pyarrow.array(numbers, pyarrow.float64()))


def _with_text(table: pyarrow.Table, name: str, values: list[_Value]) -> pyarrow.Table:
    texts = pyarrow.array([item.origin for item in values], pyarrow.string())
    return _put(table, pyarrow.field(name, pyarrow.string()), texts)


def _with_positions(
    table: pyarrow.Table, positions: list[tuple[float | None, float | None]]
) -> pyarrow.Table:
    if "ra" in table.column_names or all(ra is None for ra, _ in positions):
        return table
    for k, name in enumerate(("ra", "dec")):
        values = pyarrow.array([position[k] for position in positions], pyarrow.float64())
        table = _put(table, pyarrow.field(name, pyarrow.float64()), values)
    return table


def _absolute(table: pyarrow.Table, folder: Path, out: Path) -> pyarrow.Table:
    """Make relative paths absolute if the table leaves the folder that they start from."""
    if os.path.realpath(out.parent) == os.path.realpath(folder):
        return table
    start = Path(os.path.abspath(folder))
    for name in (CUTOUT_PATH, MASK_PATH):
        if name in table.column_names:
            paths = [path and str(start / path) for path in table[name].to_pylist()]
            field = pyarrow.field(name, pyarrow.string())
            table = _put(table, field, pyarrow.array(paths, pyarrow.string()))
    return table


def _put(table: pyarrow.Table, field: pyarrow.Field, values: pyarrow.Array) -> pyarrow.Table:
    if field.name in table.column_names:
        return table.set_column(table.schema.get_field_index(field.name), field, values)
    return table.append_column(field, values)


def _kind(origin: str) -> str:
    return MISSING if origin.startswith(MISSING) else origin


def _counted(values: list[_Value]) -> dict[str, int]:
    return dict(Counter(_kind(item.origin) for item in values).most_common())


def _medians(values: list[_Value], unit: str) -> dict[str, float]:
    by_kind: dict[str, list[float]] = {}
    for item in values:
        if not np.isnan(item.value):
            by_kind.setdefault(_kind(item.origin), []).append(item.value)
    if not unit:
        return {}
    medians = {kind: np.median(some) for kind, some in by_kind.items()}
    if unit == MAG:
        return {kind: float(value) for kind, value in medians.items()}
    return {
        kind: float(depth_of_inverse_variance(np.array(value))) for kind, value in medians.items()
    }
