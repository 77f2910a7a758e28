"""Tests that calls which differ only in values and views run one compiled kernel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

pytest.importorskip("triton")

from benchmarks.gpu_model.variants import recording
from fastnorm import Annulus
from fastnorm.kernels import triton_normalize
from fastnorm.normalize.tensors import device_pixels

SHAPE = (3, 101, 101)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    monkeypatch.setattr(triton_normalize, "_compiled", {})
    with recording(90) as calls:
        yield calls


def launch(
    images: Tensor,
    mask: Tensor | None = None,
    index: Tensor | None = None,
    eps: float = 1e-8,
    clip: float | None = 10.0,
) -> None:
    count = len(images) if index is None else len(index)
    pixels = device_pixels(Annulus(32.5, 45), 101, 101, torch.device("cpu"))
    out, statistics = torch.empty(count, *SHAPE), [torch.empty(count, 3) for _ in range(2)]
    triton_normalize.launch(
        images, mask, pixels, index, None, out, statistics[0], None, statistics[1], eps, clip, True
    )  # fmt: skip


def distinct(recorded: list[dict[str, Any]]) -> int:
    return len({call["key"] for call in recorded})


def test_views_of_whole_planes(recorded: list[dict[str, Any]]) -> None:
    images = torch.zeros(9, *SHAPE)
    launch(images)
    launch(images[1:])  # at an address that is no multiple of 16 bytes
    launch(images[::2])
    launch(images[:1])
    launch(images[:1].expand(9, *SHAPE))
    assert (len(recorded), distinct(recorded)) == (5, 1)


def test_options(recorded: list[dict[str, Any]]) -> None:
    images = torch.zeros(9, *SHAPE)
    for eps, clip in ((1e-8, 10.0), (1e-3, 10.0), (1e-300, 3.7), (1.0, None), (1e-8, 1.0)):
        launch(images, eps=eps, clip=clip)
    assert (len(recorded), distinct(recorded)) == (5, 1)


@pytest.mark.parametrize("extra", [0, 1])
def test_masks(extra: int, recorded: list[dict[str, Any]]) -> None:
    images = torch.zeros(9, *SHAPE)
    shapes = [(9, *SHAPE), (9, 1, 101, 101), SHAPE, (101, 101), (1, 101), (101, 1), (1,)]
    for shape in shapes:
        mask = torch.zeros(shape[0] + extra, *shape[1:], dtype=torch.bool)[extra:]
        launch(images, mask.expand(9, *SHAPE))
    launch(images, torch.zeros(9, *SHAPE, dtype=torch.bool).transpose(-1, -2))
    assert (len(recorded), distinct(recorded)) == (8, 1)


def test_rows_of_a_stack(recorded: list[dict[str, Any]]) -> None:
    images, index = torch.zeros(9, *SHAPE), torch.arange(9)
    for rows in (index, index[1:], index[:1]):
        launch(images, index=rows)
        launch(images[1:], index=rows)
    assert (len(recorded), distinct(recorded)) == (6, 1)


def test_crops(recorded: list[dict[str, Any]]) -> None:
    wide = torch.zeros(9, 3, 151, 160)
    launch(wide[..., 25:126, 25:126])
    launch(wide[1:, ..., 20:121, 8:109])
    launch(torch.zeros(9, *SHAPE).to(memory_format=torch.channels_last))
    launch(torch.zeros(9, *SHAPE).transpose(-1, -2))
    assert (len(recorded), distinct(recorded)) == (4, 1)


def test_other_dtypes_and_sizes_need_other_code(recorded: list[dict[str, Any]]) -> None:
    images = torch.zeros(9, *SHAPE)
    launch(images)
    launch(images.half())
    launch(torch.zeros(9, 3, 120, 120)[..., :101, :101])
    assert distinct(recorded) == 3


class Kernel:
    """A compiled kernel that counts its calls."""

    calls = 0

    def __getitem__(self, grid: tuple[int, int, int]) -> Kernel:
        return self

    def __call__(self, *arguments: Any) -> None:
        self.calls += 1
        assert len(arguments) == len(triton_normalize._normalize_plane.arg_names)


@pytest.mark.parametrize("aligned", [True, False])
def test_a_kernel_is_looked_up_once_and_then_called(
    aligned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(triton_normalize, "_compiled", {})
    kernel, looked_up = Kernel(), 0

    class Jit:
        arg_names = triton_normalize._normalize_plane.arg_names

        def __getitem__(self, grid: tuple[int, int, int]) -> Any:
            def look_up(*arguments: Any, **settings: Any) -> Kernel:
                nonlocal looked_up
                looked_up += 1
                return kernel

            return look_up

    monkeypatch.setattr(triton_normalize, "_normalize_plane", Jit())
    images = torch.zeros(9, *SHAPE)[int(not aligned) :]
    for eps in (1e-8, 1e-3, 1.0):
        launch(images, eps=eps)
    assert (looked_up, kernel.calls) == (1, 2)
    launch(images, index=torch.arange(3))
    assert (looked_up, kernel.calls) == (2, 2)
