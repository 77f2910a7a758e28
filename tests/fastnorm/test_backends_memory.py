"""Tests of memory and threads: writes, untouched memory, streaming, forks, concurrent calls."""

from __future__ import annotations

import ctypes
import mmap
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import fastnorm
from fastnorm import Annulus
from fastnorm.check.adversarial import nasty_stack
from fastnorm.kernels import numba_cpu
from tests.fastnorm.nasty import assert_same
from tests.fastnorm.test_backends import FAST
from tests.fastnorm.test_backends_properties import LAYOUTS, laid_out

SHAPE = (37, 57)  # row length that is not a multiple of a vector
ANNULUS = Annulus.default(*SHAPE)
RADII = (ANNULUS.r_in, ANNULUS.r_out)


def _finite_stack(count: int, dtype: str) -> NDArray[Any]:
    return np.random.default_rng(2).normal(5, 2, (count, *SHAPE)).astype(dtype)


def _reference(images: Any, **options: Any) -> Any:
    return fastnorm.normalize_outer_annulus(images, *RADII, backend="reference", **options)


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "read-only"])
@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f4", "<f8"])
def test_given_output_is_fully_written(dtype: str, layout: str, backend: str) -> None:
    images = _finite_stack(19, dtype)
    out = laid_out(np.full(images.shape, np.nan, dtype), layout)
    result = fastnorm.normalize_outer_annulus(images, *RADII, out=out, backend=backend)
    assert result is out
    expected = _reference(images)
    np.testing.assert_array_equal(out, expected)
    assert not np.isnan(out).any()


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_given_tensor_is_fully_written(dtype: str, backend: str) -> None:
    images = torch.from_numpy(_finite_stack(19, "float32")).to(getattr(torch, dtype))
    strided = torch.full((*SHAPE, 19), torch.nan, dtype=images.dtype).movedim(-1, 0)
    for out in (torch.full_like(images, torch.nan), strided):
        result = fastnorm.normalize_outer_annulus(images, *RADII, out=out, backend=backend)
        assert result is out
        assert_same(out, _reference(images))


@pytest.mark.usefixtures("poison")
@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("count", [1, 3, 40, 129])
def test_nothing_unwritten_is_returned(count: int, dtype: str, backend: str) -> None:
    images = _finite_stack(count, dtype)
    results = fastnorm.normalize_outer_annulus(images, *RADII, return_stats=True, backend=backend)
    statistics = fastnorm.annulus_median_mad(images, *RADII, backend=backend)
    assert not any(np.isnan(values).any() for values in (*results, *statistics))


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("dtype", ["float16", "float32", ">f4", "float64"])
@pytest.mark.parametrize("result_dtype", ["float16", "float32", "float64"])
def test_result_dtype(result_dtype: str, dtype: str, backend: str) -> None:
    names, images = nasty_stack(SHAPE, np.dtype(dtype).newbyteorder("="), 3)
    result = fastnorm.normalize_outer_annulus(
        images.astype(dtype), *RADII, dtype=result_dtype, backend=backend
    )
    wide = images.astype("float64" if dtype == "float64" else "float32")
    with np.errstate(over="ignore"):
        assert_same(result, _reference(wide).astype(result_dtype), names)


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("nan_to_zero", [False, True])
def test_inputs_are_never_modified(nan_to_zero: bool, dtype: str, backend: str) -> None:
    _, images = nasty_stack(SHAPE, dtype, 4)
    mask = np.random.default_rng(5).random(images.shape) < 0.2
    before = images.tobytes(), mask.tobytes()
    tensor = torch.from_numpy(images)
    for given in (images, tensor):
        fastnorm.normalize_outer_annulus(
            given, *RADII, mask=mask, clip=1, nan_to_zero=nan_to_zero, backend=backend
        )
        fastnorm.annulus_median_mad(given, *RADII, mask=mask, backend=backend)
    assert (images.tobytes(), mask.tobytes()) == before


@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_memory_mapped_images(dtype: str, backend: str, tmp_path: Path) -> None:
    images = _finite_stack(9, dtype)
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    assert not mapped.flags.writeable
    result = fastnorm.normalize_outer_annulus(mapped, *RADII, backend=backend)
    assert_same(result, _reference(images))


def _spy_on_streaming(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    seen: list[bool] = []
    kernel: Callable[..., None] = numba_cpu.normalize_planes

    def spy(*args: Any) -> None:
        seen.append(args[11])
        kernel(*args)

    monkeypatch.setattr(numba_cpu, "normalize_planes", spy)
    return seen


@pytest.mark.skipif("numba" not in FAST, reason="the numba backend is not available")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("clip", [None, 0.5])
@pytest.mark.parametrize("nan_to_zero", [False, True])
def test_streaming(
    nan_to_zero: bool, clip: float | None, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastnorm.dispatch.numba_backend.STREAMING_BYTES", 0)
    seen = _spy_on_streaming(monkeypatch)
    names, images = nasty_stack(SHAPE, dtype, 6)
    options: dict[str, Any] = {"clip": clip, "nan_to_zero": nan_to_zero}
    expected = _reference(images, **options)
    guard = 17
    for shift in range(17):
        # Planes start anywhere in a cache line, and memory next to them stays untouched.
        room = np.full(guard + shift + images.size + guard, 123, dtype)
        out = room[guard + shift : guard + shift + images.size].reshape(images.shape)
        fastnorm.normalize_outer_annulus(images, *RADII, out=out, backend="numba", **options)
        assert_same(out, expected, names)
        assert (room[: guard + shift] == 123).all()
        assert (room[-guard:] == 123).all()
    assert seen
    assert all(seen)


@pytest.mark.skipif("numba" not in FAST, reason="the numba backend is not available")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_only_outputs_above_the_limit_stream(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = _spy_on_streaming(monkeypatch)
    few = np.random.default_rng(7).normal(size=(8, 101, 101)).astype(dtype)
    expected = fastnorm.normalize_outer_annulus(few, 32.5, 45, backend="reference")
    for copies in (1, 32 * 2**20 // few.nbytes + 1):
        images = np.tile(few, (copies, 1, 1))
        result = fastnorm.normalize_outer_annulus(images, 32.5, 45, backend="numba")
        assert_same(result, np.tile(expected, (copies, 1, 1)))
        assert seen
        assert set(seen) == {copies > 1}
        seen.clear()


def _guarded(images: NDArray[Any]) -> NDArray[Any]:
    """Copy an array to memory whose next byte after the end cannot be read."""
    page = mmap.PAGESIZE
    size = -(-images.nbytes // page) * page
    room = mmap.mmap(-1, size + page)
    start = ctypes.addressof(ctypes.c_char.from_buffer(room))
    failed = ctypes.CDLL(None, use_errno=True).mprotect(
        ctypes.c_void_p(start + size), ctypes.c_size_t(page), 0
    )
    assert failed == 0
    offset = size - images.nbytes
    copy = np.frombuffer(room, images.dtype, images.size, offset).reshape(images.shape)
    copy[...] = images
    return copy


def _normalize_at_the_edge(images: NDArray[Any], radii: tuple[float, float], backend: str) -> None:
    fastnorm.set_num_threads(1)
    edge, out = _guarded(images), _guarded(np.full_like(images, np.nan))
    fastnorm.normalize_outer_annulus(edge, *radii, out=out, backend=backend)
    expected = fastnorm.normalize_outer_annulus(images, *radii, backend="reference")
    np.testing.assert_array_equal(out, expected)


def _run_forked(target: Callable[..., None], *args: Any) -> BaseProcess:
    child = multiprocessing.get_context("fork").Process(target=target, args=args)
    child.start()
    child.join(60)
    if child.is_alive():
        child.kill()
        pytest.fail("the child process hangs")
    return child


# Newer Python versions warn about forks in a process with threads, which is the purpose here.
may_fork = pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
can_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


@may_fork
@can_fork
@pytest.mark.parametrize("backend", FAST)
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("shape", "radii"), [((33, 31), (3, 50)), ((21, 21), (2, 12)), ((37, 57), RADII)]
)
def test_nothing_past_the_arrays_is_touched(
    shape: tuple[int, int],
    radii: tuple[float, float],
    dtype: str,
    streaming: bool,
    backend: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    images = np.random.default_rng(8).normal(size=(3, *shape)).astype(dtype)
    fastnorm.normalize_outer_annulus(images, *radii, backend=backend)
    if streaming:
        monkeypatch.setattr("fastnorm.dispatch.numba_backend.STREAMING_BYTES", 0)
    child = _run_forked(_normalize_at_the_edge, images, radii, backend)
    assert child.exitcode == 0


def _normalize_again(images: NDArray[Any], expected: NDArray[Any], backend: str) -> None:
    result = fastnorm.normalize_outer_annulus(images, *RADII, backend=backend)
    np.testing.assert_array_equal(result, expected)


@may_fork
@can_fork
@pytest.mark.parametrize("backend", FAST)
def test_fork_after_use(backend: str) -> None:
    images = _finite_stack(64, "float32")
    fastnorm.set_num_threads(3)
    result = fastnorm.normalize_outer_annulus(images, *RADII, backend=backend)
    child = _run_forked(_normalize_again, images, result, backend)
    assert child.exitcode == 0
    _normalize_again(images, result, backend)


@pytest.mark.parametrize("backend", FAST)
def test_concurrent_calls(backend: str) -> None:
    fastnorm.set_num_threads(3)
    stacks = [
        np.random.default_rng(i).normal(i, 1, (30 + i, *shape)).astype(dtype)
        for i, (shape, dtype) in enumerate(
            [((37, 57), "f4"), ((37, 57), "f8"), ((40, 41), "f4"), ((40, 41), "f2")]
        )
    ]
    annuli = [Annulus.default(*stack.shape[1:]) for stack in stacks]

    def normalize(i: int, name: str = backend) -> tuple[Any, ...]:
        radii = annuli[i].r_in, annuli[i].r_out
        found: tuple[Any, ...] = fastnorm.normalize_outer_annulus(
            stacks[i], *radii, return_stats=True, backend=name
        )
        return found

    expected = [normalize(i, "reference") for i in range(4)]
    with ThreadPoolExecutor(4) as pool:
        for i, found in enumerate(pool.map(normalize, list(range(4)) * 25)):
            for got, wanted in zip(found, expected[i % 4], strict=True):
                assert_same(got, wanted)
