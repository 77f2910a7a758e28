"""Tests that backends equal the reference for any shape, radii, dtype, values, layout and mask."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import fastnorm
from fastnorm import Annulus, reference
from fastnorm.check.adversarial import nasty_stack
from tests.fastnorm.nasty import assert_same
from tests.fastnorm.test_backends import FAST

DTYPES = ["<f2", ">f2", "<f4", ">f4", "<f8", ">f8"]
LAYOUTS = ["C", "F", "every second", "backwards", "transposed", "bands last", "offset", "read-only"]
WIDTHS = {2: 16, 4: 32, 8: 64}


def laid_out(images: NDArray[Any], layout: str) -> NDArray[Any]:
    """Copy an array to another layout with the same values and dtype."""
    if layout == "every second":
        wide = np.zeros(
            (*images.shape[:-2], 2 * images.shape[-2], 2 * images.shape[-1]), images.dtype
        )
        wide[..., ::2, ::2] = images
        return wide[..., ::2, ::2]
    if layout == "F":
        return np.asfortranarray(images)
    if layout == "backwards":
        return np.ascontiguousarray(images[..., ::-1, ::-1])[..., ::-1, ::-1]
    if layout == "transposed":
        return np.ascontiguousarray(images.swapaxes(-1, -2)).swapaxes(-1, -2)
    if layout == "bands last":
        return np.moveaxis(np.ascontiguousarray(np.moveaxis(images, 0, -1)), -1, 0)
    if layout == "offset":
        flat = np.zeros(images.size + 3, images.dtype)
        flat[3:] = images.reshape(-1)
        return flat[3:].reshape(images.shape)
    same = np.ascontiguousarray(images)
    same.flags.writeable = layout != "read-only"
    return same


@st.composite
def _geometries(draw: st.DrawFn) -> tuple[tuple[int, int], Annulus]:
    shape = draw(st.integers(21, 70)), draw(st.integers(21, 70))
    r_out = draw(st.floats(5, 55))
    annulus = Annulus(draw(st.floats(0, r_out - 1)), r_out)
    assume(annulus.pixel_count(*shape) >= 100)
    return shape, annulus


@st.composite
def _stacks(draw: st.DrawFn, plane: tuple[int, int], dtype: str) -> NDArray[Any]:
    lead = draw(st.sampled_from([(), (1,), (3,), (2, 3), (9,)]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (*lead, *plane)
    if draw(st.booleans()):
        return rng.normal(size=shape).astype(dtype)
    width = WIDTHS[np.dtype(dtype).itemsize]
    pool = draw(st.lists(st.floats(width=width), min_size=1, max_size=40))  # type: ignore[arg-type]
    values: NDArray[Any] = rng.choice(np.array(pool, dtype), shape)
    noisy = draw(st.sampled_from([0.0, 0.3, 0.9]))
    return np.where(rng.random(shape) < noisy, rng.normal(size=shape), values).astype(dtype)


@st.composite
def _masks(draw: st.DrawFn, shape: tuple[int, ...]) -> NDArray[np.bool_] | None:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    bad = draw(st.sampled_from([None, 0.0, 0.1, 0.9, 0.999, 1.0]))
    if bad is None:
        return None
    kept = draw(st.integers(0, len(shape) - 2))
    mask = rng.random(shape[kept:]) < bad
    return laid_out(mask, draw(st.sampled_from(LAYOUTS)))


def _plane_by_plane(
    images: NDArray[Any], annulus: Annulus, mask: NDArray[np.bool_] | None, **options: Any
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    wide = images.astype(np.float64 if images.dtype.itemsize == 8 else np.float32)
    bad = np.broadcast_to(False if mask is None else mask, images.shape)
    out = np.empty(images.shape, wide.dtype)
    median = np.empty(images.shape[:-2], wide.dtype)
    mad = np.empty(images.shape[:-2], wide.dtype)
    for index in np.ndindex(images.shape[:-2]):
        out[index], median[index], mad[index] = reference.normalize_plane(
            wide[index], annulus, mask=bad[index], **options
        )
    with np.errstate(over="ignore"):
        narrow = out.astype(images.dtype.newbyteorder("="))
    return narrow, median, np.asarray(reference.scale_of(mad, 1e-8))


@pytest.mark.parametrize("backend", FAST)
@settings(max_examples=200)
@given(data=st.data())
def test_equals_the_definition(backend: str, data: st.DataObject) -> None:
    plane, annulus = data.draw(_geometries())
    images = data.draw(_stacks(plane, data.draw(st.sampled_from(DTYPES))))
    images = laid_out(images, data.draw(st.sampled_from(LAYOUTS)))
    mask = data.draw(_masks(images.shape))
    options: dict[str, Any] = {
        "clip": data.draw(st.sampled_from([None, 10.0, 0.5])),
        "nan_to_zero": data.draw(st.booleans()),
    }
    before = images.tobytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fastnorm.AnnulusWarning)
        actual = fastnorm.normalize_outer_annulus(
            images,
            annulus.r_in,
            annulus.r_out,
            mask=mask,
            return_stats=True,
            backend=backend,
            **options,
        )
    assert images.tobytes() == before
    expected = _plane_by_plane(images, annulus, mask, **options)
    for got, wanted in zip(actual, expected, strict=True):
        assert_same(got, wanted)


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f4", "<f8", ">f8"])
def test_layout_does_not_matter(dtype: str, layout: str, backend: str) -> None:
    annulus = Annulus.default(37, 58)
    names, images = nasty_stack((37, 58), np.dtype(dtype).newbyteorder("="), 4)
    expected = _plane_by_plane(images, annulus, None)
    stored = laid_out(images.astype(dtype), layout)
    assert stored.dtype == dtype
    actual = fastnorm.normalize_outer_annulus(
        stored, annulus.r_in, annulus.r_out, return_stats=True, backend=backend
    )
    for got, wanted in zip(actual, expected, strict=True):
        assert_same(got, wanted, names)


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_strided_tensors(dtype: str, backend: str) -> None:
    annulus = Annulus.default(37, 58)
    names, images = nasty_stack((37, 58), "float32", 5)
    tensor = torch.from_numpy(images).to(getattr(torch, dtype))
    views = [
        tensor.movedim(0, -1).contiguous().movedim(-1, 0),
        tensor.transpose(1, 2).contiguous().transpose(1, 2),
        tensor.repeat_interleave(2, dim=2)[..., ::2],
        tensor[:1].expand(4, -1, -1),
    ]
    for view in views:
        assert not view.is_contiguous()
        actual, expected = (
            fastnorm.normalize_outer_annulus(x, annulus.r_in, annulus.r_out, backend=backend)
            for x in (view, view.contiguous())
        )
        assert_same(actual, expected, names if len(view) == len(names) else ())


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_permuted_images_give_permuted_results(dtype: str, backend: str) -> None:
    annulus = Annulus.default(37, 58)
    names, images = nasty_stack((37, 58), dtype, 6)
    order = np.random.default_rng(0).permutation(len(names))
    straight, permuted = (
        fastnorm.normalize_outer_annulus(
            x, annulus.r_in, annulus.r_out, return_stats=True, backend=backend
        )
        for x in (images, images[order])
    )
    for a, b in zip(straight, permuted, strict=True):
        assert_same(b, a[order], [names[i] for i in order])


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_and_batch_size_do_not_matter(threads: int, dtype: str, backend: str) -> None:
    annulus = Annulus.default(37, 58)
    names, images = nasty_stack((37, 58), dtype, 7)
    names, images = names * 5, np.concatenate([images] * 5)
    mask = np.random.default_rng(1).random(images.shape) < 0.1

    def normalize(part: slice) -> tuple[Any, ...]:
        found: tuple[Any, ...] = fastnorm.normalize_outer_annulus(
            images[part],
            annulus.r_in,
            annulus.r_out,
            mask=mask[part],
            return_stats=True,
            backend=backend,
        )
        return found

    fastnorm.set_num_threads(1)
    whole = normalize(slice(None))
    fastnorm.set_num_threads(threads)
    for step in (1, 7, 33, 200, len(images)):
        pieces = [normalize(slice(i, i + step)) for i in range(0, len(images), step)]
        for wanted, got in zip(whole, zip(*pieces, strict=True), strict=True):
            assert_same(np.concatenate(got), wanted, names)
