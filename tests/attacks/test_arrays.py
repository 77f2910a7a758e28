"""Arrays and flags that look like others: a file mapped twice, odd tensors, text for bool."""

from __future__ import annotations

import inspect
import mmap
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.masked import masked_tensor

import dhs.audit.methods
import dhs.checkpoint.published
import dhs.evaluate
import dhs.fetch
import dhs.model.finder
import dhs.pack
import dhs.preprocess
import dhs.preprocess.layer
import dhs.score
import dhs.transforms
import fastnorm
import fastnorm.nddata
import fastnorm.reference
from fastnorm.layer.weights import with_footprint

SHAPE = (4, 3, 101, 101)
ANNULUS = (32.5, 45.0)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    images = np.random.default_rng(0).normal(size=(8, 3, 101, 101)).astype(np.float32)
    np.save(tmp_path / "a.npy", images)
    return tmp_path / "a.npy"


def as_tensor(array: NDArray[Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.from_numpy(array)


OPENED: dict[str, Callable[[Path, Any], Any]] = {
    "memmap": lambda path, mode: np.load(path, mmap_mode=mode),
    "plain view": lambda path, mode: np.asarray(np.load(path, mmap_mode=mode)),
    "tensor": lambda path, mode: as_tensor(np.load(path, mmap_mode=mode)),
}


@pytest.mark.parametrize("opened", OPENED)
def test_out_that_maps_the_file_of_the_images(file: Path, opened: str, tmp_path: Path) -> None:
    (tmp_path / "link.npy").hardlink_to(file)
    before = file.read_bytes()
    images, out = OPENED[opened](file, "r"), OPENED[opened](tmp_path / "link.npy", "r+")
    for first, second in ((images, out), (images[:5], out[3:])):
        if len(first) == len(second):
            with pytest.raises(
                ValueError, match="out is mapped to the same part of a file as imag"
            ):
                fastnorm.normalize_outer_annulus(first, *ANNULUS, out=second)
    del out
    assert file.read_bytes() == before


def test_out_that_maps_the_file_of_the_mask(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((101, 101), np.float64))
    image = np.random.default_rng(0).normal(size=(101, 101))
    out = np.load(tmp_path / "a.npy", mmap_mode="r+")
    mask = np.memmap(tmp_path / "a.npy", bool, "r", 128, (101, 101))
    with pytest.raises(ValueError, match="same part of a file as mask"):
        fastnorm.normalize_outer_annulus(image, *ANNULUS, mask=mask, out=out)


def test_out_that_maps_another_part_or_a_private_copy(file: Path, tmp_path: Path) -> None:
    images, out = np.load(file, mmap_mode="r"), np.load(file, mmap_mode="r+")
    expected = fastnorm.normalize_outer_annulus(np.array(images[4:]), *ANNULUS)
    fastnorm.normalize_outer_annulus(images[4:], *ANNULUS, out=out[:4])
    assert np.array_equal(out[:4], expected)
    private, before = np.load(file, mmap_mode="c"), np.array(images)
    fastnorm.normalize_outer_annulus(images, *ANNULUS, out=private)
    assert np.array_equal(images, before)
    np.save(tmp_path / "b.npy", before)
    other = np.load(tmp_path / "b.npy", mmap_mode="r+")
    fastnorm.normalize_outer_annulus(images, *ANNULUS, out=other)
    assert np.array_equal(other, private)


def test_out_that_maps_the_file_with_mmap(file: Path) -> None:
    with file.open("r+b") as stream:
        first, second = (mmap.mmap(stream.fileno(), 0) for _ in range(2))
    images, out = (np.frombuffer(part, np.float32, offset=128) for part in (first, second))
    with pytest.raises(ValueError, match="same part of a file as images"):
        fastnorm.normalize_outer_annulus(
            images.reshape(8, 3, 101, 101), *ANNULUS, out=out.reshape(8, 3, 101, 101)
        )


PIXELS = torch.randn(*SHAPE)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    TENSORS: dict[str, tuple[Any, str]] = {
        "nested": (torch.nested.nested_tensor([*PIXELS]), r"torch.stack\(\w+.unbind\(\)\)"),
        "jagged": (
            torch.nested.nested_tensor([*PIXELS], layout=torch.jagged),
            r"torch.stack\(\w+.unbind\(\)\)",
        ),
        "sparse": (PIXELS.to_sparse(), r"\w.to_dense\(\)"),
        "sparse rows": (PIXELS[0, 0].to_sparse_csr(), r"\w.to_dense\(\)"),
        "quantized": (
            torch.quantize_per_tensor(PIXELS, 0.1, 0, torch.quint8),
            r"\w.dequantize\(\)",
        ),
        "complex": (torch.complex(PIXELS, PIXELS), r"Pass \w+.real"),
        "conjugate": (torch.complex(PIXELS, PIXELS).conj(), r"Pass \w+.real"),
        "masked": (masked_tensor(PIXELS, PIXELS > 0), r"get_data\(\) and mask=~"),
        "meta": (PIXELS.to("meta"), "no values"),
    }

ARGUMENTS: dict[str, Callable[[Any], object]] = {
    "images": lambda value: fastnorm.normalize_outer_annulus(value, *ANNULUS),
    "images of the statistics": lambda value: fastnorm.annulus_median_mad(value, *ANNULUS),
    "images of the layer": lambda value: fastnorm.OuterAnnulusNorm(*ANNULUS)(value),
    "out": lambda value: fastnorm.normalize_outer_annulus(PIXELS, *ANNULUS, out=value),
    "mask": lambda value: fastnorm.normalize_outer_annulus(PIXELS, *ANNULUS, mask=value),
    "footprint": lambda value: fastnorm.normalize_footprint(PIXELS, value),
}


@pytest.mark.parametrize("argument", ARGUMENTS)
@pytest.mark.parametrize("kind", TENSORS)
def test_odd_tensors_are_named(kind: str, argument: str) -> None:
    value, advice = TENSORS[kind]
    if (kind, argument) == ("meta", "images of the layer"):
        assert ARGUMENTS[argument](value).shape == PIXELS.shape  # type: ignore[attr-defined]
        return
    expected = ValueError if kind == "meta" else TypeError
    advice = "on meta" if (kind, argument) == ("meta", "footprint") else advice
    with pytest.raises(expected, match=advice) as error:
        ARGUMENTS[argument](value)
    assert str(error.value).startswith(argument.partition(" ")[0])


def test_tensors_of_a_subclass_are_normalised() -> None:
    class Named(torch.Tensor):
        pass

    found = fastnorm.normalize_outer_annulus(PIXELS.as_subclass(Named), *ANNULUS)
    assert torch.equal(found, fastnorm.normalize_outer_annulus(PIXELS, *ANNULUS))


CUTOUT = PIXELS[0].numpy()
SPEC = dhs.checkpoint.PreprocessSpec(annulus_r_in=32.5, annulus_r_out=45.0)

FLAGS: dict[str, tuple[str, Callable[..., object]]] = {
    "normalize_outer_annulus": (
        "nan_to_zero return_stats",
        lambda **flags: fastnorm.normalize_outer_annulus(PIXELS, *ANNULUS, **flags),
    ),
    "normalize_footprint": (
        "nan_to_zero return_stats",
        lambda **flags: fastnorm.normalize_footprint(PIXELS, fastnorm.Annulus(*ANNULUS), **flags),
    ),
    "OuterAnnulusNorm": (
        "nan_to_zero channels_last",
        lambda **flags: fastnorm.OuterAnnulusNorm(*ANNULUS, **flags),
    ),
    "FootprintNorm": (
        "nan_to_zero channels_last",
        lambda **flags: fastnorm.FootprintNorm(fastnorm.Annulus(*ANNULUS), **flags),
    ),
    "reference": (
        "nan_to_zero",
        lambda **flags: fastnorm.reference.normalize_plane(
            CUTOUT[0], fastnorm.Annulus(*ANNULUS), **flags
        ),
    ),
    "with_footprint": (
        "nan_to_zero",
        lambda **flags: with_footprint(
            {},
            torch.nn.Sequential(fastnorm.OuterAnnulusNorm(*ANNULUS)),
            fastnorm.Annulus(*ANNULUS),
            clip=10.0,
            **flags,
        ),
    ),
    "preprocess_stack": (
        "crop",
        lambda **flags: dhs.preprocess.preprocess_stack(CUTOUT, "raw_robust", **flags),
    ),
    "PreprocessSpec": ("crop", lambda **flags: dhs.checkpoint.PreprocessSpec(**flags)),
    "Preprocess": (
        "channels_last",
        lambda **flags: dhs.preprocess.layer.Preprocess(SPEC, **flags),
    ),
    "build_model": (
        "pretrained",
        lambda **flags: dhs.model.finder.build_model("bottlenecked_resnet", **flags),
    ),
    "LensFinder": (
        "pretrained channels_last",
        lambda **flags: dhs.model.finder.LensFinder(SPEC, "bottlenecked_resnet", **flags),
    ),
    "AugmentConfig": ("hflip vflip rot90", lambda **flags: dhs.transforms.AugmentConfig(**flags)),
    "score": (
        "across_annuli allow_deprecated overwrite",
        lambda **flags: dhs.score.score(["none"], ["none"], "a.parquet", **flags),
    ),
    "load": ("allow_deprecated", lambda **flags: dhs.checkpoint.load("none", **flags)),
    "import_old": (
        "crop",
        lambda **flags: dhs.checkpoint.published.import_old("none", "a.safetensors", **flags),
    ),
    "write_pack": (
        "allow_flat overwrite",
        lambda **flags: dhs.pack.write_pack("none.csv", "out", **flags),
    ),
    "evaluate": (
        "across_annuli",
        lambda **flags: dhs.evaluate.evaluate(["none"], "none", **flags),
    ),
}
CASES = [(door, name) for door, (names, _) in FLAGS.items() for name in names.split()]


@pytest.mark.parametrize("value", ["false", 0, None, [True]], ids=str)
@pytest.mark.parametrize(("door", "name"), CASES)
def test_flags_are_bools(door: str, name: str, value: object) -> None:
    if (door, name, value) == ("import_old", "crop", None):
        return
    with pytest.raises(TypeError, match=f"{name}=.*True or False"):
        FLAGS[door][1](**{name: value})


def test_bools_of_numpy_are_bools() -> None:
    yes: Any = np.True_
    done = fastnorm.normalize_outer_annulus(PIXELS, *ANNULUS, nan_to_zero=yes, return_stats=~yes)
    assert torch.equal(done, fastnorm.normalize_outer_annulus(PIXELS, *ANNULUS, nan_to_zero=True))
    layer = fastnorm.OuterAnnulusNorm(*ANNULUS, nan_to_zero=yes, channels_last=~yes)
    assert torch.equal(layer(PIXELS), fastnorm.OuterAnnulusNorm(*ANNULUS)(PIXELS))


def test_every_flag_of_fastnorm_is_tested() -> None:
    for name in fastnorm.__all__:
        try:
            parameters = inspect.signature(getattr(fastnorm, name)).parameters.values()
        except (TypeError, ValueError):
            continue
        flags = {each.name for each in parameters if isinstance(each.default, bool)}
        assert not flags or flags == set(FLAGS[name][0].split()), name
