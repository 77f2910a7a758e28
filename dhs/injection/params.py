"""Parameters of lenses and sources, as arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dhs.arguments import real_array
from dhs.constants import BANDS

MOST_ARCSEC = 1000.0
LEAST_HALF_LIGHT_ARCSEC = 0.02  # the finest samples miss the light of smaller sources
SERSIC_INDEX_RANGE = (0.3, 8.0)
MOST_CLUMPS = 64

Values = Any
"""A field: a number or (B,) array_like as an argument, (B,) float64 as an attribute."""


class Range(NamedTuple):
    """Allowed range of a field."""

    low: float
    high: float
    low_is_allowed: bool = True


_POSITION = Range(-MOST_ARCSEC, MOST_ARCSEC)
_LENGTH = Range(0.0, MOST_ARCSEC, low_is_allowed=False)
_AXIS_RATIO = Range(0.01, 1.0)  # flatter profiles cannot be sampled
_HALF_LIGHT = Range(LEAST_HALF_LIGHT_ARCSEC, MOST_ARCSEC)
_ANGLE = Range(-1000.0, 1000.0)
_SHEAR = Range(-0.9, 0.9)
_FLUX = Range(0.0, 1e12)


@dataclass(frozen=True, eq=False)
class ParameterArrays:
    """Fields of one common length, all float64, with scalars broadcast.

    `len` is the number of injections. Indexing with a slice or an array selects injections.
    """

    ranges: ClassVar[dict[str, Range]] = {}

    def __post_init__(self) -> None:
        arrays = {
            name: real_array(
                name,
                getattr(self, name),
                allowed.low,
                allowed.high,
                low_is_allowed=allowed.low_is_allowed,
            )
            for name, allowed in self.ranges.items()
        }
        shapes = {name: array.shape for name, array in arrays.items()}
        many = {name: shape for name, shape in shapes.items() if len(shape) > 1}
        if many:
            name, shape = next(iter(many.items()))
            raise ValueError(f"{name} has shape {shape}; expected a number or shape (B,).")
        lengths = {shape[0] for shape in shapes.values() if shape}
        sizes = lengths - {1}
        if len(sizes) > 1:
            listed = ", ".join(f"{name} {shape[0]}" for name, shape in shapes.items() if shape)
            raise ValueError(
                f"the lengths of the fields do not broadcast: {listed}. Give every field either "
                "one number or one per injection."
            )
        count = sizes.pop() if sizes else 1
        for name, array in arrays.items():
            full = np.broadcast_to(array, (count,)).copy()
            full.flags.writeable = False
            object.__setattr__(self, name, full)

    def arrays(self) -> dict[str, NDArray[np.float64]]:
        """Return every field under its name, each (B,) float64."""
        return {name: getattr(self, name) for name in self.ranges}

    def __len__(self) -> int:
        return len(next(iter(self.arrays().values())))

    def __getitem__(self, rows: slice | ArrayLike) -> Self:
        """Select injections; an integer selects one and keeps the axis."""
        if not isinstance(rows, slice):
            rows = np.atleast_1d(np.asarray(rows))
            rows = rows if rows.size else rows.astype(np.intp)
        return dataclasses.replace(self, **{k: v[rows] for k, v in self.arrays().items()})

    def __iter__(self) -> Iterator[Self]:
        return (self[i : i + 1] for i in range(len(self)))

    def broadcast_to(self, count: int) -> Self:
        """Repeat a single injection ``count`` times, or check that there are ``count`` injections.

        Raises
        ------
        ValueError
            There are neither one nor ``count`` injections.
        """
        if len(self) == count:
            return self
        if len(self) != 1:
            raise ValueError(
                f"{type(self).__name__} has {len(self)} injections, but {count} are needed; "
                f"give 1 or {count}."
            )
        return self[np.zeros(count, np.intp)]


@dataclass(frozen=True, eq=False)
class LensParams(ParameterArrays):
    """Singular isothermal ellipsoids with external shear, one per injection.

    Conventions as in `dhs.injection`: x = column, y = row, the origin is the centre of the
    stamp, lengths are in arcsec, position angles are anticlockwise from +x.

    Attributes
    ----------
    theta_e_arcsec : (B,) float64
        Einstein radius in the product-average convention, above 0, arcsec.
    shear_g1, shear_g2 : (B,) float64
        External shear about the origin, in [-0.9, 0.9].
    x0_arcsec, y0_arcsec : (B,) float64
        Centre of the lens, arcsec.
    q_lens : (B,) float64
        Axis ratio of the mass, in [0.01, 1].
    phi_lens_rad : (B,) float64
        Position angle of the major axis of the mass, radians.

    Raises
    ------
    TypeError, ValueError
        A value is not a number, is NaN or is out of its range (the message names the field,
        index, value and range), or lengths do not broadcast.
    """

    ranges: ClassVar[dict[str, Range]] = {
        "theta_e_arcsec": _LENGTH,
        "shear_g1": _SHEAR,
        "shear_g2": _SHEAR,
        "x0_arcsec": _POSITION,
        "y0_arcsec": _POSITION,
        "q_lens": _AXIS_RATIO,
        "phi_lens_rad": _ANGLE,
    }

    theta_e_arcsec: Values
    shear_g1: Values = 0.0
    shear_g2: Values = 0.0
    x0_arcsec: Values = 0.0
    y0_arcsec: Values = 0.0
    q_lens: Values = 1.0
    phi_lens_rad: Values = 0.0


@dataclass(frozen=True, eq=False)
class SourceParams(ParameterArrays):
    """Sersic sources with optional Gaussian clumps, one per injection.

    Conventions as in `dhs.injection`. Fluxes are total fluxes of the unlensed source, clumps
    included.

    Attributes
    ----------
    beta_x_arcsec, beta_y_arcsec : (B,) float64
        Position in the source plane, relative to the centre of the stamp, arcsec.
    re_arcsec : (B,) float64
        Half-light radius along the major axis, at least 0.02 arcsec.
    n_sersic : (B,) float64
        Sersic index, in [0.3, 8].
    q : (B,) float64
        Axis ratio, in [0.01, 1].
    phi_rad : (B,) float64
        Position angle of the major axis, radians.
    flux_nmgy_g, flux_nmgy_r, flux_nmgy_z : (B,) float64
        Total unlensed flux in each band, nanomaggies, at least 0.
    n_clumps : (B,) float64
        Number of clumps, an integer in [0, 64].
    clump_frac : (B,) float64
        Fraction of the flux in the clumps, in [0, 1].

    Raises
    ------
    TypeError, ValueError
        Same as in `LensParams`. Also if a number of clumps is not an integer, or ``clump_frac``
        is above 0 where there is no clump.
    """

    ranges: ClassVar[dict[str, Range]] = {
        "beta_x_arcsec": _POSITION,
        "beta_y_arcsec": _POSITION,
        "re_arcsec": _HALF_LIGHT,
        "n_sersic": Range(*SERSIC_INDEX_RANGE),
        "q": _AXIS_RATIO,
        "phi_rad": _ANGLE,
        "flux_nmgy_g": _FLUX,
        "flux_nmgy_r": _FLUX,
        "flux_nmgy_z": _FLUX,
        "n_clumps": Range(0, MOST_CLUMPS),
        "clump_frac": Range(0.0, 1.0),
    }

    beta_x_arcsec: Values
    beta_y_arcsec: Values
    re_arcsec: Values
    n_sersic: Values
    q: Values = 1.0
    phi_rad: Values = 0.0
    flux_nmgy_g: Values = 1.0
    flux_nmgy_r: Values = 1.0
    flux_nmgy_z: Values = 1.0
    n_clumps: Values = 0.0
    clump_frac: Values = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for is_bad, reason in (
            (self.n_clumps % 1 != 0, "it must be an integer"),
            (
                (self.n_clumps == 0) & (self.clump_frac > 0),
                "it must be at least 1 where clump_frac is above 0",
            ),
        ):
            if is_bad.any():
                i = int(np.argmax(is_bad))
                raise ValueError(f"n_clumps[{i}]={self.n_clumps[i]:g} is not allowed: {reason}.")

    def fluxes(self) -> NDArray[np.float64]:
        """Return the unlensed flux per injection and band, (B, 3) float64, nanomaggies."""
        return np.stack([getattr(self, f"flux_nmgy_{band}") for band in BANDS], axis=1)
