"""Sersic profiles compared with quadrature, clumps, and the random streams that place them."""

from __future__ import annotations

import itertools
from typing import Any

import mpmath
import numpy as np
import pytest
from scipy.integrate import quad

from dhs.injection import SourceParams, render, sersic_b, sersic_total_flux
from dhs.injection.source import draw_clumps
from dhs.injection.streams import Purpose, generator

INDICES = [0.3, 0.5, 0.77, 1.0, 1.5, 2.0, 4.0, 6.3, 8.0]
LARGEST = 2**63 - 1


def test_known_values() -> None:
    assert abs(sersic_b(1.0) - 1.6783469900) < 1e-10
    assert abs(sersic_total_flux(1.0, 0.5, 1.0, 1.0) - 2.9871236854) < 1e-10


@pytest.mark.parametrize("n", INDICES)
def test_b_solves_its_equation(n: float) -> None:
    with mpmath.workdps(40):
        two_n = 2 * mpmath.mpf(n)
        root = mpmath.findroot(
            lambda b: mpmath.gammainc(two_n, 0, b, regularized=True) - 0.5, 2 * n - 0.3
        )
    assert abs(float(sersic_b(n)) / float(root) - 1) < 1e-13


def test_b_of_many_indices() -> None:
    n = np.linspace(0.3, 8, 200).reshape(20, 10)
    b = sersic_b(n)
    assert b.shape == n.shape
    np.testing.assert_array_equal(b.ravel(), [float(sersic_b(one)) for one in n.ravel()])
    assert (np.diff(b.ravel()) > 0).all()


@pytest.mark.parametrize(("n", "re", "q", "at_re"), [(1.0, 0.5, 1.0, 1.0), (0.5, 0.15, 0.3, 2.0)])
def test_total_flux_scales(n: float, re: float, q: float, at_re: float) -> None:
    one = sersic_total_flux(n, 1.0)
    np.testing.assert_allclose(sersic_total_flux(n, re, q, at_re), one * re**2 * q * at_re)


@pytest.mark.parametrize("n", INDICES)
def test_flux_by_quadrature(n: float) -> None:
    re, q, at_re = 0.37, 0.6, 1.9
    b = float(sersic_b(n))

    def light(t: float) -> float:
        # The substitution R = r_e t^n makes even a spheroid smooth.
        return float(at_re * np.exp(-b * (t - 1)) * n * re**2 * t ** (2 * n - 1))

    inside = quad(light, 0, 1, epsabs=0, epsrel=1e-12)[0]
    outside = quad(light, 1, 1 + 60 / b + 20, epsabs=0, epsrel=1e-12, limit=200)[0]
    total = 2 * np.pi * q * (inside + outside)
    np.testing.assert_allclose(sersic_total_flux(n, re, q, at_re), total, rtol=1e-10)
    np.testing.assert_allclose(inside, outside, rtol=1e-10)


@pytest.mark.parametrize("n", [0.5, 1.0, 2.0])
def test_half_of_the_light_is_within_the_half_light_ellipse(n: float) -> None:
    """The half-light radius is measured along the major axis."""
    re, q, phi, scale = 2.0, 0.4, 0.6, 0.04
    source = SourceParams(0.0, 0.0, re, n, q, phi)
    image = render(None, source, (601, 601), scale, bands=("r",))[0, 0].astype(np.float64)
    offset = (np.arange(601) - 300) * scale
    along = np.cos(phi) * offset + np.sin(phi) * offset[:, None]
    across = np.cos(phi) * offset[:, None] - np.sin(phi) * offset
    inside = image[np.hypot(along, across / q) < re].sum()
    assert abs(inside - 0.5) < 2e-3
    # The test detects the wrong ellipse, with the axes exchanged.
    assert image[np.hypot(across, along / q) < re].sum() < 0.45


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: sersic_b([1.0, 0.2]), r"n_sersic\[1\]=0.2 .*\[0.3, 8\]"),
        (lambda: sersic_b(8.1), r"n_sersic=8.1 .*\[0.3, 8\]"),
        (lambda: sersic_b(np.nan), r"n_sersic=nan .*\[0.3, 8\]"),
        (lambda: sersic_total_flux(1.0, 0.0), r"re_arcsec=0 .*\(0, 1000\]"),
        (lambda: sersic_total_flux(1.0, 0.5, 1.1), r"q=1.1 .*\(0, 1\]"),
        (lambda: sersic_total_flux(1.0, 0.5, 1.0, [[np.inf]]), r"intensity_at_re\[0, 0\]=inf"),
    ],
)
def test_bad_profiles_are_refused(call: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        call()


def clumpy(count: int, seed: int = 3) -> SourceParams:
    rng = np.random.default_rng(seed)
    number = rng.integers(0, 7, count)
    return SourceParams(
        beta_x_arcsec=rng.uniform(-0.5, 0.5, count),
        beta_y_arcsec=rng.uniform(-0.5, 0.5, count),
        re_arcsec=rng.uniform(0.15, 0.5, count),
        n_sersic=rng.uniform(0.5, 2, count),
        q=rng.uniform(0.3, 1, count),
        phi_rad=rng.uniform(0, np.pi, count),
        n_clumps=number,
        clump_frac=np.where(number > 0, rng.uniform(0, 1, count), 0.0),
    )


def test_shares_of_clumps_sum_to_theirs() -> None:
    source = clumpy(200)
    clumps = draw_clumps(source, 5, np.arange(200))
    np.testing.assert_allclose(clumps.weight.sum(axis=1), source.clump_frac, rtol=1e-15)
    number = (clumps.weight > 0).sum(axis=1)
    np.testing.assert_array_equal(number, np.where(source.clump_frac > 0, source.n_clumps, 0))
    for weights, share in zip(clumps.weight, source.clump_frac, strict=True):
        np.testing.assert_allclose(weights[weights > 0], share / max(1, (weights > 0).sum()))


def test_clumps_follow_their_source() -> None:
    source = SourceParams(0.0, 0.0, np.full(3000, 0.4), 1.0, q=0.5, n_clumps=4, clump_frac=0.3)
    clumps = draw_clumps(source, 5, np.arange(3000))
    # 12,000 normal numbers determine the standard deviation to 0.65%.
    assert abs(clumps.x.std() / (0.7 * 0.4) - 1) < 0.03
    assert abs(clumps.y.std() / (0.7 * 0.4 * 0.5) - 1) < 0.03
    assert 0.04 <= clumps.sigma.min() < 0.042
    assert 0.118 < clumps.sigma.max() <= 0.12
    tiny = draw_clumps(SourceParams(0.0, 0.0, 0.1, 1.0, n_clumps=9, clump_frac=1), 5, np.arange(1))
    assert tiny.sigma.min() == 0.04


def test_clumps_depend_on_seed_and_id_alone() -> None:
    source, ids = clumpy(60), np.arange(60) * 17 + 5
    whole = draw_clumps(source, 5, ids)
    order = np.random.default_rng(0).permutation(60)
    shuffled = draw_clumps(source[order], 5, ids[order])
    for part, other in zip(whole, shuffled, strict=True):
        np.testing.assert_array_equal(part[order], other)
    for i in range(60):
        alone = draw_clumps(source[i], 5, ids[i : i + 1])
        for name, part, other in zip(whole._fields, whole, alone, strict=True):
            np.testing.assert_array_equal(part[i, : other.shape[1]], other[0])
            assert not other.shape[1] or (part[i, other.shape[1] :] == (name == "sigma")).all()
    is_clumpy = source.clump_frac > 0
    for seed, numbers in ((6, ids), (5, ids + 1)):
        different = draw_clumps(source, seed, numbers)
        assert (different.x[is_clumpy, 0] != whole.x[is_clumpy, 0]).all()


@pytest.mark.parametrize("backend", ["numba", "reference"])
def test_clumps_take_their_share_and_add_none(backend: str) -> None:
    source = SourceParams(0.1, -0.2, 0.3, 1.0, 0.7, n_clumps=5, clump_frac=[0.0, 0.4, 1.0])
    images = render(None, source, bands=("g",), seed=9, ids=[1, 1, 1], backend=backend)
    np.testing.assert_allclose(images.sum(axis=(1, 2, 3)), 1, atol=1e-3)
    mixed = 0.6 * images[0] + 0.4 * images[2]
    assert np.abs(images[1] - mixed).max() < 1e-3 * mixed.max()
    assert np.abs(images[1] - images[0]).max() > 0.05 * images[0].max()
    other = render(None, source, bands=("g",), seed=9, ids=[1, 2, 1], backend=backend)
    assert (other[1] != images[1]).any()


def philox(counter: list[int], key: list[int]) -> list[int]:
    """Compute ten rounds of Philox4x64, as printed by Salmon et al. (2011)."""
    word = 2**64
    for _ in range(10):
        first, second = 0xD2E7470EE14C6C93 * counter[0], 0xCA5A826395121157 * counter[2]
        counter = [
            second // word ^ counter[1] ^ key[0],
            second % word,
            first // word ^ counter[3] ^ key[1],
            first % word,
        ]
        key = [(key[0] + 0x9E3779B97F4A7C15) % word, (key[1] + 0xBB67AE8584CAA73B) % word]
    return counter


PINNED = {
    (0, 0, Purpose.PARAMETERS): [6312158256571094726, 10634814581434429480],
    (1337, 7, Purpose.CLUMPS): [13245197466727164879, 1455003724059432848],
    (LARGEST, LARGEST, Purpose.OBSERVATION): [14454987257439163725, 10756734561821921857],
}


@pytest.mark.parametrize(("seed", "number", "purpose"), PINNED)
def test_streams_are_pinned(seed: int, number: int, purpose: Purpose) -> None:
    words = raw(seed, number, purpose)
    assert words[:2] == PINNED[seed, number, purpose]
    assert words[:4] == philox([1, 0, 0, int(purpose)], [seed, number])
    assert words[4:] == philox([2, 0, 0, int(purpose)], [seed, number])


def raw(seed: int, number: int, purpose: Purpose) -> list[int]:
    bits: Any = generator(seed, number, purpose).bit_generator
    return [int(word) for word in bits.random_raw(8)]


def test_purposes_are_pinned() -> None:
    """Changing the number of a purpose would change every injection ever made."""
    names = ["PARAMETERS", "CLUMPS", "POISSON", "TEXTURE", "HOST", "SKY", "OBSERVATION"]
    assert [int(Purpose[name]) for name in names] == [1, 2, 3, 4, 5, 6, 7]
    assert len(Purpose.__members__) == len(set(Purpose))


def test_streams_differ_where_anything_differs() -> None:
    keys = list(itertools.product((0, 1, 7, LARGEST), (0, 1, 7, LARGEST), Purpose))
    streams = {tuple(raw(*key)) for key in keys}
    assert len(streams) == len(keys)
    assert all(raw(*key) == raw(*key) for key in keys)
    together = np.concatenate([raw(*key) for key in keys])
    assert len(set(together.tolist())) == together.size


@pytest.mark.parametrize(
    ("seed", "number", "error", "words"),
    [
        (-1, 0, ValueError, r"seed=-1 .*\[0, 9223372036854775807\]"),
        (0, 2**63, ValueError, r"injection_id=9223372036854775808"),
        (1.5, 0, TypeError, "seed=1.5 is not an integer"),
        (True, 0, TypeError, "seed=True is not an integer"),
        (0, "a", TypeError, "injection_id='a' is not an integer"),
    ],
)
def test_bad_seeds_are_refused(seed: Any, number: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        generator(seed, number, Purpose.SKY)
