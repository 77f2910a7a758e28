"""Draws of a grid, and injection on a device."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from dhs.injection import PSF, Noise, inject, sample_lens_params, sample_source_params
from dhs.injection.psf_models import psf_profile
from dhs.injection.psf_tensors import convolve, psf_transfer, transform_size
from dhs.injection.tensors import inject_tensors
from dhs.selection.draws import BLOCK, Drawer, injection_ids
from dhs.selection.hosts import Hosts
from tests.dhs.selection.grid_runs import grid, write_hosts
from tests.dhs.train.training_runs import SIDE


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hosts(tmp_path_factory.mktemp("hosts") / "pack")


def drawer(pack: Path, **changes: object) -> Drawer:
    config = grid(pack, Path("m"), Path("o"), **changes)
    return Drawer(config, Hosts(config))


def ids(cell: int, *numbers: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return injection_ids(np.full(len(numbers), cell), np.array(numbers))


def test_an_injection_is_the_same_in_any_batch(pack: Path) -> None:
    many = np.concatenate([ids(c, *range(0, 3 * BLOCK, 97)) for c in range(4)])
    together = drawer(pack).draw(many)
    alone = drawer(pack, injections_per_cell=5000, batch_size=2)
    for k in (0, 5, 40, 60, len(many) - 1):
        one = alone.draw(many[k : k + 1])
        assert one.host[0] == together.host[k]
        for name in ("lens", "source"):
            ours, theirs = getattr(one, name).arrays(), getattr(together, name).arrays()
            assert {key: value[0] for key, value in ours.items()} == {
                key: value[k] for key, value in theirs.items()
            }


def test_cells_blocks_and_seeds_differ(pack: Path) -> None:
    first = drawer(pack).draw(ids(0, 0, BLOCK, 1)).source.re_arcsec
    other = drawer(pack).draw(ids(2, 0)).source.re_arcsec
    reseeded = drawer(pack, seed=8).draw(ids(0, 0)).source.re_arcsec
    values = [*first, *other, *reseeded]
    assert len(set(values)) == len(values)


def test_draws_are_those_of_the_configuration(pack: Path) -> None:
    drawn = drawer(pack, source_mag_bins=(22.0, 23.0, 25.0)).draw(ids(2, *range(2000)))
    assert (drawn.lens.theta_e_arcsec == 1.6).all()
    magnitude = 22.5 - 2.5 * np.log10(drawn.source.flux_nmgy_r)
    assert stats.kstest(magnitude, stats.uniform(22.0, 3.0).cdf).pvalue > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("cell", [0, 3])
def test_hosts_are_drawn_without_replacement_until_used_up(pack: Path, cell: int) -> None:
    config = grid(pack, Path("m"), Path("o"))
    pool = Hosts(config).pools[cell]
    assert len(pool) == 20
    numbers = range(BLOCK - 24, BLOCK + 96)  # whole passes; one crosses the edge of a block
    drawn = drawer(pack).draw(ids(cell, *numbers)).host.reshape(-1, 20)
    for hosts in drawn:
        assert sorted(hosts) == pool.tolist()
    assert len({tuple(hosts) for hosts in drawn.tolist()}) == len(drawn)
    # Which hosts come first must not depend on their place in the table.
    first = np.array([drawer(pack, seed=seed).draw(ids(cell, 0)).host[0] for seed in range(400)])
    counts = np.bincount(np.searchsorted(pool, first), minlength=20)
    assert stats.chisquare(counts).pvalue > 1e-3


def test_cells_that_share_hosts_draw_them_in_another_order(pack: Path) -> None:
    one, other = (drawer(pack).draw(ids(cell, *range(20))).host for cell in (0, 2))
    assert sorted(one) == sorted(other)
    assert one.tolist() != other.tolist()


def test_the_mass_follows_the_light_of_the_host(pack: Path) -> None:
    config = grid(pack, Path("m"), Path("o"), q_lens="host")
    hosts = Hosts(config)
    drawn = Drawer(config, hosts).draw(ids(0, *range(500)))
    assert hosts.q is not None
    free = drawn.lens.q_lens < 1  # not cut
    scatter = (drawn.lens.q_lens - hosts.q[drawn.host])[free]
    assert 0.03 < scatter.std() < 0.06
    assert np.corrcoef(drawn.lens.q_lens, hosts.q[drawn.host])[0, 1] > 0.85


@pytest.mark.parametrize("noise", [Noise(), Noise(150.0, 0.3)])
def test_tensors_get_what_arrays_get(noise: Noise) -> None:
    rng = np.random.default_rng(3)
    count, radii = 5, np.full(5, 1.5)
    hosts = rng.normal(0, 0.02, (count, 3, SIDE, SIDE)).astype(np.float32)
    lens = sample_lens_params(rng, radii)
    source = dataclasses.replace(
        sample_source_params(rng, radii), n_clumps=[0, 2, 0, 1, 0], clump_frac=[0, 0.3, 0, 0.2, 0]
    )
    widths = rng.uniform(1.0, 1.5, (count, 3))
    in_g, in_r, in_z = widths.T
    psf = PSF.of_profile(psf_profile(), in_r, fwhm_g_arcsec=in_g, fwhm_z_arcsec=in_z)
    numbers = rng.integers(0, 2**60, count)
    expected = inject(hosts, lens, source, psf, noise, seed=4, ids=numbers)
    got = inject_tensors(torch.from_numpy(hosts), lens, source, widths, noise, 4, numbers)
    close = 2e-6 * float(expected.arc.max())
    off = np.abs(got.stamps.numpy() - expected.stamps)
    # A photon count may differ by one where its mean differs in the last bit, which is rare.
    assert (off > close).mean() < (1e-3 if noise.gain is not None else 1e-12)
    assert off.max() < close + (noise.gain is not None) * 1.001 / 150
    for name, column in got.measured.items():
        np.testing.assert_allclose(column, expected.table[name], rtol=2e-5, err_msg=name)


@pytest.mark.parametrize(("side", "shape"), [(63, (101, 101)), (63, (33, 40)), (5, (6, 3))])
def test_tensors_are_seen_through_the_same_psf(side: int, shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(5)
    widths, images = rng.uniform(0.8, 2.0, (4, 3)), rng.random((4, 1, *shape), np.float32)
    in_g, in_r, in_z = widths.T
    psf = PSF.of_profile(psf_profile(), in_r, fwhm_g_arcsec=in_g, fwhm_z_arcsec=in_z, side=side)
    transfer = psf_transfer(
        torch.from_numpy(widths).float(), transform_size(*shape, side), side=side
    )
    seen = convolve(torch.from_numpy(images), transfer)
    np.testing.assert_allclose(seen.numpy(), psf.convolve(images), rtol=0, atol=1e-6)
