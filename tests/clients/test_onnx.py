"""ONNX: both exporters of torch give a graph with the values of the layer, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import fastnorm
from dhs.model import LensFinder
from dhs.preprocess.spec import PreprocessSpec
from fastnorm.check.adversarial import nasty_stack
from tests.clients.conftest import framework
from tests.fastnorm.nasty import assert_same

pytestmark = [
    pytest.mark.clients,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
    # Of the exporters, on what they are themselves and on what they leave out.
    pytest.mark.filterwarnings("ignore::UserWarning"),
]

EXPORTERS = pytest.mark.parametrize("dynamo", [True, False], ids=["dynamo", "torchscript"])
_, PLANES = nasty_stack((25, 25), np.dtype(np.float32), 0)
IMAGES = torch.from_numpy(PLANES[: len(PLANES) // 2 * 2]).reshape(-1, 2, 25, 25)


class Normaliser(nn.Module):
    """The layer with all of its inputs."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.layer = fastnorm.OuterAnnulusNorm(4.0, 10.0, **options)

    def forward(
        self,
        images: Tensor,
        mask: Tensor | None = None,
        dihedral: Tensor | None = None,
        index: Tensor | None = None,
    ) -> Tensor:
        out: Tensor = self.layer(images, mask=mask, dihedral=dihedral, index=index)
        return out


def by_onnx(
    model: nn.Module, inputs: tuple[Tensor | None, ...], path: Path, dynamo: bool
) -> NDArray[Any]:
    framework("onnxscript")
    onnx, runtime = framework("onnx"), framework("onnxruntime")
    # torch's default optimises the graph.
    torch.onnx.export(model, inputs, path, dynamo=dynamo, verbose=False)
    onnx.checker.check_model(onnx.load(path))
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    given = [each.numpy() for each in inputs if each is not None]
    names = [each.name for each in session.get_inputs()]
    found: NDArray[Any] = session.run(None, dict(zip(names, given, strict=True)))[0]
    return found


@EXPORTERS
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"clip": None, "nan_to_zero": False},
        {"eps": 1e-12},
        {"dtype": torch.float16},
    ],
    ids=str,
)
def test_every_plane_has_the_values_of_the_layer(
    options: dict[str, Any], dynamo: bool, tmp_path: Path
) -> None:
    model = Normaliser(**options).eval()
    found = by_onnx(model, (IMAGES,), tmp_path / "model.onnx", dynamo)
    assert_same(torch.from_numpy(found), model(IMAGES))


@EXPORTERS
def test_all_inputs_of_the_layer_are_inputs_of_the_graph(dynamo: bool, tmp_path: Path) -> None:
    mask = torch.from_numpy(np.random.default_rng(1).random((4, 2, 25, 25)) < 0.2)
    inputs = (IMAGES[:4], mask, torch.tensor([5, 2, 7]), torch.tensor([3, 0, 3]))
    model = Normaliser().eval()
    found = by_onnx(model, inputs, tmp_path / "model.onnx", dynamo)
    assert_same(torch.from_numpy(found), model(*inputs))


@EXPORTERS
@pytest.mark.parametrize("mode", ["raw_robust", "residual_radial_profile"])
def test_a_lens_finder_has_the_same_logits(mode: str, dynamo: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    spec = PreprocessSpec(mode=mode, annulus_r_in=32.5, annulus_r_out=45.0)
    finder = LensFinder(spec, "bottlenecked_resnet", base_ch=4)
    # The exporter without dynamo passes keyword arguments of the outermost module by position.
    model = nn.Sequential(finder).eval()
    images = torch.randn(4, 3, 101, 101)
    found = by_onnx(model, (images,), tmp_path / "model.onnx", dynamo)
    with torch.inference_mode():
        expected = model(images).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4 * expected.std())
