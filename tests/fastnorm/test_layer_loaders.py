"""The layer in loaders of states, tracers and exporters other than `load_state_dict` and eager."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import weakref
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

import fastnorm
from fastnorm.check.adversarial import nasty_stack
from fastnorm.layer.operator import normalize_footprint
from tests.fastnorm.nasty import assert_same

RADII = (4.0, 10.0)
KEY = "_extra_state"


def layer(r_in: float = RADII[0], r_out: float = RADII[1], **options: Any) -> Any:
    return fastnorm.OuterAnnulusNorm(r_in, r_out, **options)


def images() -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(2, 2, 25, 25, generator=generator)


def assign(module: nn.Module, name: str, value: Tensor | None, device: str = "cpu") -> None:
    """Set one entry of a state dict, as accelerate's `set_module_tensor_to_device` does."""
    assert name in module._buffers
    old = getattr(module, name)
    if value is None:
        module._buffers[name] = old.to(device)
        return
    assert old.shape == value.shape
    module._buffers[name] = value.to(old.dtype).to(device)


def test_a_loader_of_single_entries_compares_the_footprint() -> None:
    assign(layer(), KEY, layer().get_extra_state())
    with pytest.raises(ValueError, match=r"annulus \(3\.0, 9\.0\), but .*\(4\.0, 10\.0\)"):
        assign(layer(), KEY, layer(3.0, 9.0).get_extra_state())


def test_a_state_on_disk_is_compared_when_it_is_read() -> None:
    read_late = layer()
    assign(read_late, KEY, None, "meta")
    with pytest.raises(ValueError, match=r"was not compared .*device_map, not 'disk'"):
        read_late(images())
    assign(read_late, KEY, layer().get_extra_state())
    assert torch.equal(read_late(images()), layer()(images()))


def test_the_footprint_is_no_buffer_that_anything_lists() -> None:
    module = layer()
    module.register_buffer("other", torch.ones(1))
    assert [name for name, _ in module.named_buffers()] == ["other"]
    assert list(module.state_dict()) == ["other", KEY]
    assert module.half().get_extra_state().dtype == torch.float64
    module.load_state_dict(layer().state_dict() | {"other": torch.zeros(1)})
    assert module.other == 0
    with pytest.raises(AttributeError, match="nothing"):
        _ = module.nothing


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_compare_with_their_own_footprint(copied: Any) -> None:
    model = nn.Sequential(layer(), nn.Flatten())
    twin = copied(model)
    del model
    gc.collect()
    with pytest.raises(ValueError, match=r"annulus \(3\.0, 9\.0\)"):
        assign(twin[0], KEY, layer(3.0, 9.0).get_extra_state())
    assert twin(images()).shape == (2, 2 * 25 * 25)


def test_a_layer_that_was_pickled_without_its_buffers_takes_them_up() -> None:
    module = layer()
    state = {name: value for name, value in vars(module).items() if name != "is_compared"}
    twin = layer(3.0, 9.0)
    twin.__setstate__(state | {"_buffers": {}})
    assert torch.equal(twin(images()), module(images()))
    assign(twin, KEY, module.get_extra_state())


def test_a_layer_dies_with_its_last_reference() -> None:
    module = layer()
    alive = weakref.ref(module)
    gc.disable()
    try:
        del module
        assert alive() is None
    finally:
        gc.enable()


def test_a_whole_state_dict_may_be_lent() -> None:
    model = nn.Sequential(layer(), nn.Conv2d(2, 1, 3))
    other = nn.Sequential(layer(), nn.Conv2d(2, 1, 3))
    found = torch.func.functional_call(model, other.state_dict(), images())
    assert torch.equal(found, other(images()))
    wrong = nn.Sequential(layer(3.0, 9.0), nn.Conv2d(2, 1, 3))
    with pytest.raises(ValueError, match=r"annulus \(3\.0, 9\.0\)"):
        torch.func.functional_call(model, wrong.state_dict(), images())


@pytest.mark.parametrize("r_out", [10.25, 10.5])
def test_a_first_call_on_fake_tensors_leaves_nothing_fake(r_out: float) -> None:
    module = layer(r_out=r_out)
    for _ in range(2):
        with FakeTensorMode():
            out = module(torch.randn(2, 2, 25, 25))
        assert isinstance(out, FakeTensor)
        expected = fastnorm.normalize_outer_annulus(
            images(), RADII[0], r_out, clip=10.0, nan_to_zero=True
        )
        assert torch.equal(module(images()), expected)


@pytest.mark.parametrize("strict", [False, True])
def test_a_first_call_may_be_an_export(strict: bool) -> None:
    module = layer(r_out=10.75 + strict / 8)
    program = torch.export.export(module, (images(),), strict=strict)
    assert torch.equal(program.module()(images()), module(images()))
    stream = io.BytesIO()
    torch.export.save(program, stream)
    stream.seek(0)
    assert torch.equal(torch.export.load(stream).module()(images()), module(images()))


@pytest.mark.parametrize("mode", ["real", "fake", "symbolic"])
def test_a_first_call_may_be_traced(mode: Any) -> None:
    module = layer(r_out=11.0 + len(mode) / 64)
    graph = make_fx(module, tracing_mode=mode)(images())
    assert torch.equal(graph(images()), module(images()))


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_first_call_may_be_traced_for_torchscript() -> None:
    module = layer(r_out=11.5)
    traced = torch.jit.trace(module, images())  # type: ignore[no-untyped-call]
    assert torch.equal(traced(images()), module(images()))


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
@pytest.mark.parametrize("around", [lambda x: x, nn.Sequential], ids=["alone", "inside"])
def test_torchscript_is_refused_by_name(around: Any) -> None:
    with pytest.raises(NotImplementedError, match=r"torch\.jit\.script cannot .*OuterAnnulusNorm"):
        torch.jit.script(around(layer()))


@pytest.mark.parametrize("options", [{}, {"clip": None, "nan_to_zero": False}, {"eps": 1e-3}])
def test_an_onnx_export_sees_an_expression_of_the_same_values(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = layer(**options)
    _, planes = nasty_stack((25, 25), np.dtype(np.float32), 0)
    stack = torch.from_numpy(planes)
    expected = module(stack)

    def called() -> set[Any]:
        graph = make_fx(module)(stack).graph
        return {node.target for node in graph.nodes if node.op == "call_function"}

    assert normalize_footprint in called()
    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    assert_same(module(stack), expected)
    targets = called()
    assert normalize_footprint not in targets
    # ONNX has no stable sort.
    assert torch.ops.aten.sort.default in targets
    assert torch.ops.aten.sort.stable not in targets
