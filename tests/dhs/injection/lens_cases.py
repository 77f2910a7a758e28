"""Checks of the Triton backend of the lens renderer, as functions of a device.

On a GPU they run under pytest. Elsewhere they run in a separate process with
``TRITON_INTERPRET=1``: ``python -m tests.dhs.injection.lens_cases [NAMES]`` prints one line of JSON
per check. Each check returns the number of images it compared.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import torch
import triton.language as tl
from numpy.typing import NDArray
from torch import Tensor

from dhs.constants import PIXEL_SCALE
from dhs.injection import (
    PSF,
    LensParams,
    Noise,
    SourceParams,
    inject,
    reference,
    sample_lens_params,
    sample_source_params,
    triton_backend,
)
from dhs.injection.quadrature import Plan, make_plan
from dhs.injection.source import draw_clumps
from dhs.injection.tensors import inject_tensors
from fastnorm.kernels import lens_columns as column
from fastnorm.kernels import triton_lens

# Tolerances relative to the brightest pixel. The second allows for levels that float32 changes.
ROUNDING, QUADRATURE = 1e-5, 5e-3
SMALL = (7, 9)
Check = Callable[[torch.device], int]
CHECKS: dict[str, Check] = {}
# Checks with the compiled tile size. In the interpreter, the others use larger tiles for speed.
IN_COMPILED_TILES = ("compiled_tiles",)


def check(function: Check) -> Check:
    CHECKS[function.__name__] = function
    return function


@contextmanager
def tiles(height: int, width: int) -> Iterator[None]:
    names = {"TILE_HEIGHT": height, "TILE_WIDTH": width, "LANES": height * width}
    constants = {name: tl.constexpr(value) for name, value in names.items()}
    with mock.patch.multiple(triton_lens, **constants):
        yield


def draws(
    count: int, seed: int, theta_e_range: tuple[float, float] = (0.5, 1.0), **options: Any
) -> tuple[LensParams, SourceParams]:
    """Draw from the priors, by default with small Einstein radii, which suit small stamps."""
    rng = np.random.default_rng(seed)
    theta_e = rng.uniform(*theta_e_range, count)
    return sample_lens_params(rng, theta_e), sample_source_params(rng, theta_e, **options)


def plan_of(
    lens: LensParams | None,
    source: SourceParams,
    shape: tuple[int, int],
    oversample: int = 4,
    first: int = 0,
) -> Plan:
    clumps = draw_clumps(source, 1, np.arange(first, first + len(source)))
    return make_plan(lens, source, clumps, source.fluxes(), shape, PIXEL_SCALE, oversample)


def rendered(plan: Plan, device: torch.device) -> NDArray[np.float32]:
    """Render with the backend into an output full of NaN."""
    shape = (len(plan.table), plan.flux.shape[1], *plan.shape)
    out: Tensor = torch.full(shape, torch.nan, device=device)
    triton_backend.run(plan, out)
    images: NDArray[np.float32] = out.cpu().numpy()
    return images


def compare(plan: Plan, device: torch.device, tolerance: float = ROUNDING) -> int:
    """Compare the images of a plan with the reference in float64."""
    actual = rendered(plan, device)
    expected: Any = np.zeros(actual.shape)
    reference.run(plan, expected)
    for i, (one, wanted) in enumerate(zip(actual, expected, strict=True)):
        worst = np.abs(one - wanted).max() / wanted.max()
        assert worst <= tolerance, f"image {i} differs by {worst:.1e} of its peak"
    return len(actual)


@check
def draws_from_the_priors(device: torch.device) -> int:
    return compare(plan_of(*draws(1, 1, (0.5, 2.0)), (31, 31)), device)


@check
def not_square(device: torch.device) -> int:
    lens, source = draws(1, 2)
    count = compare(plan_of(lens, source, (9, 33)), device)
    return count + compare(plan_of(lens, source, (1, 1)), device)


@check
def round_and_flat_lenses(device: torch.device) -> int:
    lens, source = draws(3, 3)
    flat = dataclasses.replace(lens, q_lens=[1.0, 0.2, 1 - 1e-9])
    return compare(plan_of(flat, source, SMALL, 2), device)


@check
def no_lens(device: torch.device) -> int:
    """Check an unlensed source, which is 0 beyond the reach of its light."""
    _, source = draws(1, 4)
    compact = dataclasses.replace(source, re_arcsec=0.15, n_sersic=0.5)
    plan = plan_of(None, compact, (15, 40))
    count = compare(plan, device)
    x, y = ((np.arange(n) - (n - 1) / 2) * PIXEL_SCALE for n in (40, 15))
    is_dark = np.hypot(x, y[:, None]) > plan.table[0, column.REACH]
    assert is_dark[:, -8:].all(), "no tile is dark"
    assert (rendered(plan, device)[:, :, is_dark] == 0).all()
    return count


@check
def clumps(device: torch.device) -> int:
    """Check sources with no clumps, with some, and with nothing else."""
    lens, source = draws(3, 5)
    clumpy = dataclasses.replace(source, n_clumps=[0, 3, 2], clump_frac=[0.0, 0.4, 1.0])
    return compare(plan_of(lens, clumpy, SMALL), device)


@check
def strong_shear_off_centre(device: torch.device) -> int:
    lens, source = draws(1, 7)
    place = {"x0_arcsec": 0.7, "y0_arcsec": -1.1}
    moved = dataclasses.replace(lens, shear_g1=0.2, shear_g2=-0.25, **place)
    return compare(plan_of(moved, source, SMALL), device)


@check
def source_behind_the_lens(device: torch.device) -> int:
    lens, source = draws(1, 8)
    place = {"beta_x_arcsec": lens.x0_arcsec, "beta_y_arcsec": lens.y0_arcsec}
    centred = dataclasses.replace(lens, q_lens=1.0, shear_g1=0.0, shear_g2=0.0)
    return compare(plan_of(centred, dataclasses.replace(source, **place), SMALL), device)


@check
def every_oversample(device: torch.device) -> int:
    lens, source = draws(1, 9)
    return sum(compare(plan_of(lens, source, (5, 7), o), device) for o in (1, 2, 8))


@check
def steep_and_flat_profiles(device: torch.device) -> int:
    lens, source = draws(2, 10)
    sources = dataclasses.replace(source, n_sersic=[0.3, 4.0])
    return compare(plan_of(lens, sources, SMALL, 2), device)


@check
def bands(device: torch.device) -> int:
    """Check different fluxes per band, one of them 0, and a single band."""
    lens, source = draws(1, 11)
    source = dataclasses.replace(source, flux_nmgy_g=0.5, flux_nmgy_r=0.0, flux_nmgy_z=300.0)
    plan = plan_of(lens, source, (5, 5))
    count = compare(plan, device)
    images = rendered(plan, device)
    assert (images[:, 1] == 0).all()
    np.testing.assert_allclose(images[:, 2], 600 * images[:, 0], rtol=1e-6)
    alone = rendered(plan._replace(flux=plan.flux[:, :1]), device)
    assert np.array_equal(alone, images[:, :1])
    return count


@check
def whole_cutout(device: torch.device) -> int:
    return compare(plan_of(*draws(1, 12), (101, 101)), device)


@check
def compiled_tiles(device: torch.device) -> int:
    """Check fewer cells than the 32 lanes of a tile, more cells, and a number not dividing 32."""
    lens, source = draws(1, 13, clumps_prob=1.0)
    count = compare(plan_of(lens, source, (5, 7)), device)
    lens, source = draws(1, 14)
    return count + sum(compare(plan_of(lens, source, (2, 3), o), device) for o in (3, 8))


@check
def alone_or_in_a_batch(device: torch.device) -> int:
    """Check for identical bits even if other images have clumps and more terms of the series."""
    lens, source = draws(2, 15)
    mixed = dataclasses.replace(source, n_clumps=[0, 2], clump_frac=[0, 0.4])
    flat = dataclasses.replace(lens, q_lens=[0.9, 0.3])
    whole = rendered(plan_of(flat, mixed, (4, 6), 2), device)
    for i in range(2):
        alone = plan_of(flat[i], mixed[i], (4, 6), 2, first=i)
        assert alone.clumps.shape[1] == 2 * i
        assert np.array_equal(rendered(alone, device)[0], whole[i]), i
    return len(whole)


@check
def levels_that_are_rounded(device: torch.device) -> int:
    """Check that an image stays within the quadrature error where float32 changes a level."""
    return compare(plan_of(*draws(5, 16), SMALL, 2), device, QUADRATURE)


@check
def in_hosts(device: torch.device) -> int:
    """Compare a whole injection on the device of the hosts with one of arrays."""
    lens, source = draws(1, 18)
    hosts = np.random.default_rng(18).normal(0, 0.1, (1, 3, 33, 33)).astype(np.float32)
    psf, ids = PSF.moffat(1.3), np.arange(1)
    expected = inject(hosts, lens, source, psf, backend="reference")
    there = torch.from_numpy(hosts).to(device)
    widths = np.array([[1.07 * 1.3, 1.3, 0.94 * 1.3]])
    got = inject_tensors(there, lens, source, widths, Noise(), 0, ids, backend="triton")
    assert got.stamps.device.type == device.type
    arc = got.stamps.cpu().numpy() - hosts
    assert np.abs(arc - expected.arc).max() < 10 * ROUNDING * expected.arc.max()
    for name, column_ in got.measured.items():
        np.testing.assert_allclose(column_, expected.table[name], rtol=1e-4, err_msg=name)
    return len(hosts)


@check
def nothing_to_do(device: torch.device) -> int:
    plan = plan_of(*draws(1, 17), SMALL)
    none = slice(0, 0)
    plan = plan._replace(table=plan.table[none], clumps=plan.clumps[none], flux=plan.flux[none])
    assert rendered(plan, device).shape == (0, 3, *SMALL)
    return 0


def main(names: list[str]) -> None:
    for name in names:
        start, error, images = time.perf_counter(), "", 0
        size = (4, 8) if name in IN_COMPILED_TILES else (16, 16)
        try:
            with tiles(*size):
                images = CHECKS[name](torch.device("cpu"))
        except Exception:
            error = traceback.format_exc()
        line = {"check": name, "images": images, "error": error}
        print(json.dumps({**line, "seconds": time.perf_counter() - start}), flush=True)


if __name__ == "__main__":
    warnings.simplefilter("error")
    main(sys.argv[1:] or list(CHECKS))
