"""Tests of footprints: their pixels, their statistics against NumPy, and the layer."""

from __future__ import annotations

import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage.draw import ellipse
from torch import nn

import fastnorm
from fastnorm import Annulus, EllipticalAnnulus, FootprintNorm, OuterAnnulusNorm
from tests.fastnorm.footprints import random_case, statistics_of

BACKENDS = ["numba", "reference"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_statistics_are_those_of_numpy(backend: str) -> None:
    """Check 1,000 footprints, of one pixel up to all, with and without masks and NaN."""
    sizes = set()
    for seed in range(1000):
        image, footprint, mask = random_case(seed)
        found = fastnorm.footprint_median_mad(image, footprint, mask=mask, backend=backend)
        expected = statistics_of(image, footprint, mask)
        assert tuple(map(float, found)) == expected, seed
        sizes.add(int(footprint.sum()))
    assert len(sizes) > 150
    assert min(sizes) == 1


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_normalised_image(backend: str) -> None:
    image, footprint, mask = random_case(7)
    out, median, scale = fastnorm.normalize_footprint(
        image, footprint, mask=mask, eps=0.01, backend=backend, return_stats=True
    )
    middle, mad = statistics_of(image, footprint, mask)
    wanted = (image - image.dtype.type(middle)) / image.dtype.type(mad + 0.01)
    np.testing.assert_array_equal(out, wanted)
    assert (float(median), float(scale)) == (middle, image.dtype.type(mad + 0.01))


def test_an_annulus_is_a_footprint() -> None:
    images = np.random.default_rng(1).normal(size=(3, 101, 101)).astype(np.float32)
    annulus = Annulus(32.5, 45)
    by_radii = fastnorm.normalize_outer_annulus(images, 32.5, 45, clip=3)
    for footprint in (annulus, annulus.mask(101, 101), EllipticalAnnulus(32.5, 45, 1, 0)):
        found = fastnorm.normalize_footprint(images, footprint, clip=3)
        np.testing.assert_array_equal(found, by_radii)
    tensor = fastnorm.normalize_footprint(
        torch.from_numpy(images), torch.from_numpy(annulus.mask(101, 101)), clip=3
    )
    np.testing.assert_array_equal(tensor.numpy(), by_radii)


def test_a_legacy_annulus_warns_as_a_footprint_too() -> None:
    images = torch.zeros(1, 101, 101)
    for function in (fastnorm.normalize_footprint, fastnorm.footprint_median_mad):
        with pytest.warns(fastnorm.AnnulusWarning):
            function(images, Annulus(20, 32))
    for _ in range(2):
        with pytest.warns(fastnorm.AnnulusWarning):
            OuterAnnulusNorm(20, 32)(images)


def _within(shape: tuple[int, int], axis: float, q: float, phi: float) -> NDArray[np.bool_]:
    inside = np.zeros(shape, bool)
    # The rotation of skimage goes from rows to columns, and its first axis is that of the rows.
    centre = shape[0] // 2, shape[1] // 2
    outline: Any = ellipse
    inside[outline(*centre, q * axis, axis, shape=shape, rotation=-phi)] = True
    return inside


@pytest.mark.parametrize("phi", [-2.7, -0.4, 0.0, 0.6, np.pi / 2, 2.2])
@pytest.mark.parametrize("q", [0.35, 0.8, 1.0])
@pytest.mark.parametrize("shape", [(101, 101), (80, 64)])
def test_the_pixels_of_ellipses_are_those_of_skimage(
    shape: tuple[int, int], q: float, phi: float
) -> None:
    expected = _within(shape, 29.93, q, phi) & ~_within(shape, 17.31, q, phi)
    found = EllipticalAnnulus(17.31, 29.93, q, phi).contains(*shape)
    np.testing.assert_array_equal(found, expected)
    assert found.sum() > 100


def test_phi_goes_from_columns_to_rows() -> None:
    along = EllipticalAnnulus(0, 40, 0.2, np.pi / 4).contains(101, 101)
    assert along[50 + 25, 50 + 25]
    assert not along[50 + 25, 50 - 25]


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ((10, 20, 0, 0), ValueError, "q=0 is out of range; it must be above 0 and at most 1"),
        ((10, 20, 1.2, 0), ValueError, "q=1.2"),
        ((10, 20, np.nan, 0), ValueError, "q=nan"),
        ((10, 20, 0.5, np.inf), ValueError, "phi=inf is out of range; it must be finite"),
        ((10, 20, "a", 0), TypeError, "q='a' is not a number"),
        ((10, 20, 0.5, True), TypeError, "phi=True is not a number"),
        ((20, 10, 0.5, 0), ValueError, "r_in=20.0 is not below r_out=10.0"),
        ((-1, 10, 0.5, 0), ValueError, "r_in=-1"),
    ],
)
def test_bad_ellipses(arguments: Any, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        EllipticalAnnulus(*arguments)


def test_an_ellipse_of_too_few_pixels() -> None:
    with pytest.raises(ValueError, match="holds 26 pixels of an image of 21 x 21"):
        fastnorm.footprint_median_mad(np.zeros((21, 21)), EllipticalAnnulus(3, 5, 0.6, 0))


def _layers() -> dict[str, FootprintNorm]:
    mask = np.random.default_rng(3).random((21, 21)) < 0.3
    return {
        "annulus": FootprintNorm(Annulus(4, 9)),
        "ellipse": FootprintNorm(EllipticalAnnulus(4, 10, 0.7, 0.3)),
        "array": FootprintNorm(mask),
        "tensor": FootprintNorm(torch.from_numpy(~mask)),
    }


@pytest.mark.parametrize("name", _layers())
def test_the_layer(name: str) -> None:
    layer = _layers()[name]
    x = torch.randn(2, 3, 21, 21, generator=torch.Generator().manual_seed(1))
    expected = fastnorm.normalize_footprint(x, layer.footprint, clip=10, nan_to_zero=True)
    assert torch.equal(layer(x), expected)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x), expected)
    layer.clip = None
    wide = x[:1, :1].double().requires_grad_()
    assert torch.autograd.gradcheck(layer, (wide,))


def test_states_of_other_footprints_are_refused() -> None:
    layers = _layers()
    for name, layer in layers.items():
        model = nn.Sequential(layer)
        for other, twin in _layers().items():
            state = nn.Sequential(twin).state_dict()
            if name == other:
                model.load_state_dict(state)
            else:
                with pytest.raises(ValueError, match="must never be mixed"):
                    model.load_state_dict(state)


def test_the_outer_annulus_is_the_special_case() -> None:
    general, special = FootprintNorm(Annulus(4, 9)), OuterAnnulusNorm(4, 9)
    assert isinstance(special, FootprintNorm)
    general.load_state_dict(special.state_dict())
    assert special.get_extra_state().tolist() == [4.0, 9.0, 10.0, -8.0, 1.0]
    assert repr(FootprintNorm(np.ones((3, 4), bool))).startswith(
        "FootprintNorm(PixelFootprint(12 pixels of 3 x 4), clip=10.0"
    )


def test_a_layer_refuses_images_of_another_size() -> None:
    layer = FootprintNorm(np.ones((21, 21), bool))
    with pytest.raises(ValueError, match=r"footprint has shape \(21, 21\).*images are 21 x 22"):
        layer(torch.zeros(1, 21, 22))
    with pytest.raises(ValueError, match=r"shape \(21,\)"):
        layer(torch.zeros(21))


@pytest.mark.slow
@pytest.mark.parametrize("name", _layers())
def test_a_layer_travels_to_other_processes(name: str) -> None:
    layer = _layers()[name]
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        there = executor.submit(_run, pickle.dumps(layer)).result()
    assert torch.equal(torch.from_numpy(there), _run(pickle.dumps(layer), as_tensor=True))


def _run(pickled: bytes, as_tensor: bool = False) -> Any:
    layer = pickle.loads(pickled)
    x = torch.randn(2, 3, 21, 21, generator=torch.Generator().manual_seed(1))
    return layer(x) if as_tensor else layer(x).numpy()
