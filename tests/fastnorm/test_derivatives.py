"""Tests of forward mode, `torch.func` and second derivatives, against the definition in NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd import forward_ad

import fastnorm
from fastnorm import Annulus, OuterAnnulusNorm
from fastnorm.check.adversarial import nasty_stack
from fastnorm.layer.expression import normalized
from fastnorm.layer.operator import normalize_footprint_backward
from fastnorm.normalize.tensors import device_pixels
from fastnorm.reference import normalize_plane
from tests.fastnorm.nasty import assert_same
from tests.fastnorm.test_torch_op import OPTIONS, images, pixels, run

ANNULUS = Annulus(4.0, 10.0)
STEP = 1e-6
# PyTorch's own rules of forward mode are compiled with it.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:FutureWarning")


def _defined(planes: NDArray[np.float64], clip: float | None = 2.0) -> NDArray[np.float64]:
    """Normalise (..., H, W) by the definition."""
    flat = planes.reshape(-1, *planes.shape[-2:])
    each = [normalize_plane(plane, ANNULUS, clip=clip, nan_to_zero=True)[0] for plane in flat]
    return np.stack(each).reshape(planes.shape)


def _jvp(function: Callable[..., Any], x: Tensor, along: Tensor) -> tuple[Any, Any]:
    value, tangent, *_ = torch.func.jvp(function, (x,), (along,))
    return value, tangent


def _slope(x: Tensor, along: Tensor, of: Callable[[NDArray[np.float64]], Any]) -> Any:
    """Differentiate a function of arrays numerically along a direction."""
    ahead, behind = ((x + sign * STEP * along).numpy() for sign in (1, -1))
    return (of(ahead) - of(behind)) / (2 * STEP)


def _direction(x: Tensor, seed: int = 5) -> Tensor:
    return torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(seed))


def _layer() -> OuterAnnulusNorm:
    return OuterAnnulusNorm(ANNULUS.r_in, ANNULUS.r_out, clip=2.0)


def _loss(x: Tensor) -> Tensor:
    out: Tensor = _layer()(x)
    return out.sin().sum()


def _defined_loss(planes: NDArray[np.float64]) -> float:
    return float(np.sin(_defined(planes)).sum())


def test_jvp_is_the_slope_of_the_definition() -> None:
    x, along = images(), _direction(images())
    value, tangent = _jvp(_layer(), x, along)
    np.testing.assert_array_equal(value.numpy(), _defined(x.numpy()))
    np.testing.assert_allclose(tangent.numpy(), _slope(x, along, _defined), rtol=1e-5, atol=1e-7)


def test_dual_tensors_carry_the_slope_of_every_result() -> None:
    x, along = images(), _direction(images())
    with forward_ad.dual_level():
        make, unpack = forward_ad.make_dual, forward_ad.unpack_dual
        results = run(make(x, along), clip=2.0)  # type: ignore[no-untyped-call]
        tangents = [unpack(result).tangent for result in results]  # type: ignore[no-untyped-call]
    for k, tangent in enumerate(tangents):

        def result(planes: NDArray[np.float64], k: int = k) -> NDArray[np.float64]:
            found: NDArray[np.float64] = run(torch.from_numpy(planes), clip=2.0)[k].numpy()
            return found

        slope = _slope(x, along, result)
        assert tangent is not None
        np.testing.assert_allclose(tangent.numpy(), slope, rtol=1e-5, atol=1e-7)


def test_jacfwd_is_jacrev() -> None:
    x = images()[0, 0]
    forward, reverse = torch.func.jacfwd(_layer())(x), torch.func.jacrev(_layer())(x)
    torch.testing.assert_close(forward, reverse)
    along = _direction(x)
    np.testing.assert_allclose(
        (forward * along).sum((-2, -1)).numpy(), _slope(x, along, _defined), rtol=1e-5, atol=1e-7
    )


def test_saliency_of_every_image() -> None:
    x = images()
    each = torch.func.vmap(torch.func.grad(_loss))(x)
    leaf = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(_loss(leaf), leaf)
    torch.testing.assert_close(each, expected)
    torch.testing.assert_close(torch.func.grad(_loss)(x), expected)
    along = _direction(x)
    assert float((expected * along).sum()) == pytest.approx(
        _slope(x, along, _defined_loss), rel=1e-5
    )


def test_hessian_products_agree_in_all_modes() -> None:
    x, along = images(), _direction(images())
    gradient = torch.func.grad(_loss)
    forward_over_reverse = torch.func.jvp(gradient, (x,), (along,))[1]
    leaf = x.clone().requires_grad_()
    (first,) = torch.autograd.grad(_loss(leaf), leaf, create_graph=True)
    (twice,) = torch.autograd.grad((first * along).sum(), leaf)

    def slope_of_gradient(a: NDArray[np.float64]) -> NDArray[np.float64]:
        moved = torch.from_numpy(a).requires_grad_()
        return torch.autograd.grad(_loss(moved), moved)[0].numpy()

    slope = _slope(x, along, slope_of_gradient)
    np.testing.assert_allclose(forward_over_reverse.numpy(), slope, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(twice.numpy(), slope, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", OPTIONS)
def test_all_modes_under_every_option(name: str) -> None:
    x = images().requires_grad_()

    def results(x: Tensor) -> tuple[Tensor, ...]:
        return run(x, **OPTIONS[name])

    assert torch.autograd.gradcheck(
        results, (x,), fast_mode=True, check_forward_ad=True, check_batched_grad=True
    )
    assert torch.autograd.gradgradcheck(results, (x,), fast_mode=True)


@pytest.mark.parametrize("name", OPTIONS)
def test_vmap_of_grad_under_every_option(name: str) -> None:
    """Examples differ in their images, rows, turns and masks."""
    x, options = images(), OPTIONS[name]
    stacks = torch.stack([x, 2 * x.flip(0), x.roll(1, 0)])
    per_example = {
        key: torch.stack([value, value.flip(0), value.roll(1, 0)])
        for key, value in options.items()
        if isinstance(value, Tensor)
    }
    fixed = {key: value for key, value in options.items() if key not in per_example}

    def loss(x: Tensor, given: dict[str, Tensor]) -> Tensor:
        return torch.stack([part.sin().sum() for part in run(x, **given, **fixed)]).sum()

    found = torch.func.vmap(torch.func.grad(loss))(stacks, per_example)
    for k, stack in enumerate(stacks):
        leaf = stack.clone().requires_grad_()
        given = {key: value[k] for key, value in per_example.items()}
        (expected,) = torch.autograd.grad(loss(leaf, given), leaf)
        torch.testing.assert_close(found[k], expected)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("clip", [None, 10.0])
@pytest.mark.parametrize("nan_to_zero", [False, True])
def test_the_expression_is_the_operator(dtype: Any, clip: float | None, nan_to_zero: bool) -> None:
    stack = torch.from_numpy(nasty_stack((25, 25), np.dtype(dtype), 0)[1])
    for mask in (None, torch.arange(25 * 25).reshape(25, 25) % 3 == 0):
        options: dict[str, Any] = {"mask": mask, "clip": clip, "nan_to_zero": nan_to_zero}
        for found, wanted in zip(
            normalized(stack, pixels(stack), **options), run(stack, **options), strict=True
        ):
            assert_same(found, wanted)


def test_nan_and_degenerate_planes_have_finite_derivatives() -> None:
    x = torch.stack([torch.zeros(25, 25), torch.full((25, 25), torch.nan), torch.eye(25)]).double()
    x = torch.cat([x, images()[0]])
    x[3, 3, 3], x[4, 12, 12] = torch.nan, torch.inf
    for nan_to_zero in (True, False):
        layer = OuterAnnulusNorm(4.0, 10.0, nan_to_zero=nan_to_zero)
        gradient = torch.func.grad(lambda x, layer=layer: layer(x).nan_to_num().sum())(x)
        assert torch.isfinite(gradient).all()
        _, tangent = _jvp(layer, x, _direction(x))
        assert torch.isfinite(tangent).all()
        assert nan_to_zero or tangent[3, 3, 3] == 0


def test_bad_arguments_are_named_in_every_mode() -> None:
    x, wrong = images(), torch.tensor([0, 4])
    with pytest.raises(ValueError, match="index contains 4; expected 0 to 3"):
        torch.func.grad(lambda x: run(x, index=wrong)[0].sum())(x)
    with pytest.raises(ValueError, match=r"clip=-1\.0"):
        torch.func.jvp(lambda x: run(x, clip=-1.0)[0], (x,), (x,))


def test_the_gradient_operator_has_derivatives_of_its_own() -> None:
    x = images()
    out, median, scale = run(x)
    rest = (torch.zeros_like(median), torch.zeros_like(scale), x, pixels(x), None, None, None)
    weights = out.cos().requires_grad_()

    def gradient(weights: Tensor) -> Tensor:
        found: Tensor = normalize_footprint_backward(weights, *rest, median, scale, None, False)
        return found

    assert torch.autograd.gradcheck(gradient, (weights,), fast_mode=True, check_forward_ad=True)
    _, tangent = _jvp(gradient, weights.detach(), out)
    torch.testing.assert_close(tangent, gradient(out))  # it is linear in the weights


def test_float32_images_have_tangents_too() -> None:
    x = images(torch.float32)
    _, tangent = _jvp(_layer(), x, torch.ones_like(x))
    expected = torch.func.jvp(_layer(), (x.double(),), (torch.ones_like(x).double(),))[1]
    torch.testing.assert_close(tangent.double(), expected, rtol=1e-3, atol=1e-4)
    assert fastnorm.normalize_outer_annulus(x, 4.0, 10.0).dtype == torch.float32


def test_a_table_made_inside_a_transform_outlives_it() -> None:
    x, layer = images(), OuterAnnulusNorm(3.375, 9.875)  # no other test has its table
    torch.func.vmap(torch.func.grad(lambda x: layer(x).sum()))(x)
    table = device_pixels(layer.annulus, 25, 25, x.device)
    assert table.tolist() == layer.annulus.pixels(25, 25).tolist()
    assert table.data_ptr()
