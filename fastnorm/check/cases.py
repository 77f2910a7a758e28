"""The cases of ``fastnorm check``: adversarial images, settings and expected results.

Expected results are computed plane by plane, with `fastnorm.reference` and NumPy only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fastnorm.annulus import Annulus
from fastnorm.check.adversarial import nasty_stack
from fastnorm.reference import normalize_plane, scale_of

Place = Literal["cpu", "cuda", "interpreter"]
"""Place where a backend runs; an interpreter runs GPU code on CPU tensors."""

EPS = 1e-8
GEOMETRIES = [
    ((101, 101), Annulus(32.5, 45.0)),
    ((101, 101), Annulus(20.0, 32.0)),
    ((21, 21), Annulus(2, 9)),
    ((64, 64), Annulus(20.0, 32.0)),
    ((100, 101), Annulus.default(100, 101)),
    ((37, 58), Annulus.default(37, 58)),
    ((256, 256), Annulus.default(256, 256)),
]
DTYPES = ("float32", "float64", "float16", "bfloat16")
MASKS = ("none", "random", "all bad")
OUTPUTS = (None, "bfloat16", "float32", "float16", "float64")
OPTIONS: list[dict[str, Any]] = [
    {"mask": mask, "clip": clip, "nan_to_zero": nan_to_zero}
    for mask, clip, nan_to_zero in product(MASKS, (10.0, None), (False, True))
]


class Setting(NamedTuple):
    """One way to normalise all adversarial images of one shape.

    ``output`` is the dtype of the result, None for that of the images. ``is_gathered``: gather
    rows by an index with repeats and, if images are square, turn each by an element of the
    dihedral group. ``images``: number of images of three planes to use, None for all.
    """

    shape: tuple[int, int]
    annulus: Annulus
    dtype: str
    mask: str = "none"
    clip: float | None = 10.0
    nan_to_zero: bool = False
    output: str | None = None
    channels_last: bool = False
    is_gathered: bool = False
    images: int | None = None

    def __str__(self) -> str:
        height, width = self.shape
        words = [
            f"{height} x {width}",
            f"annulus {self.annulus.r_in:g}-{self.annulus.r_out:g}",
            f"{self.dtype} to {self.output or self.dtype}",
            f"mask {self.mask}",
            f"clip {self.clip}",
            "NaN to 0" if self.nan_to_zero else "NaN kept",
        ]
        if self.channels_last:
            words.append("channels last")
        if self.is_gathered:
            words.append("gathered and turned" if height == width else "gathered")
        return ", ".join(words)


@dataclass(frozen=True)
class Work:
    """CPU tensors of one setting: images (N, 3, H, W) and the expected results.

    ``out`` is (M, 3, H, W), ``median`` and ``scale`` are (M, 3), and ``names`` has one name
    for each of these 3 M planes. ``mask`` broadcasts to ``images``.
    """

    names: list[str]
    images: Tensor
    mask: Tensor | None
    index: Tensor | None
    dihedral: Tensor | None
    out: Tensor
    median: Tensor
    scale: Tensor


def settings(place: Place, is_quick: bool) -> Iterator[Setting]:
    """Yield the settings to check in a place, starting with plain use on 101 x 101 float32."""
    if place == "cpu":
        yield from _cpu_settings(is_quick)
    elif place == "cuda":
        yield from _cuda_settings(is_quick)
    else:
        yield from _interpreter_settings(is_quick)


def _cpu_settings(is_quick: bool) -> Iterator[Setting]:
    geometries = GEOMETRIES[:3] if is_quick else GEOMETRIES
    for i, (geometry, dtype) in enumerate(product(geometries, DTYPES)):
        size, kind = divmod(i, len(DTYPES))
        chosen = [_mixed(size, kind)] if is_quick else [_mixed(size, kind), _mixed(size + 3, kind)]
        for options in chosen if is_quick or size > 2 else OPTIONS:
            yield Setting(*geometry, dtype, **options)


def _cuda_settings(is_quick: bool) -> Iterator[Setting]:
    """Yield few settings, because each one compiles; every option meets most of the others."""
    geometries = [GEOMETRIES[0], GEOMETRIES[2]] if is_quick else GEOMETRIES
    for i, (geometry, dtype) in enumerate(product(geometries, DTYPES)):
        size, kind = divmod(i, len(DTYPES))
        yield Setting(
            *geometry,
            dtype,
            **_mixed(size, kind),
            output=OUTPUTS[i % 5],
            channels_last=(size + kind) % 2 == 1,
            is_gathered=(size // 2 + kind // 2) % 2 == 1,
        )
    yield _training(Setting(*GEOMETRIES[0], "float32"))


def _interpreter_settings(is_quick: bool) -> Iterator[Setting]:
    small = Setting(*GEOMETRIES[2], "float32", images=2)
    yield small
    yield _training(small)._replace(mask="random")
    if not is_quick:
        yield small._replace(dtype="float64", clip=None, output="float16")
        yield small._replace(dtype="float16", mask="all bad", output="float64")
        yield small._replace(dtype="bfloat16", nan_to_zero=True, channels_last=True)


def _mixed(size: int, kind: int) -> dict[str, Any]:
    """Return options that vary with size and dtype, so that few settings cover all mixtures."""
    return OPTIONS[(5 * size + 3 * kind) % len(OPTIONS)]


def _training(setting: Setting) -> Setting:
    """Return the setting with the options of a training loop."""
    return setting._replace(
        nan_to_zero=True, output="bfloat16", channels_last=True, is_gathered=True
    )


# All backends of a place run one setting before the next, so that caching one is enough.
@lru_cache(maxsize=1)
def work(setting: Setting) -> Work:
    """Draw the images of a setting and normalise them with the reference."""
    dtype: torch.dtype = getattr(torch, setting.dtype)
    names, planes = _planes(setting)
    planes_drawn = torch.from_numpy(planes).to(dtype)
    computed = planes_drawn.double() if setting.dtype == "float64" else planes_drawn.float()
    bad = _mask(setting, len(planes))
    found = [
        normalize_plane(
            plane,
            setting.annulus,
            mask=None if bad is None else bad[i],
            eps=EPS,
            clip=setting.clip,
            nan_to_zero=setting.nan_to_zero,
        )
        for i, plane in enumerate(computed.numpy())
    ]
    out, median, mad = (np.array(values) for values in zip(*found, strict=True))
    out, median = out.reshape(-1, 3, *setting.shape), median.reshape(-1, 3)
    scale = np.asarray(scale_of(mad, EPS)).reshape(-1, 3)

    index = dihedral = None
    if setting.is_gathered:
        rng = np.random.default_rng(len(out))
        rows = np.concatenate([rng.permutation(len(out)), rng.integers(0, len(out), len(out) // 2)])
        out, median, scale = out[rows], median[rows], scale[rows]
        names = [names[3 * row + band] for row in rows for band in range(3)]
        index = torch.from_numpy(rows)
        if setting.shape[0] == setting.shape[1]:
            elements = (3 * np.arange(len(rows)) + 1) % 8
            out = np.stack([_turned(image, int(d)) for image, d in zip(out, elements, strict=True)])
            dihedral = torch.from_numpy(elements)
    layout = torch.channels_last if setting.channels_last else torch.contiguous_format
    right = torch.from_numpy(out).to(getattr(torch, setting.output or setting.dtype))
    mask = None if bad is None else torch.from_numpy(bad).reshape(-1, 3, *setting.shape)
    return Work(
        names,
        planes_drawn.reshape(-1, 3, *setting.shape),
        mask,
        index,
        dihedral,
        right.contiguous(memory_format=layout),
        torch.from_numpy(median),
        torch.from_numpy(scale),
    )


def _planes(setting: Setting) -> tuple[list[str], NDArray[Any]]:
    """Draw three planes per image; planes repeat to fill the last image, or are a subset."""
    drawn = "float32" if setting.dtype == "bfloat16" else setting.dtype
    names, stack = nasty_stack(setting.shape, drawn, 1, setting.annulus)
    count = -(-len(stack) // 3) if setting.images is None else setting.images
    step = 1 if setting.images is None else len(stack) // (3 * count)
    chosen = np.arange(3 * count) * step % len(stack)
    return [names[i] for i in chosen], stack[chosen]


def _mask(setting: Setting, count: int) -> NDArray[Any] | None:
    if setting.mask == "none":
        return None
    share = 1.0 if setting.mask == "all bad" else 0.2
    return np.random.default_rng(7).random((count, *setting.shape)) < share


def _turned(image: NDArray[Any], element: int) -> NDArray[Any]:
    flipped = image[..., ::-1] if element >= 4 else image
    return np.rot90(flipped, element % 4, (-2, -1))
