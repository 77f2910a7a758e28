"""Tests of the public functions: bad arguments are rejected by name, good ones accepted."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

import fastnorm
from fastnorm import BackendUnavailableError, annulus_median_mad
from fastnorm.dispatch import registry, threads
from fastnorm.dispatch.planes import Run
from fastnorm.normalize import normalize_outer_annulus as normalize

F4 = np.random.default_rng(1).normal(size=(64, 64)).astype(np.float32)
F4.flags.writeable = False
STACK = np.stack([F4, F4 + 1, F4 * 2])
GOOD_MASK = np.zeros((64, 64), bool)


def _tensor(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.from_numpy(F4.copy()).to(dtype)


def _refused(error: type[Exception], words: list[str], call: Callable[[], Any]) -> None:
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    for word in words:
        assert word in str(caught.value)


BAD_IMAGES: dict[str, tuple[Callable[[], Any], type[Exception], list[str]]] = {
    "int": (lambda: F4.astype(np.int32), TypeError, ["dtype int32", "float32"]),
    "uint8": (lambda: F4.astype(np.uint8), TypeError, ["dtype uint8", "bfloat16"]),
    "bool": (lambda: F4 > 0, TypeError, ["dtype bool", "float32"]),
    "complex": (lambda: F4.astype(complex), TypeError, ["dtype complex128", "float32"]),
    "object": (lambda: F4.astype(object), TypeError, ["dtype object", "float32"]),
    "longdouble": (
        lambda: F4.astype(np.longdouble),
        TypeError,
        [f"dtype {np.dtype(np.longdouble)}", "float64"],
    ),
    "structured": (lambda: np.zeros((64, 64), "f4,f4"), TypeError, ["dtype [", "float32"]),
    "text": (lambda: np.zeros((64, 64), "U3"), TypeError, ["dtype <U3", "float32"]),
    "datetime": (lambda: np.zeros((64, 64), "M8[s]"), TypeError, ["datetime64", "float32"]),
    "list": (lambda: F4.tolist(), TypeError, ["builtins.list", "numpy.ndarray", "torch.Tensor"]),
    "None": (lambda: None, TypeError, ["NoneType", "numpy.ndarray"]),
    "scalar": (lambda: np.float32(1), TypeError, ["numpy.float32", "numpy.ndarray"]),
    "masked": (lambda: np.ma.array(F4), TypeError, ["MaskedArray", "mask=", ".data"]),
    "0-d": (lambda: np.array(1.0), ValueError, ["shape ()", "at least two", "(..., H, W)"]),
    "1-d": (lambda: F4[0], ValueError, ["shape (64,)", "at least two", "(..., H, W)"]),
    "1-d tensor": (lambda: _tensor()[0], ValueError, ["shape (64,)", "(..., H, W)"]),
    "int tensor": (lambda: _tensor(torch.int16), TypeError, ["torch.int16", "bfloat16"]),
    "bool tensor": (lambda: _tensor(torch.bool), TypeError, ["torch.bool", "float32"]),
    "complex tensor": (lambda: _tensor(torch.complex64), TypeError, ["complex64", "float32"]),
    "8-bit tensor": (lambda: _tensor(torch.float8_e4m3fn), TypeError, ["float8_e4m3fn", "float32"]),
    "meta tensor": (lambda: _tensor().to("meta"), ValueError, ["on meta", "CPU", "no values"]),
    "sparse tensor": (lambda: _tensor().to_sparse(), TypeError, ["sparse_coo", "dense"]),
    "tensor with gradient": (
        lambda: _tensor().requires_grad_(),
        ValueError,
        ["gradient", ".detach()", "no_grad"],
    ),
}


@pytest.mark.parametrize("function", [normalize, annulus_median_mad])
@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_bad_images(kind: str, function: Callable[..., Any]) -> None:
    make, error, words = BAD_IMAGES[kind]
    _refused(error, ["images", *words], lambda: function(make(), 20, 32))


def test_quantity_is_refused() -> None:
    units = pytest.importorskip("astropy.units")
    _refused(
        TypeError,
        ["images", "Quantity", "numpy.ndarray", "unit"],
        lambda: normalize(units.Quantity(F4, "nmgy"), 20, 32),
    )


def _negated_view() -> torch.Tensor:
    view: torch.Tensor = torch.complex(_tensor(), _tensor()).conj().imag
    assert view.is_neg()
    return view


def test_negated_view_is_read_as_its_values() -> None:
    for backend in (b.name for b in fastnorm.backends() if b.available):
        result = normalize(_negated_view(), 20, 32, backend=backend)
        assert torch.equal(result, normalize(-_tensor(), 20, 32, backend=backend))


def test_negated_view_cannot_be_written() -> None:
    _refused(
        ValueError, ["out", "negated"], lambda: normalize(_tensor(), 20, 32, out=_negated_view())
    )


def test_tensor_with_gradient_is_fine_without_gradients() -> None:
    tensor = _tensor().requires_grad_()
    with torch.no_grad():
        result = normalize(tensor, 20, 32)
    assert not result.requires_grad
    assert torch.equal(result, normalize(tensor.detach(), 20, 32))


BAD_MASKS: dict[str, tuple[Any, type[Exception], list[str]]] = {
    "uint8": (GOOD_MASK.astype(np.uint8), TypeError, ["dtype uint8", "bool", "True means bad"]),
    "float": (F4, TypeError, ["dtype float32", "bool"]),
    "float tensor": (torch.zeros(64, 64), TypeError, ["torch.float32", "bool"]),
    "bfloat16": (torch.zeros(64, 64).bfloat16(), TypeError, ["torch.bfloat16", "bool"]),
    "list": (GOOD_MASK.tolist(), TypeError, ["builtins.list", "numpy.ndarray"]),
    "True": (True, TypeError, ["builtins.bool", "numpy.ndarray"]),
    "masked": (np.ma.array(GOOD_MASK), TypeError, ["MaskedArray"]),
    "meta": (torch.zeros(64, 64, dtype=torch.bool, device="meta"), ValueError, ["on meta", "CPU"]),
    "small": (GOOD_MASK[:63], ValueError, ["(63, 64)", "broadcast", "(3, 64, 64)"]),
    "batch": (np.zeros((2, 64, 64), bool), ValueError, ["(2, 64, 64)", "(3, 64, 64)"]),
    "larger": (np.zeros((2, 3, 64, 64), bool), ValueError, ["(2, 3, 64, 64)", "(3, 64, 64)"]),
}


@pytest.mark.parametrize("function", [normalize, annulus_median_mad])
@pytest.mark.parametrize("kind", BAD_MASKS)
def test_bad_mask(kind: str, function: Callable[..., Any]) -> None:
    mask, error, words = BAD_MASKS[kind]
    _refused(error, ["mask", *words], lambda: function(STACK, 20, 32, mask=mask))


@pytest.mark.parametrize("shape", [(), (64,), (64, 1), (1, 64), (1, 1, 1), (3, 1, 1), (3, 64, 64)])
def test_masks_broadcast(shape: tuple[int, ...]) -> None:
    mask = np.random.default_rng(2).random(shape) < 0.4
    full = np.broadcast_to(mask, STACK.shape).copy()
    expected = normalize(STACK, 20, 32, mask=full, backend="reference")
    for given in (np.asarray(mask), torch.from_numpy(np.array(mask))):
        np.testing.assert_array_equal(normalize(STACK, 20, 32, mask=given), expected)


def _read_only() -> Any:
    out = np.empty_like(F4)
    out.flags.writeable = False
    return out


BAD_OUTPUTS: dict[str, tuple[Callable[[Any], Any], type[Exception], list[str]]] = {
    "shape": (lambda x: np.empty((1, 64, 64), x.dtype), ValueError, ["(1, 64, 64)", "(64, 64)"]),
    "dtype": (lambda x: np.empty(x.shape), ValueError, ["float64", "float32"]),
    "int": (lambda x: np.empty(x.shape, int), ValueError, ["int64", "float32"]),
    "list": (lambda x: x.tolist(), TypeError, ["builtins.list", "numpy.ndarray"]),
    "masked": (lambda x: np.ma.array(x), TypeError, ["MaskedArray"]),
    "kind": (lambda x: torch.empty(64, 64), TypeError, ["Tensor", "ndarray"]),
    "read-only": (lambda x: _read_only(), ValueError, ["read-only", "written"]),
    "itself": (lambda x: x, ValueError, ["shares memory with images"]),
    "overlap": (lambda x: x[::-1], ValueError, ["shares memory with images"]),
    "broadcast": (
        lambda x: np.lib.stride_tricks.as_strided(np.empty(64, x.dtype), (64, 64), (0, 4)),
        ValueError,
        ["share memory"],
    ),
    "overlapping rows": (
        lambda x: np.lib.stride_tricks.as_strided(np.zeros(4159, x.dtype), (64, 64), (128, 4)),
        ValueError,
        ["share memory"],
    ),
}


@pytest.mark.parametrize("kind", BAD_OUTPUTS)
def test_bad_output(kind: str) -> None:
    make, error, words = BAD_OUTPUTS[kind]
    images = F4.copy()
    before = images.tobytes()
    _refused(error, ["out", *words], lambda: normalize(images, 20, 32, out=make(images)))
    assert images.tobytes() == before


def test_output_that_overlaps_the_mask() -> None:
    mask = np.zeros((64, 256), bool)
    out = mask.view(np.float32)
    _refused(
        ValueError,
        ["out", "memory with mask"],
        lambda: normalize(F4, 20, 32, mask=mask[:, :64], out=out),
    )


@pytest.mark.parametrize("number", [10**400, -(10**400)])
def test_integers_beyond_any_float(number: int) -> None:
    _refused(ValueError, ["r_in"], lambda: normalize(F4, number, 32))
    _refused(ValueError, ["eps", "expected"], lambda: normalize(F4, 20, 32, eps=number))


def test_error_settings_of_the_caller_do_not_matter() -> None:
    expected = normalize(F4, 20, 32, eps=1e6, dtype=np.float16)
    with np.errstate(all="raise"):
        for backend in ("numba", "reference"):
            result = normalize(F4, 20, 32, eps=1e6, dtype=np.float16, backend=backend)
            np.testing.assert_array_equal(result, expected)


def test_output_that_partly_overlaps() -> None:
    room = np.zeros((70, 64), np.float32)
    _refused(ValueError, ["out", "images"], lambda: normalize(room[:64], 20, 32, out=room[3:67]))


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda x: torch.empty(3, 64), ValueError, ["(3, 64)", "(64, 64)"]),
        (lambda x: torch.empty(64, 64).double(), ValueError, ["torch.float64", "torch.float32"]),
        (lambda x: np.empty((64, 64), np.float32), TypeError, ["ndarray", "Tensor"]),
        (lambda x: x.T, ValueError, ["shares memory with images"]),
        (lambda x: torch.empty(64, 1).expand(64, 64), ValueError, ["share memory"]),
        (lambda x: torch.empty(64, 64, device="meta"), ValueError, ["on meta", "CPU"]),
        (lambda x: torch.empty(64, 64, requires_grad=True), ValueError, ["gradient"]),
    ],
)
def test_bad_output_tensor(
    make: Callable[[Any], Any], error: type[Exception], words: list[str]
) -> None:
    images = _tensor()
    _refused(error, ["out", *words], lambda: normalize(images, 20, 32, out=make(images)))


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("clip", 0, ValueError),
        ("clip", -1.0, ValueError),
        ("clip", math.nan, ValueError),
        ("clip", -math.inf, ValueError),
        ("clip", "10", TypeError),
        ("clip", True, TypeError),
        ("clip", np.array([1.0, 2.0]), TypeError),
        ("clip", 1j, TypeError),
        ("eps", 0, ValueError),
        ("eps", -1e-8, ValueError),
        ("eps", math.nan, ValueError),
        ("eps", math.inf, ValueError),
        ("eps", 1e-60, ValueError),  # 0 in float32
        ("eps", 1e60, ValueError),  # infinite in float32
        ("eps", "1", TypeError),
        ("eps", None, TypeError),
        ("eps", False, TypeError),
    ],
)
def test_bad_number(name: str, value: Any, error: type[Exception]) -> None:
    words = [f"{name}={value!r}"]
    words += ["expected"] if error is ValueError else ["not a number"]
    _refused(error, words, lambda: normalize(F4, 20, 32, **{name: value}))


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.longdouble, np.int64])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_numbers_of_any_real_type(dtype: Any, kind: Any) -> None:
    images = F4.astype(dtype)
    expected = normalize(images, 20, 32, clip=2.0, eps=1.0)
    result = normalize(images, kind(20), kind(32), clip=kind(2), eps=kind(1))
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(
    ("radii", "error", "words"),
    [
        ((32, 20), ValueError, ["r_in=32.0", "r_out=20.0"]),
        ((20, 20), ValueError, ["r_in=20.0", "r_out=20.0"]),
        ((-1, 20), ValueError, ["r_in=-1", "not negative"]),
        ((math.nan, 20), ValueError, ["r_in=nan", "finite"]),
        ((20, math.inf), ValueError, ["r_out=inf", "finite"]),
        (("20", 32), TypeError, ["r_in='20'", "pixels"]),
        ((20, True), TypeError, ["r_out=True", "pixels"]),
        ((20, None), TypeError, ["r_out=None", "pixels"]),
        ((10, 11), ValueError, ["(10.0, 11.0)", "64 x 64", "at least 100"]),
        ((60, 70), ValueError, ["(60.0, 70.0)", "0 pixels", "at least 100"]),
    ],
)
@pytest.mark.parametrize("function", [normalize, annulus_median_mad])
def test_bad_radii(
    function: Callable[..., Any], radii: tuple[Any, Any], error: type[Exception], words: list[str]
) -> None:
    _refused(error, words, lambda: function(F4, *radii))


@pytest.mark.parametrize("value", [np.int32, "nope", "float128", complex, torch.float32, bool, [1]])
def test_bad_numpy_dtype(value: Any) -> None:
    words = [f"dtype={value!r}", "NumPy", "float16, float32, float64"]
    _refused(ValueError, words, lambda: normalize(F4, 20, 32, dtype=value))


@pytest.mark.parametrize("value", [torch.int32, torch.bool, "float32", np.float32, np.dtype("f4")])
def test_bad_torch_dtype(value: Any) -> None:
    words = [f"dtype={value!r}", "torch tensor", "torch.bfloat16", "torch.float64"]
    _refused(ValueError, words, lambda: normalize(_tensor(), 20, 32, dtype=value))


@pytest.mark.parametrize("function", [normalize, annulus_median_mad])
def test_unknown_backend(function: Callable[..., Any]) -> None:
    words = ["backend='cuda9'", "None", *map(repr, [b.name for b in fastnorm.backends()])]
    _refused(ValueError, words, lambda: function(F4, 20, 32, backend="cuda9"))
    _refused(ValueError, ["backend=[]"], lambda: function(F4, 20, 32, backend=[]))


@pytest.fixture
def broken_numba(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def fail() -> Run:
        raise ImportError("no llvmlite here")

    monkeypatch.setitem(registry._LOADERS, "numba", ("cpu", fail))
    registry._load.cache_clear()
    yield
    monkeypatch.undo()
    registry._load.cache_clear()


@pytest.mark.usefixtures("broken_numba")
def test_missing_backend_asked_by_name_never_falls_back() -> None:
    words = ["backend='numba'", "ImportError: no llvmlite here", "backends()"]
    _refused(BackendUnavailableError, words, lambda: normalize(F4, 20, 32, backend="numba"))
    numba = next(b for b in fastnorm.backends() if b.name == "numba")
    assert not numba.available
    assert numba.reason == "ImportError: no llvmlite here"


@pytest.mark.usefixtures("broken_numba")
def test_missing_backend_warns_where_none_was_named() -> None:
    expected = normalize(F4, 20, 32, backend="reference")
    text = re.escape("'numba' is not available (ImportError: no llvmlite here)")
    with pytest.warns(RuntimeWarning, match=text) as caught:
        result = normalize(F4, 20, 32)
    assert caught[0].filename == __file__
    np.testing.assert_array_equal(result, expected)


def test_backends_are_listed_in_order() -> None:
    found = fastnorm.backends()
    assert [(b.name, b.device) for b in found] == [
        ("numba", "cpu"),
        ("reference", "cpu"),
        ("triton", "cuda"),
        ("numba-cuda", "cuda"),
    ]
    for backend in found:
        assert backend.available == (not backend.reason)


@pytest.mark.parametrize(
    ("count", "error"),
    [(0, ValueError), (-1, ValueError), (1.5, TypeError), (True, TypeError), ("2", TypeError)],
)
def test_bad_number_of_threads(count: Any, error: type[Exception]) -> None:
    fastnorm.set_num_threads(3)
    _refused(error, [f"count={count!r}", "thread"], lambda: fastnorm.set_num_threads(count))
    assert threads.num_threads() == 3


def test_number_of_threads() -> None:
    fastnorm.set_num_threads(np.int64(5))  # type: ignore[arg-type]
    assert threads.num_threads() == 5
    fastnorm.set_num_threads(None)
    assert threads.num_threads() >= 1
