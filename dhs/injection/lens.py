"""The lens: deflections, magnifications and image positions, as functions of arrays.

Conventions as in `dhs.injection`. Every function takes float32 or float64 arrays
that broadcast, computes in their common type, and is smooth at an axis ratio of 1.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dhs.arguments import real_array
from dhs.injection.params import LensParams

MOST_IMAGES = 8
_SCANNED_ANGLES = 720
_NEWTON_AND_BISECTION_STEPS = 60
_Floats = NDArray[np.floating[Any]]


def _common(*values: ArrayLike) -> list[_Floats]:
    """Convert values to arrays of one float type, float32 only if every typed value is float32."""
    arrays = [np.asarray(value) for value in values]
    typed = [array.dtype for array in arrays if array.ndim or array.dtype == np.float32]
    dtype = np.result_type(*typed) if typed else np.dtype(np.float64)
    dtype = dtype if dtype in (np.float32, np.float64) else np.dtype(np.float64)
    return [array.astype(dtype) for array in arrays]


def _half_arctan_ratio(t: _Floats) -> _Floats:
    """Compute ``arctan(sqrt(t)) / sqrt(t)`` for ``t`` above -1.

    For negative ``t`` this is ``artanh(sqrt(-t)) / sqrt(-t)``. The function is analytic and 1 at 0.
    """
    root = np.sqrt(np.abs(t))
    safe = np.where(root == 0, 1, root)
    # For a small root the quotient could lose digits; the series does not.
    series = 1 - t / 3 + t * t / 5
    quotient = np.where(t < 0, np.arctanh(np.where(t < 0, root, 0)), np.arctan(root)) / safe
    return np.where(root < 0.001, series, quotient)


def sie_deflection(
    x: ArrayLike,
    y: ArrayLike,
    theta_e: ArrayLike,
    q: ArrayLike,
    phi: ArrayLike,
) -> tuple[_Floats, _Floats]:
    """Compute the deflection of a singular isothermal ellipsoid at the origin.

    The convergence is ``kappa = theta_E / (2 sqrt(q x'^2 + y'^2 / q))`` in the frame of the
    axes. The formula is eq. 27a of Kormann, Schneider & Bartelmann (1994, A&A 284, 285),
    rewritten with half angles, which avoids a division by ``sqrt(1 - q^2)``.

    Parameters
    ----------
    x, y : array_like
        Positions relative to the lens, arcsec. x = column, y = row.
    theta_e : array_like
        Einstein radius in the product-average convention, arcsec.
    q : array_like
        Axis ratio of the mass, in (0, 1].
    phi : array_like
        Position angle of the major axis, anticlockwise from +x, radians.

    Returns
    -------
    alpha_x, alpha_y : ndarray
        Deflection, arcsec, with the broadcast shape. (0, 0) at the centre, where the
        direction is undefined.

    Examples
    --------
    >>> [float(round(a, 10)) for a in sie_deflection(1.0, 0.5, 1.2, 0.7, 0.0)]
    [0.9740865372, 0.6210314287]
    """
    x, y, theta_e, q, phi = _common(x, y, theta_e, q, phi)
    cos, sin = np.cos(phi), np.sin(phi)
    u, v = cos * x + sin * y, cos * y - sin * x
    r, psi = np.hypot(u, v), np.hypot(q * u, v)
    tiny = np.finfo(x.dtype).tiny
    half_x, half_y = u / (r + psi + tiny), v / (q * r + psi + tiny)
    squashed = (1 - q) * (1 + q)
    strength = 2 * theta_e * np.sqrt(q)
    alpha_u = strength * half_x * _half_arctan_ratio(squashed * half_x**2)
    alpha_v = strength * half_y * _half_arctan_ratio(-squashed * half_y**2)
    return cos * alpha_u - sin * alpha_v, sin * alpha_u + cos * alpha_v


def shear_deflection(
    x: ArrayLike, y: ArrayLike, g1: ArrayLike, g2: ArrayLike
) -> tuple[_Floats, _Floats]:
    """Compute the deflection of an external shear about the origin.

    The deflection is ``alpha = (g1 x + g2 y, g2 x - g1 y)``: Meneghetti (2021), Introduction
    to Gravitational Lensing, sect. 5.4, without convergence.

    Parameters
    ----------
    x, y : array_like
        Positions relative to the origin of the shear, arcsec. x = column, y = row.
    g1, g2 : array_like
        Components of the shear.

    Returns
    -------
    alpha_x, alpha_y : ndarray
        Deflection, arcsec, with the broadcast shape.
    """
    x, y, g1, g2 = _common(x, y, g1, g2)
    return g1 * x + g2 * y, g2 * x - g1 * y


def _columns(lens: LensParams, ndim: int) -> dict[str, NDArray[np.float64]]:
    """Return the fields of a lens with trailing axes, so that they broadcast with positions."""
    shape = (len(lens), *(1 for _ in range(ndim - 1)))
    return {name: values.reshape(shape) for name, values in lens.arrays().items()}


def source_position(
    lens: LensParams, x: ArrayLike, y: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Map image positions to the source plane with the lens equation.

    Parameters
    ----------
    lens : LensParams
        B lenses.
    x, y : array_like, shape (B, ...) or (1, ...)
        Image positions relative to the centre of the stamp, arcsec.

    Returns
    -------
    beta_x, beta_y : ndarray of float64
        Positions in the source plane, arcsec.
    """
    x, y = np.atleast_1d(np.asarray(x, np.float64), np.asarray(y, np.float64))
    p = _columns(lens, x.ndim)
    sie_x, sie_y = sie_deflection(
        x - p["x0_arcsec"], y - p["y0_arcsec"], p["theta_e_arcsec"], p["q_lens"], p["phi_lens_rad"]
    )
    shear_x, shear_y = shear_deflection(x, y, p["shear_g1"], p["shear_g2"])
    return x - sie_x - shear_x, y - sie_y - shear_y


def magnification(lens: LensParams, x: ArrayLike, y: ArrayLike) -> NDArray[np.float64]:
    """Compute the signed magnification of a point image.

    The deflection of an isothermal lens is constant along a radius. Its Jacobian is therefore
    ``2 kappa t t^T`` with the tangential direction ``t``, and
    ``1 / mu = det(I - 2 kappa t t^T - Gamma)`` (Kormann et al. 1994, eq. 28, with shear).

    Parameters
    ----------
    lens : LensParams
        B lenses.
    x, y : array_like, shape (B, ...) or (1, ...)
        Image positions relative to the centre of the stamp, arcsec.

    Returns
    -------
    ndarray of float64
        Negative at saddle points, infinite on a critical curve, and 0 at the
        centre of the lens.
    """
    x, y = np.atleast_1d(np.asarray(x, np.float64), np.asarray(y, np.float64))
    p = _columns(lens, x.ndim)
    x, y = x - p["x0_arcsec"], y - p["y0_arcsec"]
    cos, sin, q = np.cos(p["phi_lens_rad"]), np.sin(p["phi_lens_rad"]), p["q_lens"]
    u, v = cos * x + sin * y, cos * y - sin * x
    with np.errstate(divide="ignore", invalid="ignore"):
        double_kappa = p["theta_e_arcsec"] / np.sqrt(q * u**2 + v**2 / q)
        t_x, t_y = -y / np.hypot(x, y), x / np.hypot(x, y)
        a = 1 - double_kappa * t_x**2 - p["shear_g1"]
        b = -double_kappa * t_x * t_y - p["shear_g2"]
        d = 1 - double_kappa * t_y**2 + p["shear_g1"]
        mu = 1 / (a * d - b * b)
    return np.where((x == 0) & (y == 0), 0.0, mu)


def image_positions(
    lens: LensParams, beta_x: ArrayLike, beta_y: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Find all images of a point source.

    An isothermal deflection depends only on the direction. For a given direction the lens
    equation is linear in the radius, which leaves one equation for the angle. The function
    scans its sign and refines every change. It can miss a pair of images less than half a
    degree apart.

    Parameters
    ----------
    lens : LensParams
        B lenses.
    beta_x, beta_y : float or (B,) array_like
        Position of the source, arcsec.

    Returns
    -------
    x, y : (B, 8) float64
        Image positions relative to the centre of the stamp, arcsec, in order of position
        angle. Unused entries are NaN.

    Raises
    ------
    TypeError, ValueError
        A position is not a finite number, or lengths do not match.
    """
    count = len(lens)
    target_x, target_y = (
        np.broadcast_to(real_array(name, value), (count,))[:, None]
        for name, value in (("beta_x", beta_x), ("beta_y", beta_y))
    )
    p = _columns(lens, 2)
    # The shear is about the origin, the angle about the lens.
    shift_x, shift_y = shear_deflection(
        p["x0_arcsec"], p["y0_arcsec"], p["shear_g1"], p["shear_g2"]
    )
    target_x = target_x - p["x0_arcsec"] + shift_x
    target_y = target_y - p["y0_arcsec"] + shift_y

    def along(angle: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the residual of the lens equation and the radius in a direction from the lens."""
        e_x, e_y = np.cos(angle), np.sin(angle)
        alpha_x, alpha_y = sie_deflection(
            e_x, e_y, p["theta_e_arcsec"], p["q_lens"], p["phi_lens_rad"]
        )
        to_x, to_y = target_x + alpha_x, target_y + alpha_y
        bent_x, bent_y = shear_deflection(e_x, e_y, p["shear_g1"], p["shear_g2"])
        m_x, m_y = e_x - bent_x, e_y - bent_y
        return m_x * to_y - m_y * to_x, (m_x * to_x + m_y * to_y) / (m_x**2 + m_y**2)

    # No grid point lies on an axis, where a symmetric lens has images.
    grid = (np.arange(_SCANNED_ANGLES + 1) + 0.137) * (2 * np.pi / _SCANNED_ANGLES)
    value, _ = along(np.broadcast_to(grid, (count, grid.size)))
    row, cell = np.nonzero(np.signbit(value[:, :-1]) != np.signbit(value[:, 1:]))
    low = np.full((count, MOST_IMAGES), np.nan)
    high, is_positive = low.copy(), np.zeros(low.shape, bool)
    slot = np.arange(row.size) - np.searchsorted(row, row)
    keep = slot < MOST_IMAGES
    row, cell, slot = row[keep], cell[keep], slot[keep]
    low[row, slot], high[row, slot] = grid[cell], grid[cell + 1]
    is_positive[row, slot] = ~np.signbit(value[row, cell])
    for _ in range(_NEWTON_AND_BISECTION_STEPS):
        middle = (low + high) / 2
        is_same = ~np.signbit(along(middle)[0]) == is_positive
        low, high = np.where(is_same, middle, low), np.where(is_same, high, middle)
    angle = (low + high) / 2
    _, radius = along(angle)
    angle = np.where(radius > 0, angle, np.nan)
    order = np.argsort(np.where(np.isnan(angle), np.inf, angle % (2 * np.pi)), axis=1)
    angle, radius = (np.take_along_axis(a, order, axis=1) for a in (angle, radius))
    return p["x0_arcsec"] + radius * np.cos(angle), p["y0_arcsec"] + radius * np.sin(angle)
