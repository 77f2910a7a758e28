"""Hosts: non-lenses that arcs are injected into, assigned to the cells of a grid."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pyarrow import parquet
from torch import Tensor

from dhs.arguments import element
from dhs.constants import AB_ZEROPOINT_MAG, BANDS
from dhs.device.copies import stage
from dhs.manifest.columns import Manifest
from dhs.pack import MANIFEST
from dhs.selection.config import CLASS_COL, PSFDEPTH_UNITS, Axis, GridConfig, HostsSection
from dhs.selection.host_errors import missing_column, span, split_advice

AMBIGUOUS_RANGE = (20.0, 28.0)
"""A median depth in this range may be a magnitude, or an inverse variance of a shallow survey."""

UNIT_KEY = b"unit"


def depth_of_inverse_variance(psfdepth: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the 5-sigma depth of a point source: ``22.5 - 2.5 log10(5 / sqrt(psfdepth))``.

    Parameters
    ----------
    psfdepth : array of float64
        Inverse variance of the flux of a point source, nanomaggies^-2, at least 0. Catalogues
        have 0 where nothing was observed.

    Returns
    -------
    array of float64
        AB magnitude; NaN where ``psfdepth`` is 0 or NaN.

    Raises
    ------
    ValueError
        A value is negative. The message names the first one.
    """
    values = np.asarray(psfdepth, np.float64)
    if (values < 0).any():
        index = tuple(int(i) for i in np.argwhere(values < 0)[0])
        raise ValueError(
            f"psfdepth{element(index)}={values[index]:g} is not allowed: an inverse variance is at "
            "least 0; if the values are magnitudes, they are depths already."
        )
    observed = np.where(values > 0, values, np.nan)
    depth: NDArray[np.float64] = AB_ZEROPOINT_MAG - 2.5 * np.log10(5 / np.sqrt(observed))
    return depth


class Hosts:
    """The non-lenses of a split, with seeing and depth.

    Parameters
    ----------
    config : GridConfig
    trained_on : dict, optional
        Record of the training data in the checkpoint, for the error on too few hosts.

    Attributes
    ----------
    data : LensDataset
        The whole split, lenses included.
    rows : (N,) int64
        Positions of the non-lenses in the split.
    fwhm : (N, 3) float64
        FWHM of the PSF in g, r, z, arcsec; NaN in g and z if it has to follow from r.
    depth : (N,) float64
        5-sigma depth in r, AB mag.
    q, phi : (N,) float64 or None
        Axis ratio and position angle (radians) of the light, if the mass is tied to it.
    places : (N,) int64
        Position in ``counts`` of the seeing and depth of each host; -1 outside the axes.
    classes : (N,) array of str, or None
        Class of each host, if the manifest has such a column.
    pools : dict
        Hosts of each cell as positions in ``rows``; cells with too few hosts are excluded.
    counts : list of dict
        Number of hosts for every seeing and depth.
    used, outside, without_seeing : int
        Number of hosts in cells with enough hosts, of hosts outside all cells, and of hosts
        without a valid seeing or depth.
    fingerprint : str
        SHA-256 over the split and the columns used.

    Raises
    ------
    ValueError
        There is no non-lens, a column is missing, the unit of the depth is unknown, or no cell
        has enough hosts.
    """

    def __init__(self, config: GridConfig, trained_on: Mapping[str, Any] | None = None) -> None:
        section = config.hosts
        split = None if section.split == "all" else section.split
        # Imports torch, which those who need only the units do without.
        from dhs.data import LensDataset

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
        self.classes = _classes(manifest, section)
        self._assign(config, trained_on)
        self.fingerprint = self._fingerprint()

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def name(self) -> str:
        """Name of the data and of the split."""
        return f"{self.data.name}, split {self.data.split or 'all'}"

    def read(
        self, places: NDArray[np.int64], device: torch.device
    ) -> tuple[Tensor, Tensor | None, NDArray[np.bool_]]:
        """Read hosts into host memory, from which they can be copied to a device.

        Parameters
        ----------
        places : (B,) int64
            Positions in ``rows``.
        device : torch.device
            Device that they are for.

        Returns
        -------
        pixels : (B, 3, H, W) float32 tensor
            Nanomaggies; 0 where a pixel of the host is not finite.
        mask : bool tensor like ``pixels``, or None
            True means bad.
        is_good : (B,) bool
            Whether all pixels of the host are finite.
        """
        memory = stage((len(places), *self.data.shape), torch.float32, device)
        pixels, mask = self.data.read(self.rows[places], out=memory)
        values = pixels.numpy()
        is_good = np.isfinite(values).all((1, 2, 3))
        values[~is_good] = 0.0
        return pixels, mask, is_good

    def _assign(self, config: GridConfig, trained_on: Mapping[str, Any] | None) -> None:
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
        self.places = np.full(len(self), -1, np.int64)
        by_place: dict[tuple[int, int], NDArray[np.int64]] = {}
        self.counts: list[dict[str, Any]] = []
        for i, seeing in enumerate(config.psf_fwhm.centres()):
            for j, limit in enumerate(config.depth_5sig.centres()):
                found = np.flatnonzero(is_inside & (places == (i, j)).all(axis=1))
                by_place[i, j] = found.astype(np.int64)
                self.places[found] = len(self.counts)
                self.counts.append({"psf_fwhm": seeing, "depth_5sig": limit, "hosts": len(found)})
        fewest = config.hosts.fewest_per_cell
        most = max(count["hosts"] for count in self.counts)
        if most < fewest:
            raise ValueError(
                f"{self.data.name}: no cell has hosts.fewest_per_cell={fewest} hosts, the fullest "
                f"has {most}. Of {len(self)} non-lenses {self.outside} lie outside the axes and "
                f"{self.without_seeing} have no seeing or depth. Seeing is {span(width)} arcsec, "
                f"depth {span(depth)} mag. Widen the axes, or give more hosts."
                f"{split_advice(config.hosts, self.data, len(self), trained_on)}"
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
    """Return the cell of an axis for each value; -1 for values outside the axis."""
    centres = axis.centres()
    with np.errstate(invalid="ignore"):
        place = np.floor((values - centres[0]) / axis.step + 0.5)
        place[~((place >= 0) & (place < len(centres)))] = -1
    return place.astype(np.int64)


def _widths(manifest: Manifest, section: HostsSection) -> NDArray[np.float64]:
    in_r = _numbers_or(manifest, section.psfsize_col, section, "psfsize_col", "psf_fwhm")
    widths = np.full((len(in_r), len(BANDS)), np.nan)
    for k, band in enumerate(BANDS):
        name = section.psfsize_col.removesuffix("r") + band
        if band == "r":
            widths[:, k] = in_r
        elif section.psfsize_col.endswith("_r") and name in manifest.table:
            widths[:, k] = manifest.table[name].to_numpy(np.float64)
    widths[~(widths > 0)] = np.nan
    return widths


def _classes(manifest: Manifest, section: HostsSection) -> NDArray[np.str_] | None:
    """Return the class of each host; None if the usual column is absent."""
    name = section.class_col
    if name == CLASS_COL and name not in manifest.table:
        return None
    manifest.column(name, "hosts.class_col")
    return np.asarray(manifest.table[name].astype(str), np.str_)


def _depths(manifest: Manifest, section: HostsSection) -> NDArray[np.float64]:
    column = section.psfdepth_col
    values = _numbers_or(manifest, column, section, "psfdepth_col", "depth_5sig")
    if section.depth_5sig is not None:
        return values
    unit = section.psfdepth_unit or _declared_unit(section)
    given = values[np.isfinite(values) & (values > 0)]
    if not unit:
        low, high = AMBIGUOUS_RANGE
        # Use the median, so that a placeholder among magnitudes does not hide the ambiguity.
        if given.size and low <= np.median(given) <= high:
            raise ValueError(
                f"{manifest.name}: the median of {column} lies between {low:g} and {high:g}, and "
                "no unit is declared: the values may be magnitudes or inverse variances. Give "
                "--psfdepth-unit mag or --psfdepth-unit nanomaggy^-2 (hosts.psfdepth_unit)."
            )
        unit = "nanomaggy^-2"
    if unit == "mag":
        return values
    depth = np.full(values.shape, np.nan)
    depth[values > 0] = depth_of_inverse_variance(values[values > 0])
    return depth


def _declared_unit(section: HostsSection) -> str:
    """Return the unit in the metadata of the depth column; empty if it is not declared."""
    dataset = section.dataset()
    path = Path(dataset.parquet_path or dataset.manifest_path)
    path = path / MANIFEST if path.is_dir() else path
    if path.suffix != ".parquet":
        return ""
    field = parquet.read_schema(path).field(section.psfdepth_col)
    unit = str((field.metadata or {}).get(UNIT_KEY, b"").decode())
    if unit and unit not in PSFDEPTH_UNITS:
        raise ValueError(
            f"{path}: {section.psfdepth_col} declares the unit {unit!r}; expected "
            f"{' or '.join(PSFDEPTH_UNITS)}. Give the correct one as hosts.psfdepth_unit."
        )
    return unit


def _numbers_or(
    manifest: Manifest, name: str, section: HostsSection, key: str, constant: str
) -> NDArray[np.float64]:
    """Return a column of numbers, or the constant that replaces it."""
    value, has_column = getattr(section, constant), name in manifest.table
    if value is not None and has_column:
        raise ValueError(
            f"{manifest.name} has a column {name} (hosts.{key}); remove "
            f"hosts.{constant}={value:g}, which is for tables without it."
        )
    if value is not None:
        return np.full(len(manifest.table), value)
    if not has_column:
        usual = type(section).model_fields[key].default
        raise ValueError(missing_column(manifest, name, key, constant, usual))
    return _numbers(manifest, name, f"hosts.{key}")


def _numbers(manifest: Manifest, name: str, key: str) -> NDArray[np.float64]:
    """Return a column of numbers, with NaN for missing values."""
    table = manifest.table
    if name in table and table[name].isna().any():
        table = table.assign(**{name: table[name].fillna(np.nan)})
        values = table[name]
    else:
        values = manifest.column(name, key)
    try:
        return np.asarray(values, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{manifest.name}: {name} ({key}) is not numeric: {error}") from error
