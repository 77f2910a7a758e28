"""Injection from end to end: stamps, arcs, the table, and independence of the batch."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pandas as pd
import pytest
from astropy.stats import mad_std
from numpy.typing import NDArray
from scipy.signal import fftconvolve

import fastnorm
from dhs.injection import (
    PSF,
    GalaxyStamps,
    Injected,
    Noise,
    arc_snr,
    inject,
    render,
)
from tests.dhs.injection.injection_draws import draws

BANDS = ("g", "r", "z")
COUNT = 12
LENS, SOURCE = draws(COUNT, 50, clumps_prob=0.3)
HOSTS = np.random.default_rng(51).normal(0.01, 0.03, (COUNT, 3, 101, 101)).astype(np.float32)
HOSTS *= np.array([1, 2, 4], np.float32)[:, None, None]
HOSTS.flags.writeable = False
PSFS = PSF.moffat(np.linspace(0.9, 1.8, COUNT))
IDS = np.arange(COUNT) * 11 + 3


def run(rows: Any = None, hosts: Any = HOSTS, **options: Any) -> Injected:
    """Inject into all hosts, or into the given rows."""
    rows = np.arange(COUNT) if rows is None else np.atleast_1d(rows)
    psf = options.pop("psf", PSF.moffat(np.linspace(0.9, 1.8, COUNT)[rows]))
    options = {"seed": 9, "ids": IDS[rows]} | options
    return inject(hosts[rows], LENS[rows], SOURCE[rows], psf, **options)


def columns(table: pd.DataFrame, name: str) -> NDArray[np.float64]:
    return np.stack([table[f"{name}_{band}"].to_numpy(np.float64) for band in BANDS], axis=1)


def test_stamps_are_hosts_and_arcs() -> None:
    found = run()
    assert found._fields == ("stamps", "arc", "table")
    for images in (found.stamps, found.arc):
        assert images.shape == HOSTS.shape
        assert images.dtype == np.float32
    np.testing.assert_array_equal(found.stamps, HOSTS + found.arc)
    np.testing.assert_allclose(found.stamps - HOSTS, found.arc, atol=1e-6)
    assert (found.arc.max(axis=(2, 3)) > 0).all()


@pytest.mark.parametrize("backend", [None, "numba", "reference"])
def test_arcs_are_rendered_and_convolved(backend: str | None) -> None:
    found = run(backend=backend)
    light = render(LENS, SOURCE, seed=9, ids=IDS, backend="reference").astype(np.float64)
    for i in range(COUNT):
        for k in range(3):
            expected = fftconvolve(light[i, k], PSFS.images[i, k], mode="same")
            error = np.abs(found.arc[i, k] - expected).max() / expected.max()
            assert error < 1e-5


def test_table() -> None:
    found = run()
    table = found.table
    parameters = [*LENS.arrays(), *SOURCE.arrays()]
    measured = ["flux_in", "flux_out", "host_sigma", "arc_snr", "arc_snr_matched"]
    assert list(table.columns) == [
        "injection_id",
        "seed",
        *parameters,
        "magnification",
        *(f"{name}_{band}" for band in BANDS for name in measured),
        "poisson_noise",
        "texture_noise",
        *(f"{name}_{band}" for name in ("gain", "texture") for band in BANDS),
    ]
    assert len(table) == COUNT
    # NaN marks noise that was off.
    assert set(table.columns[table.isna().any()]) == set(table.columns[-6:])
    np.testing.assert_array_equal(table["injection_id"], IDS)
    assert (table["seed"] == 9).all()
    for name, values in (LENS.arrays() | SOURCE.arrays()).items():
        np.testing.assert_array_equal(table[name], values)
    np.testing.assert_array_equal(columns(table, "flux_in"), SOURCE.fluxes())
    total = found.arc.sum(axis=(2, 3), dtype=np.float64)
    np.testing.assert_allclose(columns(table, "flux_out"), total, rtol=1e-12)


def test_magnification() -> None:
    table = run().table
    light = render(LENS, SOURCE, seed=9, ids=IDS, bands=("r",)).sum(axis=(1, 2, 3), dtype=float)
    expected = light / SOURCE.flux_nmgy_r
    np.testing.assert_allclose(table["magnification"], expected, rtol=1e-6)
    assert (table["magnification"] > 1.5).all()
    # The PSF conserves flux, except for the light that leaves the stamp.
    after = columns(table, "flux_out") / columns(table, "flux_in")
    np.testing.assert_allclose(after, np.stack([expected] * 3, axis=1), rtol=3e-3)


def test_signal_to_noise() -> None:
    found = run()
    row, column = np.indices((101, 101))
    radius = np.hypot(row - 50, column - 50)
    inside = (radius >= 4) & (radius < 16)
    outer = (radius >= 32.5) & (radius < 45)
    for i in range(COUNT):
        for k, band in enumerate(BANDS):
            sigma = mad_std(HOSTS[i, k][outer].astype(np.float64))
            signal = found.arc[i, k][inside].astype(np.float64).sum()
            expected = signal / (sigma * np.sqrt(np.count_nonzero(inside)))
            np.testing.assert_allclose(found.table[f"host_sigma_{band}"][i], sigma, rtol=1e-5)
            np.testing.assert_allclose(found.table[f"arc_snr_{band}"][i], expected, rtol=1e-5)
    np.testing.assert_allclose(
        arc_snr(found.arc, columns(found.table, "host_sigma")), columns(found.table, "arc_snr")
    )


def test_noise_free_hosts_have_no_finite_signal_to_noise() -> None:
    flat = np.zeros_like(HOSTS)
    table = run(hosts=flat).table
    assert (columns(table, "host_sigma") == 0).all()
    assert np.isinf(columns(table, "arc_snr")).all()


@pytest.mark.parametrize("noise", [None, Noise(50.0, texture=0.5)])
@pytest.mark.parametrize("backend", ["numba", "reference"])
def test_an_injection_does_not_depend_on_its_batch(backend: str, noise: Noise | None) -> None:
    def check(rows: Any) -> None:
        part = run(rows, noise=noise, backend=backend)
        np.testing.assert_array_equal(part.stamps, whole.stamps[rows])
        np.testing.assert_array_equal(part.arc, whole.arc[rows])
        pd.testing.assert_frame_equal(
            part.table, whole.table.iloc[rows].reset_index(drop=True), check_exact=True
        )

    fastnorm.set_num_threads(1)
    whole = run(noise=noise, backend=backend)
    for threads in (1, 2, 3):
        fastnorm.set_num_threads(threads)
        check(np.arange(COUNT))
        check(np.random.default_rng(threads).permutation(COUNT))
    for i in range(COUNT):
        check(np.array([i]))
    check(np.arange(3, 10))


def test_seeds_and_ids_are_what_differs() -> None:
    noise = Noise(50.0)
    whole = run(noise=noise)
    for options in ({"seed": 10}, {"ids": IDS + 1}):
        other = run(noise=noise, **options)
        noisy = (other.stamps - HOSTS != whole.stamps - HOSTS).any(axis=(1, 2, 3))
        assert noisy.all()
        is_clumpy = SOURCE.clump_frac > 0
        assert is_clumpy.any()
        moved = (other.arc != whole.arc).any(axis=(1, 2, 3))
        np.testing.assert_array_equal(moved, is_clumpy)
    by_default = inject(HOSTS, LENS, SOURCE, PSFS)
    np.testing.assert_array_equal(by_default.table["injection_id"], np.arange(COUNT))
    assert (by_default.table["seed"] == 0).all()


@pytest.mark.parametrize("dtype", ["<f8", ">f4", ">f8", "<f2"])
def test_hosts_of_any_float(dtype: str) -> None:
    hosts = HOSTS.astype(dtype)
    hosts.flags.writeable = False
    before = hosts.tobytes()
    found = run(hosts=hosts)
    expected = run(hosts=hosts.astype(np.float32))
    assert found.stamps.dtype == np.float32
    np.testing.assert_array_equal(found.stamps, expected.stamps)
    assert hosts.tobytes() == before
    strided = np.repeat(HOSTS, 2, axis=3)[..., ::2]
    np.testing.assert_array_equal(run(hosts=strided).stamps, run().stamps)


def test_one_lens_source_and_psf_for_all() -> None:
    found = inject(HOSTS, LENS[2], SOURCE[2], PSF.moffat(1.3), ids=np.zeros(COUNT, int))
    assert len(found.table) == COUNT
    for arc in found.arc[1:]:
        np.testing.assert_array_equal(arc, found.arc[0])


def test_galaxy_stamps_are_lensed() -> None:
    pictures = np.random.default_rng(52).uniform(0, 1, (COUNT, 3, 15, 15))
    stamps = GalaxyStamps(pictures, 0.1)
    found = run(galaxy_stamps=stamps)
    light = render(LENS, SOURCE, stamps=stamps)
    error = np.abs(found.arc - PSFS.convolve(light)).max(axis=(1, 2, 3))
    assert (error < 1e-6 * found.arc.max(axis=(1, 2, 3))).all()
    expected = light[:, 1].sum(axis=(1, 2), dtype=np.float64) / SOURCE.flux_nmgy_r
    np.testing.assert_allclose(found.table["magnification"], expected, rtol=1e-5)


@pytest.mark.parametrize("shape", [(64, 64), (41, 60), (18, 18)])
def test_other_shapes_and_scales(shape: tuple[int, int]) -> None:
    hosts = HOSTS[:, :, : shape[0], : shape[1]]
    psf = PSF.gaussian(1.3, pixel_scale=0.4, side=31)
    found = inject(hosts, LENS, SOURCE, psf, pixel_scale=0.4, oversample=2)
    light = render(LENS, SOURCE, shape, 0.4, 2)
    error = np.abs(found.arc - psf.convolve(light)).max(axis=(1, 2, 3))
    assert (error < 1e-6 * light.max(axis=(1, 2, 3))).all()


def test_batches_that_follow_each_other_leave_nothing_behind() -> None:
    hosts = np.zeros((32, 3, 32, 32), np.float32)
    psf = PSF.moffat(1.3, side=31)
    held: list[int] = []
    peaks: list[int] = []

    def batch(number: int) -> None:
        lens, source = draws(32, number, clumps_prob=0.5)
        ids = np.arange(32) + 32 * number
        inject(hosts, lens, source, psf, Noise(50.0), seed=1, ids=ids)

    for number in range(4):
        batch(number)
    tracemalloc.start()
    try:
        for number in range(40):
            tracemalloc.reset_peak()
            batch(number)
            now, peak = tracemalloc.get_traced_memory()
            held.append(now)
            peaks.append(peak)
    finally:
        tracemalloc.stop()
    # The interpreter caches a few kilobytes over time; a batch of stamps takes 384.
    allowed = hosts.nbytes // 4
    assert max(held[-10:]) - max(held[5:15]) < allowed
    assert max(peaks[-10:]) - max(peaks[5:15]) < allowed
    assert max(peaks) < 20 * hosts.nbytes
