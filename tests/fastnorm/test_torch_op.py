"""Tests of the operator and the layer: values, gradients, and all modes of torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fastnorm
from fastnorm import OuterAnnulusNorm
from fastnorm.check.adversarial import nasty_stack
from fastnorm.layer.operator import normalize_footprint, normalize_footprint_backward
from fastnorm.normalize.tensors import device_pixels, turn, turn_back
from tests.fastnorm.nasty import assert_same

R_IN, R_OUT = 4.0, 10.0
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "index": {"index": torch.tensor([2, 0, 2])},
    "dihedral": {"dihedral": torch.tensor([1, 6, 4, 7])},
    "mask": {"mask": torch.arange(25 * 25).reshape(25, 25) % 7 == 0},
    "clip": {"clip": 1.0, "nan_to_zero": True},
    "everything": {
        "index": torch.tensor([3, 3, 1]),
        "dihedral": torch.tensor([5, 2, 3]),
        "mask": torch.arange(4 * 2 * 25 * 25).reshape(4, 2, 25, 25) % 5 == 0,
        "clip": 1.5,
        "channels_last": True,
    },
}


def images(dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(4, 2, 25, 25, dtype=torch.float64, generator=generator).to(dtype)


def run(x: Tensor, **options: Any) -> tuple[Tensor, Tensor, Tensor]:
    result: tuple[Tensor, Tensor, Tensor] = torch.ops.fastnorm.normalize_footprint(
        x, pixels(x), **options
    )
    return result


def pixels(x: Tensor) -> Tensor:
    return device_pixels(fastnorm.Annulus(R_IN, R_OUT), *x.shape[-2:], x.device)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("nan_to_zero", [False, True])
def test_values_are_those_of_the_definition(dtype: Any, nan_to_zero: bool) -> None:
    _, planes = nasty_stack((25, 25), np.dtype(dtype), 0)
    stack = torch.from_numpy(planes)
    result = run(stack, clip=10.0, nan_to_zero=nan_to_zero)
    expected = fastnorm.normalize_outer_annulus(
        stack,
        R_IN,
        R_OUT,
        clip=10,
        nan_to_zero=nan_to_zero,
        backend="reference",
        return_stats=True,
    )
    for found, wanted in zip(result, expected, strict=True):
        assert_same(found, wanted)


@pytest.mark.parametrize("element", range(8))
def test_dihedral_elements(element: int) -> None:
    plain, median, scale = run(images())
    turned = run(images(), dihedral=torch.full((4,), element))
    flipped = plain.numpy()[..., ::-1] if element >= 4 else plain.numpy()
    expected = np.rot90(flipped, element % 4, axes=(-2, -1))
    np.testing.assert_array_equal(turned[0].numpy(), expected)
    assert torch.equal(turned[1], median)
    assert torch.equal(turned[2], scale)
    assert torch.equal(turn(plain, torch.full((4,), element)), turned[0])
    assert torch.equal(turn_back(turned[0], torch.full((4,), element)), plain)


def test_index_gathers_images_and_masks() -> None:
    index = torch.tensor([3, 0, 3, 1, 2, 2])
    mask = torch.rand(4, 2, 25, 25, generator=torch.Generator().manual_seed(1)) > 0.7
    found = run(images(), index=index, mask=mask)
    expected = run(images()[index], mask=mask[index])
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("channels_last", [False, True])
def test_output_dtype_and_layout(dtype: torch.dtype, channels_last: bool) -> None:
    out = run(images(torch.float32), dtype=dtype, channels_last=channels_last)[0]
    assert out.dtype == dtype
    assert torch.equal(out, run(images(torch.float32))[0].to(dtype))
    layout = torch.channels_last if channels_last else torch.contiguous_format
    assert out.is_contiguous(memory_format=layout)


# opcheck itself reads the gradient of a tensor that is not a leaf.
@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")
@pytest.mark.parametrize("name", OPTIONS)
def test_opcheck(name: str) -> None:
    x = images().requires_grad_()
    operator = torch.ops.fastnorm.normalize_footprint
    checks = torch.library.opcheck(operator, (x, pixels(x)), OPTIONS[name])
    assert set(checks.values()) == {"SUCCESS"}


@pytest.mark.parametrize("name", OPTIONS)
def test_gradient(name: str) -> None:
    x = images().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: run(x, **OPTIONS[name]), (x,), fast_mode=True)


def test_gradient_of_one_plane_in_full() -> None:
    x = images()[:1, :1, :21, :21].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: run(x), (x,))


def test_gradient_passes_by_nan_and_clipped_pixels() -> None:
    x = images().clone()
    x[0, 0, 3, 3] = torch.nan
    x[0, 0, 12, 12] = 1e3
    x.requires_grad_()
    torch.autograd.backward(run(x, clip=2.0, nan_to_zero=True)[0].sum())
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
    assert x.grad[0, 0, 3, 3] == 0
    assert x.grad[0, 0, 12, 12] == 0


def test_gradient_of_degenerate_planes_is_finite() -> None:
    x = torch.stack([torch.zeros(25, 25), torch.full((25, 25), torch.nan), torch.eye(25)])
    x.requires_grad_()
    torch.autograd.backward(run(x, clip=10.0, nan_to_zero=True)[0].sum())
    assert x.grad is not None
    assert not x.grad.isnan().any()


def model() -> nn.Module:
    torch.manual_seed(0)
    layers = OuterAnnulusNorm(R_IN, R_OUT), nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(3 * 23 * 23, 1))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiles_to_one_graph_with_gradients() -> None:
    eager, twin = model(), model()
    compiled = torch.compile(twin, fullgraph=True)
    for run_model in (eager, compiled):
        torch.autograd.backward(run_model(images(torch.float32)).sum())
    for a, b in zip(eager.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_exports_with_the_layer_inside() -> None:
    eager = model().eval()
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(eager, (images(torch.float32),), dynamic_shapes=({0: batch},))
    more = images(torch.float32).repeat(2, 1, 1, 1)
    torch.testing.assert_close(program.module()(more), eager(more))


def test_vmap_over_images_and_masks() -> None:
    x = images()
    mask = torch.rand(4, 25, 25, generator=torch.Generator().manual_seed(1)) > 0.7
    found = torch.func.vmap(lambda x, m: run(x, mask=m)[0])(x, mask)
    assert torch.equal(found, run(x, mask=mask[:, None])[0])


class NormalisedImages(torch.utils.data.Dataset[Tensor]):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, i: int) -> Tensor:
        assert fastnorm.dispatch.threads.num_threads() == 1
        return run(images()[i])[0]


def test_runs_in_a_worker_of_a_data_loader() -> None:
    expected = run(images())[0]
    loader = torch.utils.data.DataLoader(NormalisedImages(), batch_size=2, num_workers=2)
    assert torch.equal(torch.cat(list(loader)), expected)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"index": torch.tensor([0, 4])}, ValueError, "index contains 4; expected 0 to 3"),
        ({"index": torch.tensor([-1])}, ValueError, "index contains -1"),
        ({"index": torch.tensor([1.0])}, TypeError, "index has dtype torch.float32"),
        ({"dihedral": torch.tensor([0, 1, 2, 8])}, ValueError, "dihedral contains 8"),
        ({"dihedral": torch.tensor([0, 1])}, ValueError, r"dihedral has shape \(2,\)"),
        ({"dihedral": torch.zeros(4)}, TypeError, "dihedral has dtype torch.float32"),
        ({"clip": -1.0}, ValueError, "clip=-1.0"),
        ({"dtype": torch.int32}, ValueError, "dtype=torch.int32"),
        ({"mask": torch.zeros(4, 2, 25, 25)}, TypeError, "mask has dtype torch.float32"),
        ({"pixels": torch.arange(9)}, TypeError, r"pixels has dtype torch.int64 and shape \(9,\)"),
        ({"pixels": torch.tensor([3, 625]).int()}, ValueError, "ascending flat indices.*0 to 624"),
        ({"pixels": torch.tensor([3, 3]).int()}, ValueError, "ascending.*each once"),
        ({"pixels": torch.zeros(0).int()}, ValueError, "footprint is empty"),
    ],
)
def test_bad_arguments(options: dict[str, Any], error: type[Exception], message: str) -> None:
    x = images()
    with pytest.raises(error, match=message):
        normalize_footprint(x, **{"pixels": pixels(x), **options})


def test_dihedral_needs_square_images() -> None:
    with pytest.raises(ValueError, match=r"square images, but these are \(25, 31\)"):
        run(torch.zeros(4, 1, 25, 31), dihedral=torch.zeros(4, dtype=torch.int64))


def test_layer_shows_its_radii() -> None:
    assert "r_in=32.5, r_out=45.0" in repr(OuterAnnulusNorm(32.5, 45))


def test_layer_is_preprocess_stack() -> None:
    from dhs.preprocess import preprocess_stack
    from fastnorm.checksums import synthetic_cutout

    cutout = synthetic_cutout()
    cutout[0, 30:40, 5:9] = np.nan
    expected = preprocess_stack(
        cutout, "raw_robust", crop=False, annulus_r_in=32.5, annulus_r_out=45.0
    )
    found = OuterAnnulusNorm(32.5, 45.0)(torch.from_numpy(cutout)[None])[0]
    assert found.numpy().tobytes() == expected.tobytes()


def test_state_dict_of_another_annulus_is_refused() -> None:
    corrected = nn.Sequential(OuterAnnulusNorm(32.5, 45.0), nn.Linear(2, 2))
    same = nn.Sequential(OuterAnnulusNorm(32.5, 45), nn.Linear(2, 2))
    legacy = nn.Sequential(OuterAnnulusNorm(20.0, 32.0), nn.Linear(2, 2))
    same.half().load_state_dict(corrected.state_dict())
    with pytest.raises(
        ValueError, match=r"annulus \(20.0, 32.0\).*this layer has the annulus \(32.5"
    ):
        same.load_state_dict(legacy.state_dict())
    without = {name: value for name, value in legacy.state_dict().items() if "extra" not in name}
    with pytest.raises(RuntimeError, match="Missing key"):
        same.load_state_dict(without)


def test_direct_call_is_the_registered_operator() -> None:
    x = images()
    assert torch.equal(normalize_footprint(x, pixels(x))[0], run(x)[0])


def test_the_gradient_of_rows_out_of_range_is_zero() -> None:
    """Check what a GPU does, where such an index is no error and its planes are NaN."""
    x, wrong = images(), torch.tensor([1, 4, -1])
    out, median, scale = run(x, index=torch.tensor([1, 0, 0]))
    for values in (median, scale):
        values[1:] = torch.nan
    grad = torch.ones_like(out)
    grad[1:] = torch.nan
    gradient = normalize_footprint_backward(
        grad, torch.zeros_like(median), torch.zeros_like(scale), x, pixels(x), wrong, None, None,
        median, scale, None, False,
    )  # fmt: skip
    assert torch.isfinite(gradient).all()
    assert gradient[1].any()
    assert not gradient[[0, 2, 3]].any()


class Recorder:
    """A backend of torch.compile that keeps the graphs and runs them as they are."""

    def __init__(self) -> None:
        self.graphs: list[torch.fx.GraphModule] = []

    def __call__(self, graph: torch.fx.GraphModule, _: list[Tensor]) -> torch.fx.GraphModule:
        self.graphs.append(graph)
        return graph


def test_a_compiled_layer_makes_its_table_before_its_graph_runs() -> None:
    recorder = Recorder()
    annulus = fastnorm.Annulus(3.25, 9.125)  # no other test has its table
    layer = OuterAnnulusNorm(annulus.r_in, annulus.r_out)
    compiled = torch.compile(layer, fullgraph=True, backend=recorder)
    x = images(torch.float32)
    expected = fastnorm.normalize_outer_annulus(
        x, annulus.r_in, annulus.r_out, clip=10.0, nan_to_zero=True
    )
    misses = device_pixels.cache_info().misses
    assert torch.equal(compiled(x), expected)
    assert device_pixels.cache_info().misses == misses + 1
    called = [node.target for node in recorder.graphs[0].graph.nodes if "call" in node.op]
    assert called[0] is normalize_footprint
    assert len(called) == 2  # the operator, and the first of its results


def test_sizes_that_change_have_tables_of_their_own() -> None:
    layer = OuterAnnulusNorm(R_IN, R_OUT)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for height, width in ((25, 25), (27, 25), (29, 31), (25, 25)):
        x = torch.rand(2, height, width)
        assert torch.equal(compiled(x), layer(x))


def test_a_table_stays_where_a_captured_graph_expects_it() -> None:
    device = torch.device("cpu")
    first = device_pixels(fastnorm.Annulus(R_IN, R_OUT), 25, 25, device)
    for i in range(200):
        device_pixels(fastnorm.Annulus(1, 10 + i / 1000), 25, 25, device)
    assert device_pixels(fastnorm.Annulus(R_IN, R_OUT), 25, 25, device) is first
