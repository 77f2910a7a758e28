"""The renderer's backends equal the reference, in any batch and with any number of threads."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import fastnorm
from dhs.injection import GalaxyStamps, LensParams, SourceParams, backends, render
from fastnorm import BackendUnavailableError
from tests.dhs.injection.injection_draws import draws

CPU = ["numba", "reference"]
SHAPES = [(31, 45), (1, 1), (5, 200), (64, 64), (2, 3)]
COUNT = 48


def hard_lenses() -> LensParams:
    """Return round, flat, strongly sheared, off-centre, tiny and huge lenses."""
    rng = np.random.default_rng(21)
    lens = LensParams(**{**draws(COUNT, 20)[0].arrays(), "theta_e_arcsec": rng.uniform(0.5, 3, 48)})
    fields = {name: values.copy() for name, values in lens.arrays().items()}
    fields["q_lens"][:6] = [1.0, 1.0, 0.1, 0.1, 1 - 1e-9, 0.2]
    fields["shear_g1"][6:10] = [0.3, -0.3, 0.0, 0.2]
    fields["shear_g2"][6:10] = [0.0, 0.1, 0.3, -0.2]
    fields["x0_arcsec"][10:14] = [0.0, 1.7, -3.3, 0.131]
    fields["y0_arcsec"][10:14] = [0.0, -0.9, 2.2, 0.131]
    fields["theta_e_arcsec"][14:17] = [1e-3, 0.1, 8.0]
    return LensParams(**fields)


def hard_sources() -> SourceParams:
    """Return sources with extreme indices and sizes, with clumps, and beyond the stamp."""
    rng = np.random.default_rng(22)
    _, source = draws(COUNT, 20, clumps_prob=0.4, clumps_n_range=(1, 9))
    fields = {name: values.copy() for name, values in source.arrays().items()}
    fields["n_sersic"][:8] = [0.3, 4.0, 0.3, 4.0, 0.3, 4.0, 0.5, 2.0]
    fields["re_arcsec"][8:12] = [0.08, 2.0, 0.1, 5.0]
    fields["q"][16:20] = [1.0, 0.1, 0.2, 1.0]
    fields["beta_x_arcsec"][20:24] = [0.0, 4.0, -30.0, 0.131]
    fields["beta_y_arcsec"][20:24] = [0.0, -3.0, 5.0, 0.0]
    for band in "grz":
        fields[f"flux_nmgy_{band}"] = 10 ** rng.uniform(-3, 3, COUNT)
    fields["flux_nmgy_z"][:3] = 0.0
    return SourceParams(**fields)


LENS, SOURCE = hard_lenses(), hard_sources()
IDS = np.arange(COUNT) * 3 + 1
# The reference is slow, so it renders only every third image.
CHOSEN = {"numba": np.arange(COUNT), "reference": np.arange(0, COUNT, 3)}


def shown(lens: LensParams | None = LENS, source: SourceParams = SOURCE, **options: Any) -> Any:
    return render(lens, source, options.pop("shape", (31, 45)), seed=4, **options)


def chosen(backend: str) -> tuple[LensParams, SourceParams, NDArray[np.int64]]:
    rows = CHOSEN[backend]
    return LENS[rows], SOURCE[rows], IDS[rows]


@pytest.mark.parametrize(
    ("shape", "oversample"),
    [*((shape, 4) for shape in SHAPES), *((SHAPES[0], o) for o in (1, 3, 8))],
)
@pytest.mark.parametrize("lens", [LENS, None], ids=["lensed", "unlensed"])
def test_numba_equals_the_reference(
    lens: LensParams | None, shape: tuple[int, int], oversample: int
) -> None:
    options: dict[str, Any] = {"shape": shape, "oversample": oversample, "ids": IDS}
    expected = shown(lens, backend="reference", **options).astype(np.float64)
    actual = shown(lens, backend="numba", **options)
    # If a stamp shows only the tail of a source, the peak is still that of the source.
    centred = SourceParams(**(SOURCE.arrays() | {"beta_x_arcsec": 0.0, "beta_y_arcsec": 0.0}))
    whole = shown(None, centred, shape=(3, 3), ids=IDS, backend="reference")
    peak = np.maximum(expected.max(axis=(2, 3)), whole.max(axis=(2, 3)))
    error = np.abs(actual - expected).max(axis=(2, 3)) / np.maximum(peak, 1e-30)
    # With few samples per pixel, one sample more or less, or a slightly shifted cusp, matters.
    allowed = 1e-5 if oversample >= 3 else 1e-4
    assert error.max() < allowed, np.unravel_index(error.argmax(), error.shape)
    assert (actual >= 0).all()
    assert (actual[:3, 2] == 0).all()


def test_spheroids_and_flattest_lenses() -> None:
    """Float32 is less accurate for cusps and for extremely flat lenses."""
    lens, source = draws(12, 24)
    fields = source.arrays() | {"n_sersic": np.linspace(4, 8, 12)}
    for hard in (lens, LensParams(**(lens.arrays() | {"q_lens": 0.01}))):
        expected, actual = (
            render(hard, SourceParams(**fields), (41, 41), bands=("r",), backend=backend)
            for backend in ("reference", "numba")
        )
        error = np.abs(actual - expected).max(axis=(1, 2, 3)) / expected.max(axis=(1, 2, 3))
        assert error.max() < 5e-4


@pytest.mark.parametrize("backend", CPU)
def test_an_image_does_not_depend_on_its_batch(backend: str) -> None:
    lens, source, ids = chosen(backend)
    expected = shown(lens, source, ids=ids, backend=backend)
    order = np.random.default_rng(23).permutation(len(lens))
    shuffled = shown(lens[order], source[order], ids=ids[order], backend=backend)
    np.testing.assert_array_equal(shuffled, expected[order])
    for i in range(len(lens)):
        alone = shown(lens[i], source[i], ids=ids[i : i + 1], backend=backend)
        np.testing.assert_array_equal(alone[0], expected[i])
    for start, stop in itertools.pairwise((0, 1, 4, 13, 30, 48)):
        rows = slice(start, stop)
        part = shown(lens[rows], source[rows], ids=ids[rows], backend=backend)
        np.testing.assert_array_equal(part, expected[rows])


@pytest.mark.parametrize("backend", CPU)
def test_an_image_does_not_depend_on_threads(backend: str) -> None:
    lens, source, ids = chosen(backend)
    fastnorm.set_num_threads(1)
    expected = shown(lens, source, ids=ids, backend=backend)
    for threads in (2, 3, 7):
        fastnorm.set_num_threads(threads)
        np.testing.assert_array_equal(shown(lens, source, ids=ids, backend=backend), expected)


@pytest.mark.parametrize("backend", CPU)
def test_bands_share_their_shape(backend: str) -> None:
    lens, source, ids = chosen(backend)
    images = shown(lens, source, ids=ids, backend=backend).astype(np.float64)
    unit = dict.fromkeys(("flux_nmgy_g", "flux_nmgy_r", "flux_nmgy_z"), 1.0)
    shape = shown(lens, SourceParams(**(source.arrays() | unit)), ids=ids, backend=backend)
    product = source.fluxes()[:, :, None, None] * shape[:, :1]
    np.testing.assert_allclose(images, product, rtol=3e-7, atol=1e-35)
    np.testing.assert_array_equal(shape[:, 0], shape[:, 1])
    np.testing.assert_array_equal(shape[:, 0], shape[:, 2])


@pytest.mark.parametrize("backend", CPU)
def test_bands_select_and_order(backend: str) -> None:
    lens, source, _ = chosen(backend)
    images = shown(lens, source, backend=backend)
    for bands in (("r",), ("z", "g"), ["g", "z"], "zrg", ("r", "r")):
        some = shown(lens, source, backend=backend, bands=bands)
        np.testing.assert_array_equal(some, images[:, ["grz".index(band) for band in bands]])


@pytest.mark.parametrize("backend", CPU)
@pytest.mark.usefixtures("poison")
@pytest.mark.parametrize("shape", SHAPES)
def test_output_is_fully_written(shape: tuple[int, int], backend: str) -> None:
    lens, source, ids = chosen(backend)
    for maybe in (lens, None):
        images = shown(maybe, source, shape=shape, ids=ids, backend=backend)
        assert images.shape == (len(lens), 3, *shape)
        assert images.dtype == np.float32
        assert images.flags.c_contiguous
        assert np.isfinite(images).all()
        out = np.full_like(images, np.nan)
        assert shown(maybe, source, shape=shape, ids=ids, backend=backend, out=out) is out
        np.testing.assert_array_equal(out, images)


@pytest.mark.parametrize("backend", CPU)
def test_no_injection_and_one_for_all(backend: str) -> None:
    assert shown(LENS[:0], SOURCE[:0], backend=backend).shape == (0, 3, 31, 45)
    assert shown(None, SOURCE[:0], backend=backend).shape == (0, 3, 31, 45)
    some, others, _ = chosen(backend)
    for lens, source in ((LENS[7], others), (some, SOURCE[7])):
        count = max(len(lens), len(source))
        expected = shown(lens.broadcast_to(count), source.broadcast_to(count), backend=backend)
        np.testing.assert_array_equal(shown(lens, source, backend=backend), expected)


@pytest.mark.parametrize("backend", CPU)
def test_inputs_stay_as_they_are(backend: str) -> None:
    lens, source, ids = chosen(backend)
    before = {"ids": ids, **lens.arrays(), **source.arrays()}
    copies = {name: values.copy() for name, values in before.items()}
    shown(lens, source, ids=ids, backend=backend)
    for name, values in before.items():
        np.testing.assert_array_equal(values, copies[name])


def test_listed_backends() -> None:
    listed = backends()
    assert [(backend.name, backend.device) for backend in listed] == [
        ("numba", "cpu"),
        ("reference", "cpu"),
        ("triton", "cuda"),
    ]
    for backend in listed:
        assert backend.available == (backend.reason == "")
    assert listed[1].available
    first = next(backend.name for backend in listed if backend.available)
    np.testing.assert_array_equal(shown(), shown(backend=first))


def test_a_backend_that_is_missing_is_refused() -> None:
    triton = backends()[-1]
    if triton.available:
        pytest.skip("triton runs here")
    with pytest.raises(BackendUnavailableError, match=r"'triton' is not available.*dhs.injection"):
        shown(backend="triton")


READ_ONLY = np.zeros((COUNT, 3, 31, 45), np.float32)
READ_ONLY.flags.writeable = False
STAMPS = GalaxyStamps(np.ones((3, 3)), 0.1)
REFUSED: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "source": ({"source": LENS}, TypeError, "source is of type LensParams"),
    "lens": ({"lens": SOURCE}, TypeError, "lens is of type SourceParams.*None for no lens"),
    "lengths": ({"lens": LENS[:5]}, ValueError, "lens has 5 injections and source has 48"),
    "rows": ({"shape": (0, 5)}, ValueError, r"shape\[0\]=0 .*\[1, 4096\]"),
    "columns": ({"shape": (5, 4097)}, ValueError, r"shape\[1\]=4097 .*\[1, 4096\]"),
    "half a row": ({"shape": (5.5, 5)}, TypeError, r"shape\[0\]=5.5 is not an integer"),
    "one side": ({"shape": (5,)}, ValueError, r"shape=\(5,\) .*\(rows, columns\)"),
    "a side": ({"shape": 5}, ValueError, r"shape=5 .*\(rows, columns\)"),
    "scale 0": ({"pixel_scale": 0.0}, ValueError, r"pixel_scale=0 .*\(0, 100\]"),
    "scale NaN": ({"pixel_scale": np.nan}, ValueError, r"pixel_scale=nan .*\(0, 100\]"),
    "scales": ({"pixel_scale": [0.1, 0.2]}, ValueError, r"pixel_scale has shape \(2,\)"),
    "oversample 0": ({"oversample": 0}, ValueError, r"oversample=0 .*\[1, 8\]"),
    "oversample 9": ({"oversample": 9}, ValueError, r"oversample=9 .*\[1, 8\]"),
    "oversample 4.0": ({"oversample": 4.0}, TypeError, "oversample=4.0 is not an integer"),
    "no bands": ({"bands": ()}, ValueError, r"bands=\(\) .*g, r, z"),
    "band i": ({"bands": ("g", "i")}, ValueError, r"bands=\('g', 'i'\) .*g, r, z"),
    "seed": ({"seed": -1}, ValueError, r"seed=-1 .*\[0, "),
    "ids": ({"ids": [1, 2]}, ValueError, r"ids has shape \(2,\).*\(48,\)"),
    "ids below 0": ({"ids": IDS - 5}, ValueError, r"ids\[0\]=-4 .*\[0, "),
    "ids too large": ({"ids": [2**63] * 48}, ValueError, r"ids\[0\]=9223372036854775808 "),
    "ids of floats": ({"ids": IDS * 1.0}, TypeError, "ids has dtype float64"),
    "out shape": ({"out": np.zeros((1, 3, 31, 45), np.float32)}, ValueError, "out must be"),
    "out dtype": ({"out": READ_ONLY.astype(float)}, ValueError, "out must be .*float32"),
    "out order": ({"out": np.asfortranarray(READ_ONLY)}, ValueError, "out must be .*C-contig"),
    "out read-only": ({"out": READ_ONLY}, ValueError, "out must be a writeable"),
    "out list": ({"out": []}, ValueError, "out must be"),
    "backend": ({"backend": "cupy"}, ValueError, "backend='cupy' is not known.*'numba'"),
    "stamps": ({"backend": "numba", "stamps": STAMPS}, ValueError, "backend='numba'.*stamps"),
    "triton stamps": ({"backend": "triton", "stamps": STAMPS}, Exception, "triton"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_arguments_are_refused(name: str) -> None:
    changed, error, words = REFUSED[name]
    options: dict[str, Any] = {"lens": LENS, "source": SOURCE, "shape": (31, 45)} | changed
    with pytest.raises(error, match=words):
        render(**options)
