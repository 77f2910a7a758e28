"""Messages of the layer to wrong arguments: the argument, its value, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fastnorm import Annulus, FootprintNorm, OuterAnnulusNorm

MAKERS: dict[str, Callable[..., nn.Module]] = {
    "annulus": lambda **options: OuterAnnulusNorm(9.0, 14.0, **options),
    "footprint": lambda **options: FootprintNorm(Annulus(9.0, 14.0), **options),
}


def images(*shape: int) -> Tensor:
    return torch.randn(shape or (4, 3, 33, 33), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"clip": -1}, ValueError, "clip=-1 is out of range"),
        ({"clip": 0}, ValueError, "clip=0 is out of range"),
        ({"clip": float("nan")}, ValueError, "clip=nan is out of range"),
        ({"clip": "10"}, TypeError, "clip='10' is not a number"),
        ({"eps": 0}, ValueError, "eps=0 is out of range"),
        ({"eps": None}, TypeError, "eps=None is not a number"),
        ({"dtype": "bfloat16"}, ValueError, r"dtype='bfloat16' is not .*torch\.bfloat16"),
        ({"dtype": np.float32}, ValueError, r"dtype=<class 'numpy.float32'> .*torch\.float32"),
        ({"dtype": torch.int32}, ValueError, r"dtype=torch.int32 is not .*torch\.float32"),
    ],
)
def test_wrong_settings_are_refused_when_the_layer_is_built(
    maker: str, options: dict[str, Any], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        MAKERS[maker](**options)


@pytest.mark.parametrize("clip", [None, 1, 10.0, float("inf")])
def test_right_settings_are_kept_as_given(clip: Any) -> None:
    layer = OuterAnnulusNorm(9.0, 14.0, clip=clip, eps=1e-8)
    assert layer.clip is clip
    assert f"clip={clip}" in repr(layer)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (images().numpy(), r"images has type ndarray; .*torch\.from_numpy\(images\)"),
        ([images()], r"images has type list; .*torch\.stack\(images\)"),
        ({"image": images()}, r"images has type dict; .*batch\['image'\]"),
        (None, "images has type NoneType"),
        ((images() * 9).to(torch.uint8), r"images has dtype torch\.uint8; .*images\.float\(\)"),
        (images().long(), r"images has dtype torch\.int64; .*images\.float\(\)"),
        (images() > 0, r"images has dtype torch\.bool"),
        (images().to(torch.complex64), r"images has dtype torch\.complex64"),
    ],
)
def test_images_that_are_none_are_named(given: Any, words: str) -> None:
    with pytest.raises(TypeError, match=words):
        MAKERS["annulus"]()(given)


def test_a_compiled_model_names_them_as_well() -> None:
    model = nn.Sequential(MAKERS["annulus"](), nn.Conv2d(3, 1, 3))
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    with pytest.raises(Exception, match=r"images has dtype torch\.uint8"):
        compiled((images() * 9).to(torch.uint8))


@pytest.mark.parametrize("name", ["index", "dihedral", "mask"])
def test_other_arguments_are_tensors(name: str) -> None:
    for value in ([0, 1], np.zeros(4, np.int64)):
        kind = type(value).__name__
        with pytest.raises(TypeError, match=rf"{name} has type {kind}; .*torch\.as_tensor\({name}"):
            MAKERS["annulus"]()(images(), **{name: value})


def test_a_mask_of_the_gathered_images_is_refused() -> None:
    index, mask = torch.tensor([0, 2]), torch.zeros(2, 3, 33, 33, dtype=torch.bool)
    words = r"mask has shape \(2, 3, 33, 33\), .*images, \(4, 3, 33, 33\).*index .*mask as well"
    with pytest.raises(ValueError, match=words):
        MAKERS["annulus"]()(images(), index=index, mask=mask)
