"""Non-lenses that arcs are injected into, and which cell of the grid each belongs to."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyarrow import parquet

from dhs.constants import AB_ZEROPOINT_MAG, BANDS
from dhs.data import LensDataset
from dhs.manifest.columns import Manifest
from dhs.pack import MANIFEST
from dhs.selection.config import PSFDEPTH_UNITS, Axis, GridConfig, HostsSection

AMBIGUOUS_RANGE = (20.0, 28.0)
"""Depths between these could be magnitudes, or inverse variances of a very shallow survey."""

UNIT_KEY = b"unit"


def depth_of_inverse_variance(psfdepth: NDArray[np.float64]) -> NDArray[np.float64]:
    """5-sigma AB magnitude of a point source: ``22.5 - 2.5 log10(5 / sqrt(psfdepth))``.

    Parameters
    ----------
    psfdepth : array of float64
        Inverse variance of its flux, nanomaggies^-2, above 0.
    """
    depth: NDArray[np.float64] = AB_ZEROPOINT_MAG - 2.5 * np.log10(5 / np.sqrt(psfdepth))
    return depth


class Hosts:
    """The non-lenses of a split, with seeing and depth.

    Parameters
    ----------
    config : GridConfig

    Attributes
    ----------
    data : LensDataset
        The whole split.
    rows : (N,) int64
        Which of it are non-lenses.
    fwhm : (N, 3) float64
        Of the PSF in g, r, z, arcsec; g and z are NaN where they follow from r.
    depth : (N,) float64
        5-sigma AB magnitude in r.
    q, phi : (N,) float64 or None
        Axis ratio and position angle, radians, of the light, where the mass is tied to it.
    pools : dict
        Cell to the hosts in it, as positions in ``rows``; cells with too few are left out.
    counts : list of dict
        Number of hosts for every seeing and depth.
    used, outside, without_seeing : int
        Hosts of cells that have enough of them, those that no cell holds, and those without a
        seeing or depth above 0.
    fingerprint : str
        The sha256 over the split and the columns used.

    Raises
    ------
    ValueError
        There is no non-lens, a column is missing, the unit of the depth is not clear, or no cell
        has enough hosts.
    """

    def __init__(self, config: GridConfig) -> None:
        section = config.hosts
        split = None if section.split == "all" else section.split
        self.data = LensDataset(section.dataset(), split, section.split_by)
        self.rows = np.flatnonzero(self.data.labels == 0).astype(np.int64)
        name = self.data.name
        if not self.rows.size:
            raise ValueError(
                f"{name} has no non-lens in split {section.split!r}; hosts and thresholds need "
                f"rows with {section.label_col}=0."
            )
        manifest = Manifest(self.data.table.iloc[self.rows].reset_index(drop=True), name)
        self.fwhm = _widths(manifest, section)
        self.depth = _depths(manifest, section)
        self.q = self.phi = None
        if config.q_lens == "host":
            self.q = _numbers(manifest, section.q_col, "hosts.q_col")
            if section.phi_col:
                self.phi = _numbers(manifest, section.phi_col, "hosts.phi_col")
        self._assign(config)
        self.fingerprint = self._fingerprint()

    def __len__(self) -> int:
        return len(self.rows)

    def _assign(self, config: GridConfig) -> None:
        width, depth = self.fwhm[:, BANDS.index("r")], self.depth
        is_usable = np.isfinite(width) & (width > 0) & np.isfinite(depth)
        if self.q is not None:
            is_usable &= (self.q > 0) & (self.q <= 1)
        if self.phi is not None:
            is_usable &= np.isfinite(self.phi)
        places = np.stack(
            [_place(config.psf_fwhm, width), _place(config.depth_5sig, depth)], axis=1
        )
        is_inside = is_usable & (places >= 0).all(axis=1)
        self.without_seeing = int((~is_usable).sum())
        self.outside = int((is_usable & ~is_inside).sum())
        by_place: dict[tuple[int, int], NDArray[np.int64]] = {}
        self.counts: list[dict[str, Any]] = []
        for i, seeing in enumerate(config.psf_fwhm.centres()):
            for j, limit in enumerate(config.depth_5sig.centres()):
                found = np.flatnonzero(is_inside & (places == (i, j)).all(axis=1))
                by_place[i, j] = found.astype(np.int64)
                self.counts.append({"psf_fwhm": seeing, "depth_5sig": limit, "hosts": len(found)})
        fewest = config.hosts.fewest_per_cell
        most = max(count["hosts"] for count in self.counts)
        if most < fewest:
            raise ValueError(
                f"{self.data.name}: no cell has hosts.fewest_per_cell={fewest} hosts, the fullest "
                f"has {most}. Of {len(self)} non-lenses {self.outside} lie outside the axes and "
                f"{self.without_seeing} have no seeing or depth; seen are seeing "
                f"{_span(width)} arcsec and depth {_span(depth)} mag. Widen the axes, or give "
                "more hosts."
            )
        self.used = sum(len(pool) for pool in by_place.values() if len(pool) >= fewest)
        per_radius = len(by_place)
        pools = list(by_place.values())
        self.pools = {
            cell: pools[cell % per_radius]
            for cell in range(len(config.cells()))
            if len(pools[cell % per_radius]) >= fewest
        }

    def _fingerprint(self) -> str:
        digest = hashlib.sha256(self.data.fingerprint.encode())
        for column in (self.rows, self.fwhm, self.depth, self.q, self.phi):
            digest.update(b"none" if column is None else np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()


def _place(axis: Axis, values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Which cell of an axis holds a value; -1 for none."""
    centres = axis.centres()
    with np.errstate(invalid="ignore"):
        place = np.floor((values - centres[0]) / axis.step + 0.5)
        place[~((place >= 0) & (place < len(centres)))] = -1
    return place.astype(np.int64)


def _widths(manifest: Manifest, section: HostsSection) -> NDArray[np.float64]:
    in_r = _numbers(manifest, section.psfsize_col, "hosts.psfsize_col")
    widths = np.full((len(in_r), len(BANDS)), np.nan)
    for k, band in enumerate(BANDS):
        name = section.psfsize_col.removesuffix("r") + band
        if band == "r":
            widths[:, k] = in_r
        elif section.psfsize_col.endswith("_r") and name in manifest.table:
            widths[:, k] = manifest.table[name].to_numpy(np.float64)
    widths[~(widths > 0)] = np.nan
    return widths


def _depths(manifest: Manifest, section: HostsSection) -> NDArray[np.float64]:
    column = section.psfdepth_col
    values = _numbers(manifest, column, "hosts.psfdepth_col")
    unit = section.psfdepth_unit or _declared_unit(section)
    given = values[np.isfinite(values) & (values > 0)]
    if not unit:
        low, high = AMBIGUOUS_RANGE
        # Their median: a placeholder among magnitudes must not make them variances.
        if given.size and low <= np.median(given) <= high:
            raise ValueError(
                f"{manifest.name}: the median of {column} lies between {low:g} and {high:g}, and "
                "no unit is declared: they may be magnitudes or inverse variances. Say "
                "--psfdepth-unit mag or --psfdepth-unit nanomaggy^-2 (hosts.psfdepth_unit)."
            )
        unit = "nanomaggy^-2"
    if unit == "mag":
        return values
    depth = np.full(values.shape, np.nan)
    depth[values > 0] = depth_of_inverse_variance(values[values > 0])
    return depth


def _declared_unit(section: HostsSection) -> str:
    """Unit that the column declares in its metadata; empty if it says nothing."""
    dataset = section.dataset()
    path = Path(dataset.parquet_path or dataset.manifest_path)
    path = path / MANIFEST if path.is_dir() else path
    if path.suffix != ".parquet":
        return ""
    field = parquet.read_schema(path).field(section.psfdepth_col)
    unit = str((field.metadata or {}).get(UNIT_KEY, b"").decode())
    if unit and unit not in PSFDEPTH_UNITS:
        raise ValueError(
            f"{path}: {section.psfdepth_col} declares the unit {unit!r}; allowed are "
            f"{' and '.join(PSFDEPTH_UNITS)}. Say which it is, with hosts.psfdepth_unit."
        )
    return unit


def _numbers(manifest: Manifest, name: str, key: str) -> NDArray[np.float64]:
    """A column of numbers, NaN where there is none."""
    table = manifest.table
    if name in table and table[name].isna().any():
        table = table.assign(**{name: table[name].fillna(np.nan)})
        values = table[name]
    else:
        values = manifest.column(name, key)
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{manifest.name}: {name} ({key}) holds no numbers: {error}.") from error


def _span(values: NDArray[np.float64]) -> str:
    finite = values[np.isfinite(values)]
    return f"{finite.min():.2f} to {finite.max():.2f}" if finite.size else "none"
