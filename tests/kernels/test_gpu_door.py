"""Tests of the entry point of the GPU backends: rejected arguments, and kernel arguments."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import fastnorm
from fastnorm import BackendUnavailableError
from fastnorm.dispatch import registry
from fastnorm.kernels import numba_cuda_normalize, triton_normalize
from fastnorm.normalize import gpu, tensors

IMAGES = torch.zeros(4, 3, 32, 32)


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[Any, ...]]]:
    """Replace a backend by one that records its arguments, on CPU tensors."""
    calls: list[tuple[Any, ...]] = []

    def launch(*arguments: Any) -> None:
        calls.append(arguments)

    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setitem(registry._LOADERS, "triton", ("cuda", lambda: launch))
    registry._load.cache_clear()
    yield calls
    monkeypatch.undo()
    registry._load.cache_clear()


def normalize(images: Any = IMAGES, r_in: float = 5, r_out: float = 15, **options: Any) -> Any:
    return gpu.normalize(images, fastnorm.Annulus(r_in, r_out), backend="triton", **options)


def test_the_kernel_gets_planes_without_a_copy(launched: list[tuple[Any, ...]]) -> None:
    index, dihedral = torch.tensor([3, 3]), torch.tensor([7, 0], dtype=torch.uint8)
    mask = torch.zeros(4, 1, 32, 32, dtype=torch.bool)
    done = normalize(
        index=index, dihedral=dihedral, mask=mask, clip=2, dtype=torch.bfloat16, channels_last=True
    )
    images, bad, pixels, rows, elements, out, median, mad, scale, eps, clip, to_zero = launched[0]
    assert images.data_ptr() == IMAGES.data_ptr()
    assert images.shape == IMAGES.shape
    assert bad.data_ptr() == mask.data_ptr()
    assert bad.stride() == (32 * 32, 0, 32, 1)
    assert pixels.dtype == torch.int32
    assert rows is index
    assert elements is dihedral
    assert out.data_ptr() == done.out.data_ptr()
    assert done.out.is_contiguous(memory_format=torch.channels_last)
    assert (done.out.shape, done.out.dtype) == ((2, 3, 32, 32), torch.bfloat16)
    assert mad is None
    assert median.shape == scale.shape == done.median.shape == (2, 3)
    assert (eps, clip, to_zero) == (1e-8, 2.0, False)


@pytest.mark.parametrize(
    ("shape", "planes"),
    [
        ((32, 32), (1, 1)),
        ((5, 32, 32), (5, 1)),
        ((2, 3, 4, 32, 32), (2, 12)),
    ],
)
def test_any_number_of_dimensions(
    shape: tuple[int, ...], planes: tuple[int, int], launched: list[tuple[Any, ...]]
) -> None:
    mask = torch.zeros(32, 32, dtype=torch.bool)
    done = normalize(torch.zeros(shape), mask=mask)
    assert launched[0][0].shape == launched[0][1].shape == launched[0][5].shape == (*planes, 32, 32)
    assert launched[0][1].stride()[2:] == (32, 1)
    assert done.out.shape == shape
    assert done.median.shape == shape[:-2]


def test_other_strides_are_passed_on(launched: list[tuple[Any, ...]]) -> None:
    images = torch.arange(2 * 3 * 40 * 32.0).reshape(2, 40, 32, 3).permute(0, 3, 1, 2)[..., 4:36, :]
    mask = (images > 7).transpose(-1, -2)
    normalize(images, mask=mask)
    for given, passed in zip((images, mask), launched[0], strict=False):
        assert passed.data_ptr() == given.data_ptr()
        assert passed.stride() == given.stride()


@pytest.mark.usefixtures("launched")
@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: normalize(np.zeros((32, 32))), TypeError, ["ndarray", "Tensor"]),
        (lambda: normalize(IMAGES.int()), TypeError, ["int32", "bfloat16"]),
        (lambda: normalize(torch.zeros(9)), ValueError, ["(9,)", "(..., H, W)"]),
        (lambda: normalize(IMAGES.to_sparse()), TypeError, ["sparse", "dense"]),
        (lambda: normalize(r_in=15), ValueError, ["15"]),
        (lambda: normalize(r_in=14, r_out=14.5), ValueError, ["100"]),
        (lambda: normalize(eps=0), ValueError, ["eps=0"]),
        (lambda: normalize(clip="a"), TypeError, ["clip='a'"]),
        (lambda: normalize(mask=torch.zeros(5, 5)), TypeError, ["mask", "float32", "bool"]),
        (lambda: normalize(mask=np.zeros((32, 32), bool)), TypeError, ["mask", "tensor"]),
        (lambda: normalize(mask=torch.ones(7, 1) > 0), ValueError, ["mask", "(7, 1)"]),
        (lambda: normalize(index=torch.tensor([0.0])), TypeError, ["index", "float32", "int64"]),
        (lambda: normalize(index=torch.tensor([4])), ValueError, ["index contains 4", "0 to 3"]),
        (lambda: normalize(index=torch.tensor([-1])), ValueError, ["contains -1", "0 to 3"]),
        (lambda: normalize(IMAGES[0, 0], index=torch.tensor([0])), ValueError, ["(32, 32)"]),
        (lambda: normalize(dihedral=torch.tensor([0, 1, 2, 8])), ValueError, ["contains 8", "7"]),
        (lambda: normalize(dihedral=torch.tensor([0])), ValueError, ["(1,)", "4 images"]),
        (lambda: normalize(dihedral=torch.zeros(4)), TypeError, ["dihedral", "integers"]),
        (
            lambda: normalize(torch.zeros(1, 32, 33), dihedral=torch.tensor([0])),
            ValueError,
            ["square", "(32, 33)"],
        ),
        (lambda: normalize(dtype=torch.int8), ValueError, ["torch.int8", "bfloat16"]),
        (lambda: normalize(IMAGES[0], channels_last=True), ValueError, ["(N, C, H, W)"]),
        (lambda: normalize(out=IMAGES), ValueError, ["out shares memory with images"]),
        (lambda: normalize(out=torch.zeros(4)), ValueError, ["out", "(4, 3, 32, 32)"]),
        (lambda: normalize(out=IMAGES.clone().mT), ValueError, ["out", "contiguous"]),
        (
            lambda: normalize(torch.zeros(400, 400), 100, 190),
            ValueError,
            ["pixels on 400 x 400", "24576", ".cpu()"],
        ),
    ],
)
def test_bad_input(call: Callable[[], Any], error: type[Exception], words: list[str]) -> None:
    with pytest.raises(error) as caught:
        call()
    for word in words:
        assert word in str(caught.value)


def test_most_pixels_is_that_of_the_kernels() -> None:
    assert gpu.MOST_PIXELS == triton_normalize.MOST_PIXELS == numba_cuda_normalize.MOST_PIXELS
    fits = fastnorm.Annulus.default(283, 283).pixels(283, 283).size
    assert fits <= gpu.MOST_PIXELS < fastnorm.Annulus.default(286, 286).pixels(286, 286).size


def test_tensors_on_different_devices_are_refused(launched: list[tuple[Any, ...]]) -> None:
    elsewhere: dict[str, Any] = {
        "mask": torch.zeros(32, 32, dtype=torch.bool, device="meta"),
        "index": torch.zeros(1, dtype=torch.int64, device="meta"),
        "dihedral": torch.zeros(4, dtype=torch.int64, device="meta"),
    }
    for name, tensor in elsewhere.items():
        with pytest.raises(ValueError, match=f"{name} is on meta and images is on cpu"):
            normalize(**{name: tensor})
    assert not launched


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize("backend", ["triton", "numba-cuda"])
def test_a_gpu_backend_asked_for_by_name_never_falls_back(backend: str) -> None:
    with pytest.raises(BackendUnavailableError, match=f"backend='{backend}'.*no CUDA device"):
        fastnorm.normalize_outer_annulus(IMAGES, 5, 15, backend=backend)
    with pytest.raises(BackendUnavailableError, match="no CUDA device"):
        fastnorm.annulus_median_mad(IMAGES, 5, 15, backend=backend)
    with pytest.raises(TypeError, match=r"ndarray; a GPU backend needs a torch\.Tensor"):
        fastnorm.normalize_outer_annulus(IMAGES.numpy(), 5, 15, backend=backend)


def test_a_cpu_tensor_is_refused_by_a_gpu_backend(
    launched: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TRITON_INTERPRET")
    with pytest.raises(ValueError, match=r"images is on cpu, but backend='triton'.*images\.cuda"):
        normalize()
    assert not launched


def test_a_gradient_is_not_dropped_silently(launched: list[tuple[Any, ...]]) -> None:
    images = torch.zeros(4, 32, 32, requires_grad=True)
    with pytest.raises(ValueError, match="requires a gradient"):
        fastnorm.normalize_outer_annulus(images, 5, 15, backend="triton")
    assert not launched


@pytest.mark.parametrize("side", [101, 200])
def test_bands_that_come_last_are_named(launched: list[tuple[Any, ...]], side: int) -> None:
    annulus = fastnorm.Annulus.default(side, side)
    with pytest.raises(ValueError, match=r"images\.movedim\(-1, -3\)"):
        normalize(torch.zeros(side, side, 3), annulus.r_in, annulus.r_out)
    assert not launched


@pytest.mark.usefixtures("launched")
def test_the_legacy_annulus_on_large_images_warns() -> None:
    with pytest.warns(fastnorm.AnnulusWarning):
        normalize(torch.zeros(1, 101, 101), 20, 32)


@pytest.mark.parametrize(
    ("clip", "expected"), [(None, np.inf), (10.1, float(np.float32(10.1))), (1e300, np.inf)]
)
def test_options_of_a_launch_need_no_tensor(clip: float | None, expected: float) -> None:
    # A tensor made here would be on the default device; its value could not be read.
    with torch.device("meta"):
        assert triton_normalize._rounded(clip, torch.float32) == expected
        assert triton_normalize._rounded(clip, torch.float64) == (np.inf if clip is None else clip)


class Strict(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A mode that counts new tensors, and refuses whatever copies, fills or reads values."""

    VIEWS = ("detach", "view", "expand", "as_strided", "alias", "select", "slice", "_unsafe_view")

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.empty: list[tuple[int, ...]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = func.name().removeprefix("aten::").partition(".")[0]
        result = func(*args, **(kwargs or {}))
        if name == "empty":
            self.empty.append(tuple(result.shape))
        elif name not in self.VIEWS:
            raise AssertionError(f"{func.name()} of {[getattr(a, 'shape', a) for a in args]}")
        return result


@pytest.mark.parametrize("name", ["whole", "crop", "unaligned", "channels last", "index"])
def test_a_launch_allocates_its_results_and_nothing_else(
    name: str, launched: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Check what the capture of a CUDA graph needs, with the device code replaced."""
    stack = torch.zeros(5, 3, 40, 40, dtype=torch.float16)
    images = {
        "whole": torch.zeros(5, 3, 32, 32),
        "crop": stack[..., 4:36, 4:36],
        "unaligned": torch.zeros(5, 3, 32, 32)[1:],
        "channels last": torch.zeros(5, 3, 32, 32).to(memory_format=torch.channels_last),
        "index": stack[..., 4:36, 4:36],
    }[name]
    options: dict[str, Any] = {}
    if name == "index":
        options = {"index": torch.tensor([1, 0]), "dihedral": torch.tensor([3, 1])}
        options["mask"] = torch.zeros(5, 1, 1, 32, dtype=torch.bool)
    pixels = tensors.device_pixels(fastnorm.Annulus(5, 15), 32, 32, images.device)
    # On a CPU the ranges of index and dihedral are checked, on a GPU not.
    monkeypatch.setattr(tensors, "may_look", lambda tensor: False)
    with Strict() as mode:
        gpu.normalize_pixels(
            images, pixels, clip=10.0, dtype=torch.bfloat16, channels_last=True, backend="triton",
            **options,
        )  # fmt: skip
    count = 2 if name == "index" else len(images)
    assert mode.empty == [(count, 3, 32, 32), (count, 3), (count, 3)]
    assert len(launched) == 1


@pytest.mark.usefixtures("launched")
@pytest.mark.parametrize(
    ("footprint", "error", "words"),
    [
        (np.zeros((32, 32), bool), ValueError, ["footprint is empty"]),
        (np.ones((31, 32), bool), ValueError, ["(31, 32)", "32 x 32"]),
        (np.ones((32, 32)), TypeError, ["float64", "bool array"]),
        (np.ones(32, bool), ValueError, ["(32,)", "(H, W)"]),
        ((5, 15), TypeError, ["tuple", "Annulus"]),
        (torch.ones(32, 32, device="meta") > 0, ValueError, ["on meta", "on cpu"]),
    ],
)
@pytest.mark.parametrize("backend", ["triton", "numba", "reference"])
def test_bad_footprints(
    footprint: Any, error: type[Exception], words: list[str], backend: str
) -> None:
    for function in (fastnorm.footprint_median_mad, fastnorm.normalize_footprint):
        with pytest.raises(error) as caught:
            function(IMAGES, footprint, backend=backend)
        for word in words:
            assert word in str(caught.value)


@pytest.mark.usefixtures("launched")
def test_a_footprint_of_too_many_pixels() -> None:
    images = torch.zeros(200, 200)
    with pytest.raises(ValueError, match="40000 pixels on 200 x 200; the GPU takes 1 to 24576"):
        fastnorm.normalize_footprint(images, torch.ones(200, 200) > 0, backend="triton")
    pixels = torch.arange(40000, dtype=torch.int32)
    with pytest.raises(ValueError, match="40000 pixels on 200 x 200"):
        gpu.normalize_pixels(images, pixels, backend="triton")


@pytest.mark.usefixtures("launched")
def test_tables_of_arrays_are_not_kept() -> None:
    rng = np.random.default_rng(4)
    before = tensors.device_pixels.cache_info().currsize
    for _ in range(5):
        fastnorm.footprint_median_mad(IMAGES, rng.random((32, 32)) < 0.3, backend="triton")
    assert tensors.device_pixels.cache_info().currsize == before
