"""The reference renderer in NumPy and float64, written for clarity, not for speed.

The tests compare the other backends with it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dhs.injection.quadrature import Nodes, Plan
from fastnorm.kernels import lens_columns as column

Row = NDArray[np.float64]


def source_frame(row: Row, x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[Row, Row]:
    """Map image positions to the source plane, in the frame of the source.

    Parameters
    ----------
    row : (COLUMNS,) float64
        One row of the table of a plan.
    x, y : float64 arrays
        Image positions relative to the centre of the stamp, arcsec.

    Returns
    -------
    u, v : float64 arrays
        Positions along the major and the minor axis of the source, arcsec.
    """
    cos, sin = row[column.LENS_COS], row[column.LENS_SIN]
    from_lens_x, from_lens_y = x - row[column.LENS_X], y - row[column.LENS_Y]
    u, v = cos * from_lens_x + sin * from_lens_y, cos * from_lens_y - sin * from_lens_x
    q, strength = row[column.LENS_Q], row[column.LENS_STRENGTH]
    r, psi = np.hypot(u, v), np.hypot(q * u, v)
    tiny = np.finfo(np.float64).tiny
    half_u, half_v = u / (r + psi + tiny), v / (q * r + psi + tiny)
    root = np.sqrt(row[column.LENS_SQUASH])
    # arctan(z) / z and artanh(z) / z, which are 1 at z = 0.
    at_u, at_v = np.maximum(np.abs(root * half_u), 1e-12), np.maximum(np.abs(root * half_v), 1e-12)
    alpha_u = strength * half_u * np.arctan(at_u) / at_u
    alpha_v = strength * half_v * np.arctanh(at_v) / at_v
    g1, g2 = row[column.SHEAR_1], row[column.SHEAR_2]
    beta_x = x - (cos * alpha_u - sin * alpha_v) - (g1 * x + g2 * y) - row[column.SOURCE_X]
    beta_y = y - (sin * alpha_u + cos * alpha_v) - (g2 * x - g1 * y) - row[column.SOURCE_Y]
    cos, sin = row[column.SOURCE_COS], row[column.SOURCE_SIN]
    return cos * beta_x + sin * beta_y, cos * beta_y - sin * beta_x


def surface_brightness(row: Row, clumps: NDArray[np.float64], u: Row, v: Row) -> Row:
    """Compute the light of a source of flux 1, per pixel, at positions in its own frame.

    Parameters
    ----------
    row : (COLUMNS,) float64
        One row of the table of a plan.
    clumps : (M, CLUMP_COLUMNS) float64
        Clumps of the source.
    u, v : float64 arrays
        Positions along the major and the minor axis of the source, arcsec.

    Returns
    -------
    float64 array
    """
    square = u**2 + (v * row[column.SOURCE_INVERSE_Q]) ** 2
    with np.errstate(divide="ignore"):
        exponent = row[column.HALF_POWER] * np.log2(square) + row[column.LOG2_SCALE]
    light: Row = row[column.AMPLITUDE] * np.exp2(-np.exp2(np.minimum(exponent, 10)))
    for clump in clumps:
        square = (u - clump[column.CLUMP_X]) ** 2 + (v - clump[column.CLUMP_Y]) ** 2
        light += clump[column.CLUMP_AMPLITUDE] * np.exp2(-clump[column.CLUMP_RATE] * square)
    return light


def _distance(row: Row, u: Row, v: Row, size: float) -> Row:
    """Compute the squared elliptical radius of the nearest point of a pixel or cell."""
    near_u, near_v = np.maximum(np.abs(u) - size / 2, 0), np.maximum(np.abs(v) - size / 2, 0)
    square: Row = near_u**2 + (near_v * row[column.SOURCE_INVERSE_Q]) ** 2
    return square


def _lens_distance(row: Row, x: Row, y: Row, size: float) -> Row:
    """Compute the same as `_distance`, but from the lens and in its own elliptical radius."""
    cos, sin, q = row[column.LENS_COS], row[column.LENS_SIN], row[column.LENS_Q]
    to_x, to_y = x - row[column.LENS_X], y - row[column.LENS_Y]
    near_u = np.maximum(np.abs(cos * to_x + sin * to_y) - size / 2, 0)
    near_v = np.maximum(np.abs(cos * to_y - sin * to_x) - size / 2, 0)
    square: Row = q * near_u**2 + near_v**2 / q
    return square


def _near_a_clump(clumps: NDArray[np.float64], u: Row, v: Row, size: float) -> NDArray[np.bool_]:
    is_near = np.zeros(u.shape, bool)
    for clump in clumps:
        near_u = np.maximum(np.abs(u - clump[column.CLUMP_X]) - size / 2, 0)
        near_v = np.maximum(np.abs(v - clump[column.CLUMP_Y]) - size / 2, 0)
        square = near_u**2 + near_v**2
        is_near |= square < clump[column.CLUMP_REACH] ** 2
    return is_near


def pixel_levels(
    row: Row, clumps: NDArray[np.float64], x: Row, y: Row, pixel_scale: float
) -> NDArray[np.intp]:
    """Compute the level of every pixel from its position in the image and in the source plane.

    Parameters
    ----------
    row : (COLUMNS,) float64
        One row of the table of a plan.
    clumps : (M, CLUMP_COLUMNS) float64
        Clumps of the source.
    x, y : float64 arrays
        Centres of the pixels relative to the centre of the stamp, arcsec.
    pixel_scale : float
        Arcsec per pixel.

    Returns
    -------
    intp array
        Levels from 0 to ``SPLIT``.
    """
    u, v = source_frame(row, x, y)
    near = _distance(row, u, v, pixel_scale)
    rings = row[column.PIXEL_RINGS : column.PIXEL_RINGS + 3]
    level: NDArray[np.intp] = (near[..., None] < rings).sum(axis=-1)
    if row[column.LENS_STRENGTH] > 0:
        from_lens = _lens_distance(row, x, y, pixel_scale)
        is_bright = near < row[column.BRIGHT_RING]
        for share in (2, 4):
            level += is_bright & (from_lens < (row[column.THETA_E] / share) ** 2)
        level[from_lens < (pixel_scale / 2) ** 2] = column.SPLIT
    level[_near_a_clump(clumps, u, v, pixel_scale)] = column.SPLIT
    return np.minimum(level, column.SPLIT)


def _cell_levels(
    row: Row, clumps: NDArray[np.float64], x: Row, y: Row, size: float
) -> NDArray[np.intp]:
    """Compute the level of every cell of split pixels."""
    u, v = source_frame(row, x, y)
    rings = row[column.CELL_RINGS : column.CELL_RINGS + 2]
    level: NDArray[np.intp] = (_distance(row, u, v, size)[..., None] < rings).sum(axis=-1)
    near_clump = _near_a_clump(clumps, u, v, size)
    return np.where(near_clump, np.maximum(level, 1), level)


def _integrate(
    row: Row,
    clumps: NDArray[np.float64],
    nodes: Nodes,
    which: int,
    x: Row,
    y: Row,
    size: float,
) -> Row:
    """Compute the mean light over squares around ``x, y`` with one set of nodes."""
    chosen = slice(nodes.start[which], nodes.start[which + 1])
    at_x = x[:, None] + size * nodes.x[chosen]
    at_y = y[:, None] + size * nodes.y[chosen]
    light: Row = surface_brightness(row, clumps, *source_frame(row, at_x, at_y))
    return light @ nodes.weight[chosen]


def _integrate_split(
    row: Row, clumps: NDArray[np.float64], nodes: Nodes, x: Row, y: Row, pixel_scale: float
) -> Row:
    """Compute the mean light over split pixels around ``x, y``."""
    chosen = slice(nodes.start[column.CELLS], nodes.start[column.CELLS + 1])
    cell_x = x[:, None] + pixel_scale * nodes.x[chosen]
    cell_shape = cell_x.shape
    cell_x = cell_x.ravel()
    cell_y = (y[:, None] + pixel_scale * nodes.y[chosen]).ravel()
    size = pixel_scale * math.sqrt(nodes.weight[chosen][0])
    level = _cell_levels(row, clumps, cell_x, cell_y, size)
    light = np.empty(cell_x.size)
    for number, which in enumerate((0, column.CELL_NODES + 1, column.CELL_NODES + 2)):
        at = level == number
        light[at] = _integrate(row, clumps, nodes, which, cell_x[at], cell_y[at], size)
    return light.reshape(cell_shape) @ nodes.weight[chosen]


def run(plan: Plan, out: NDArray[np.float32]) -> None:
    """Render a plan into ``out``, (B, bands, H, W) float32."""
    height, width = plan.shape
    scale, nodes = plan.pixel_scale, plan.nodes
    y, x = np.meshgrid(
        (np.arange(height) - (height - 1) / 2) * scale,
        (np.arange(width) - (width - 1) / 2) * scale,
        indexing="ij",
    )
    for row, padded, flux, images in zip(plan.table, plan.clumps, plan.flux, out, strict=True):
        clumps = padded[: int(row[column.CLUMPS])]
        shape = np.zeros((height, width))
        is_lit = x**2 + y**2 < row[column.REACH] ** 2
        level = pixel_levels(row, clumps, x, y, scale)
        for number in range(column.SPLIT):
            at = is_lit & (level == number)
            shape[at] = _integrate(row, clumps, nodes, number, x[at], y[at], scale)
        at = is_lit & (level == column.SPLIT)
        shape[at] = _integrate_split(row, clumps, nodes, x[at], y[at], scale)
        images[:] = flux[:, None, None] * shape
