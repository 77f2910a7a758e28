"""The error for any bad input of the injection names the field, index, value and range."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dhs.injection import (
    PSF,
    GalaxyStamps,
    LensParams,
    Noise,
    SourceParams,
    inject,
    sample_lens_params,
    sample_source_params,
)
from tests.dhs.injection.injection_draws import draws

# A good value, the ends of the range, and whether the lower end is allowed.
Field = tuple[float, float, float, bool]
LENS_FIELDS: dict[str, Field] = {
    "theta_e_arcsec": (1.2, 0, 1000, False),
    "shear_g1": (0.1, -0.9, 0.9, True),
    "shear_g2": (0.1, -0.9, 0.9, True),
    "x0_arcsec": (0.1, -1000, 1000, True),
    "y0_arcsec": (0.1, -1000, 1000, True),
    "q_lens": (0.7, 0.01, 1, True),
    "phi_lens_rad": (0.3, -1000, 1000, True),
}
SOURCE_FIELDS: dict[str, Field] = {
    "beta_x_arcsec": (0.2, -1000, 1000, True),
    "beta_y_arcsec": (0.1, -1000, 1000, True),
    "re_arcsec": (0.3, 0.02, 1000, True),
    "n_sersic": (1.0, 0.3, 8, True),
    "q": (0.7, 0.01, 1, True),
    "phi_rad": (0.3, -1000, 1000, True),
    "flux_nmgy_g": (1.0, 0, 1e12, True),
    "flux_nmgy_r": (1.0, 0, 1e12, True),
    "flux_nmgy_z": (1.0, 0, 1e12, True),
    "n_clumps": (2.0, 0, 64, True),
    "clump_frac": (0.3, 0, 1, True),
}
Params = type[LensParams] | type[SourceParams]
ALL: dict[str, tuple[Params, Field]] = {
    **{name: (LensParams, field) for name, field in LENS_FIELDS.items()},
    **{name: (SourceParams, field) for name, field in SOURCE_FIELDS.items()},
}


def good(kind: Params) -> dict[str, Any]:
    fields = LENS_FIELDS if kind is LensParams else SOURCE_FIELDS
    return {name: field[0] for name, field in fields.items()}


def test_every_field_is_checked_here() -> None:
    for kind, fields in ((LensParams, LENS_FIELDS), (SourceParams, SOURCE_FIELDS)):
        assert [field.name for field in dataclasses.fields(kind)] == list(fields)


@pytest.mark.parametrize("name", ALL)
def test_values_out_of_range(name: str) -> None:
    kind, (fine, low, high, low_is_allowed) = ALL[name]
    span = f"{'[' if low_is_allowed else '('}{low:g}, {high:g}]"
    just_below = np.nextafter(low, -np.inf) if low_is_allowed else low
    bad = [
        np.nan,
        np.inf,
        -np.inf,
        just_below,
        low - 1,
        np.nextafter(high, np.inf),
        high + 1,
        1e300,
    ]
    for value in bad:
        words = f"{value:g} is not allowed: it must be a finite number in {span}"
        with pytest.raises(ValueError, match=re.escape(f"{name}={words}")):
            kind(**(good(kind) | {name: value}))
        # The error names the first bad value, not the worst or the last.
        values = [fine, fine, value, fine, np.nan]
        with pytest.raises(ValueError, match=re.escape(f"{name}[2]={words}")):
            kind(**(good(kind) | {name: values}))


@pytest.mark.parametrize("name", ALL)
def test_values_at_the_ends_are_taken(name: str) -> None:
    kind, (_, low, high, low_is_allowed) = ALL[name]
    values = [low if low_is_allowed else np.nextafter(low, 1), high]
    if name == "n_clumps":
        values[0] = 1  # clump_frac needs at least one clump
    params = kind(**(good(kind) | {name: values}))
    np.testing.assert_array_equal(getattr(params, name), values)
    assert len(params) == 2


@pytest.mark.parametrize("value", ["0.5", None, 1 + 0j, True, [0.5, "x"], object(), [True, False]])
@pytest.mark.parametrize("name", ALL)
def test_values_that_are_no_numbers(name: str, value: Any) -> None:
    kind, _ = ALL[name]
    with pytest.raises(TypeError, match=f"^{name} has dtype .*; give real numbers"):
        kind(**(good(kind) | {name: value}))


@pytest.mark.parametrize("name", ALL)
def test_shapes_and_lengths(name: str) -> None:
    kind, (fine, *_) = ALL[name]
    with pytest.raises(ValueError, match=rf"{name} has shape \(2, 2\); .*\(B,\)"):
        kind(**(good(kind) | {name: [[fine] * 2] * 2}))
    other = next(field for field in good(kind) if field != name)
    lengths = {name: [fine] * 3, other: [good(kind)[other]] * 2}
    with pytest.raises(ValueError, match="lengths of the fields do not broadcast") as caught:
        kind(**(good(kind) | lengths))
    assert f"{name} 3" in str(caught.value)
    assert f"{other} 2" in str(caught.value)
    assert len(kind(**(good(kind) | {name: [fine] * 3, other: [good(kind)[other]]}))) == 3


@pytest.mark.parametrize(
    ("clumps", "share", "words"),
    [
        ([0, 1], 0.3, r"n_clumps\[0\]=0 is not allowed: it must be at least 1"),
        ([1, 1.5], 0.3, r"n_clumps\[1\]=1.5 is not allowed: it must be an integer"),
        ([1, 2, 0], [0.3, 0, 0.1], r"n_clumps\[2\]=0 .* where clump_frac is above 0"),
    ],
)
def test_clumps_that_make_no_sense(clumps: Any, share: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        SourceParams(0.0, 0.0, 0.3, 1.0, n_clumps=clumps, clump_frac=share)


@pytest.mark.parametrize("kind", [LensParams, SourceParams])
def test_parameters_are_arrays_that_stay(kind: Params) -> None:
    name = next(iter(good(kind)))
    values = np.array([0.5, 0.6, 0.7, 0.8])
    params = kind(**(good(kind) | {name: values}))
    values[:] = -1
    np.testing.assert_array_equal(getattr(params, name), [0.5, 0.6, 0.7, 0.8])
    for array in params.arrays().values():
        assert (array.dtype, array.shape) == (np.dtype(np.float64), (4,))
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1.0
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(params, name, 1.0)
    assert len(params) == 4
    np.testing.assert_array_equal(getattr(params[1:3], name), [0.6, 0.7])
    np.testing.assert_array_equal(getattr(params[2], name), [0.7])
    np.testing.assert_array_equal(getattr(params[[3, 0, 0]], name), [0.8, 0.5, 0.5])
    np.testing.assert_array_equal(getattr(params[np.arange(4) < 2], name), [0.5, 0.6])
    assert [float(getattr(one, name)[0]) for one in params] == [0.5, 0.6, 0.7, 0.8]
    assert len(params.broadcast_to(4)) == 4
    assert len(params[0].broadcast_to(7)) == 7
    with pytest.raises(ValueError, match="has 4 injections, but 7 are needed; give 1 or 7"):
        params.broadcast_to(7)


HOSTS = np.random.default_rng(60).normal(0, 0.1, (4, 3, 40, 40)).astype(np.float32)
LENS, SOURCE = draws(4, 61)
STAMPS = GalaxyStamps(np.ones((3, 3)), 0.1)


def hosts_with(value: float, *index: int) -> Any:
    hosts = HOSTS.astype(np.float64)
    hosts[index] = value
    hosts[3, 2, 39, 39] = np.nan
    return hosts


BAD_CALLS: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "hosts NaN": (
        {"hosts": hosts_with(np.nan, 1, 2, 3, 4)},
        ValueError,
        r"hosts\[1, 2, 3, 4\]=nan",
    ),
    "hosts inf": (
        {"hosts": hosts_with(-np.inf, 2, 0, 0, 7)},
        ValueError,
        r"hosts\[2, 0, 0, 7\]=-inf",
    ),
    "hosts 3-d": (
        {"hosts": HOSTS[0]},
        ValueError,
        r"hosts has shape \(3, 40, 40\).*\(B, 3, H, W\)",
    ),
    "hosts 5-d": ({"hosts": HOSTS[None]}, ValueError, r"hosts has shape \(1, 4, 3, 40, 40\)"),
    "two bands": (
        {"hosts": HOSTS[:, :2]},
        ValueError,
        r"hosts has shape \(4, 2, 40, 40\).*g, r, z",
    ),
    "bands last": ({"hosts": HOSTS.transpose(0, 2, 3, 1)}, ValueError, r"shape \(4, 40, 40, 3\)"),
    "no host": ({"hosts": HOSTS[:0]}, ValueError, r"hosts has shape \(0, 3, 40, 40\)"),
    "no row": ({"hosts": HOSTS[:, :, :0]}, ValueError, r"hosts has shape \(4, 3, 0, 40\)"),
    "integers": ({"hosts": HOSTS.astype(int)}, TypeError, "hosts has dtype int64; give floats"),
    "complex": ({"hosts": HOSTS.astype(complex)}, TypeError, "hosts has dtype complex128"),
    "text": ({"hosts": "galaxies"}, TypeError, "hosts has dtype"),
    "no annulus": ({"hosts": HOSTS[..., :17, :17]}, ValueError, "annulus .*17 x 17.*100"),
    "lenses": ({"lens": LENS[:3]}, ValueError, "LensParams has 3 injections, but 4 are needed"),
    "sources": ({"source": SOURCE[:2]}, ValueError, "SourceParams has 2 injections, but 4 are"),
    "no lens": ({"lens": None}, TypeError, "lens is of type NoneType; give a LensParams"),
    "lens": ({"lens": SOURCE}, TypeError, "lens is of type SourceParams"),
    "source": ({"source": LENS}, TypeError, "source is of type LensParams"),
    "psf": ({"psf": np.ones((3, 3))}, TypeError, "psf is of type ndarray; give a PSF"),
    "noise": ({"noise": 50.0}, TypeError, "noise is of type float; give a Noise"),
    "psfs": ({"psf": PSF.gaussian([1.0, 1.1])}, ValueError, "psf has 2 PSFs for 4 images"),
    "large psf": (
        {"psf": PSF.gaussian(1.3, side=81)},
        ValueError,
        "the PSF is 81 x 81 pixels, larger than the padded stamp, 79 x 79",
    ),
    "gains": ({"noise": Noise(np.ones((3, 3)))}, ValueError, "gain has values for 3 injections"),
    "textures": (
        {"noise": Noise(texture=np.ones((2, 3)))},
        ValueError,
        "texture has values for 2 injections; give 1 or 4",
    ),
    "seed": ({"seed": -1}, ValueError, r"seed=-1 .*\[0, 9223372036854775807\]"),
    "seed of float": ({"seed": 1.0}, TypeError, "seed=1.0 is not an integer"),
    "no seed": ({"seed": None}, TypeError, "seed=None is not an integer"),
    "ids": ({"ids": [1, 2, 3]}, ValueError, r"ids has shape \(3,\); .*\(4,\)"),
    "id": ({"ids": 7}, ValueError, r"ids has shape \(\); .*\(4,\)"),
    "negative ids": ({"ids": [1, 2, -3, -4]}, ValueError, r"ids\[2\]=-3 .*\[0, "),
    "ids of floats": ({"ids": [1.0, 2.0, 3.0, 4.0]}, TypeError, "ids has dtype float64"),
    "scale": ({"pixel_scale": 0.0}, ValueError, r"pixel_scale=0 .*\(0, 100\]"),
    "scale NaN": ({"pixel_scale": np.nan}, ValueError, r"pixel_scale=nan .*\(0, 100\]"),
    "scale text": ({"pixel_scale": "0.262"}, TypeError, "pixel_scale has dtype"),
    "oversample": ({"oversample": 9}, ValueError, r"oversample=9 .*\[1, 8\]"),
    "oversample of float": ({"oversample": 4.0}, TypeError, "oversample=4.0 is not an integer"),
    "backend": ({"backend": "fast"}, ValueError, "backend='fast' is not known; expected None"),
    "backend of stamps": (
        {"backend": "numba", "galaxy_stamps": STAMPS},
        ValueError,
        "backend='numba' does not render stamps",
    ),
    "pictures": (
        {"galaxy_stamps": GalaxyStamps(np.ones((3, 3, 3, 3)), 0.1)},
        ValueError,
        "stamps has 3 images for 4 injections; give 1 or 4",
    ),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_bad_calls_of_inject(name: str) -> None:
    changed, error, words = BAD_CALLS[name]
    arguments: dict[str, Any] = {
        "hosts": HOSTS,
        "lens": LENS,
        "source": SOURCE,
        "psf": PSF.moffat(1.3, side=31),
    }
    before = HOSTS.copy()
    assert len(inject(**arguments).table) == 4
    with pytest.raises(error, match=words):
        inject(**(arguments | changed))
    np.testing.assert_array_equal(before, HOSTS)


class _Quantity:
    """An array with a unit that `numpy.asarray` drops, like astropy's."""

    unit = "arcmin"

    def __array__(self, dtype: Any = None, copy: Any = None) -> NDArray[np.float64]:
        return np.array([1.2])


@pytest.mark.parametrize("name", ALL)
def test_units_and_masks_are_not_dropped(name: str) -> None:
    kind, (fine, *_) = ALL[name]
    with pytest.raises(TypeError, match=rf"{name} has a unit \(arcmin\)"):
        kind(**(good(kind) | {name: _Quantity()}))
    with pytest.raises(TypeError, match=f"{name} is a masked array"):
        kind(**(good(kind) | {name: np.ma.masked_array([fine], [True])}))
    with pytest.raises(TypeError, match=f"{name} is not an array"):
        kind(**(good(kind) | {name: [fine, [fine, fine]]}))


def test_hosts_that_float32_cannot_hold() -> None:
    hosts = np.zeros((2, 3, 31, 31))
    hosts[1, 2, 3, 4] = 1e39
    with pytest.raises(ValueError, match=r"hosts\[1, 2, 3, 4\]=1e\+39 is not allowed"):
        inject(hosts, LensParams(1.2), SourceParams(0.1, 0.1, 0.3, 1.0), PSF.gaussian(1.3))
    with pytest.raises(TypeError, match="hosts is a masked array"):
        inject(
            np.ma.masked_array(np.zeros((2, 3, 31, 31))),
            LensParams(1.2),
            SourceParams(0.1, 0.1, 0.3, 1.0),
            PSF.gaussian(1.3),
        )


def test_priors_name_what_is_wrong() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match=r"q_host has shape \(2,\); give a number or shape \(3,\)"):
        sample_lens_params(rng, [1.0, 1.0, 1.0], q_host=[0.5, 0.6])
    with pytest.raises(ValueError, match=r"g_minus_r_mu_sigma\[0\]=nan"):
        sample_source_params(rng, 1.0, g_minus_r_mu_sigma=(np.nan, 0.1))
    with pytest.raises(ValueError, match=r"give \(mean, standard deviation\)"):
        sample_source_params(rng, 1.0, g_minus_r_mu_sigma=(1.0,))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"clumps_n_range\[0\]=1.5 is not an integer"):
        sample_source_params(rng, 1.0, clumps_n_range=(1.5, 3.2))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="rng is of type int"):
        sample_source_params(5, 1.0)  # type: ignore[arg-type]
    assert len(LensParams([1.0, 2.0])[[]]) == 0
