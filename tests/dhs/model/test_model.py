"""Networks: their architecture, and preprocessing identical to the pipeline's."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from timm.layers.conv2d_same import Conv2dSame
from torch import Tensor, nn

import fastnorm
from dhs.model import LensFinder, build_model
from dhs.model.resnet import Bottleneck, BottleneckedResNet
from dhs.preprocess import center_crop, preprocess_stack
from dhs.preprocess.layer import Preprocess
from dhs.preprocess.spec import PreprocessSpec
from dhs.transforms import AugmentConfig, random_augment
from dhs.utils import radial_profile_model
from tests.dhs.model.model_cases import CORRECTED, small
from tests.dhs.model.model_cases import one_thread as one_thread

SIZE = 101
TINY = "test_efficientnet"
SPECS = {
    "corrected": CORRECTED,
    "legacy": PreprocessSpec(),
    "legacy, crop": PreprocessSpec(crop=True),
    "odd crop, other clip": PreprocessSpec(crop=True, crop_size=75, clip_range=2.5),
    "residual": PreprocessSpec(
        "residual_radial_profile", annulus_r_in=32.5, annulus_r_out=45.0, clip_range=4
    ),
    "residual, legacy": PreprocessSpec("residual_radial_profile"),
    "residual, crop": PreprocessSpec(
        "residual_radial_profile", crop=True, crop_size=48, annulus_r_in=15.6, annulus_r_out=21.6
    ),
}
# The legacy annulus warns on whole cutouts; other tests check the warning.
pytestmark = pytest.mark.filterwarnings("ignore::fastnorm.AnnulusWarning")


def galaxies(dtype: type[np.floating[Any]] = np.float32) -> NDArray[Any]:
    """Return five cutouts: good, NaN in annulus and core, infinities, a band without data, flat."""
    rng = np.random.default_rng(5)
    radius = np.hypot(*np.mgrid[-50:51, -50:51])
    galaxy = 20 * np.exp(-radius / 6) * rng.uniform(0.5, 2, (5, 3, 1, 1))
    images = galaxy + rng.normal(0.02, 0.05, (5, 3, SIZE, SIZE))
    images[1, 0, 10:14] = np.nan
    images[1, 1, 48:53, 50] = np.nan
    images[2, 0, 50, 50], images[2, 1, 5, 50], images[2, 2, 50, 80] = np.inf, -np.inf, np.inf
    images[3, 1] = np.nan
    images[4, 2] = 1.5
    cutouts: NDArray[Any] = images.astype(dtype)
    return cutouts


def preprocessed(images: NDArray[Any], spec: PreprocessSpec) -> Tensor:
    rows = [preprocess_stack(image, **spec.preprocess_keywords()) for image in images]
    return torch.from_numpy(np.stack(rows))


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.fixture(scope="module")
def efficientnet() -> LensFinder:
    return LensFinder(CORRECTED, "efficientnet_v2_s", drop_rate=0.25)


def test_efficientnet(efficientnet: LensFinder) -> None:
    backbone: Any = efficientnet.backbone
    assert count(efficientnet) == 20_178_769
    assert isinstance(backbone.conv_stem, Conv2dSame)
    assert backbone.classifier.out_features == 1
    assert backbone.drop_rate == 0.25
    assert efficientnet.architecture == {
        "arch": "efficientnet_v2_s",
        "in_ch": 3,
        "size": SIZE,
        "kwargs": {"drop_rate": 0.25},
    }


def test_bottlenecked_resnet() -> None:
    model = build_model("bottlenecked_resnet", base_ch=27)
    assert isinstance(model, BottleneckedResNet)
    assert count(model) == 195_589
    assert count(build_model("bottlenecked_resnet", 5, base_ch=27)) == 195_589 + 2 * 27 * 25
    assert model.stem(torch.zeros(1, 3, SIZE, SIZE)).shape == (1, 27, 51, 51)
    assert model.eval().forward_features(torch.zeros(1, 3, SIZE, SIZE)).shape == (1, 216, 7, 7)
    assert model.get_classifier().in_features == 216
    shortcuts = [block.shortcut for block in model.blocks if isinstance(block, Bottleneck)]
    assert [isinstance(shortcut, nn.Identity) for shortcut in shortcuts] == [False] * 4
    assert isinstance(Bottleneck(8, 4, 8, 1).shortcut, nn.Identity)


@pytest.mark.parametrize("name", SPECS)
def test_a_lens_finder_is_the_pipeline_and_the_backbone(name: str) -> None:
    model, images = small(SPECS[name]), galaxies()
    seen = preprocessed(images, SPECS[name])
    with torch.inference_mode():
        assert torch.equal(model.preprocess(torch.from_numpy(images)), seen)
        logits = model(torch.from_numpy(images))
        expected = model.backbone(seen).squeeze(1)
    assert logits.shape == (5,)
    np.testing.assert_array_equal(logits.numpy(), expected.numpy())
    assert len(set(logits.tolist())) == 5


@pytest.mark.parametrize("name", ["corrected", "residual, crop"])
@pytest.mark.parametrize("dtype", [np.float64, np.float16, ">f4"])
def test_other_dtypes_of_cutouts_become_float32(name: str, dtype: Any) -> None:
    images = galaxies(dtype)
    native = torch.from_numpy(images.astype(images.dtype.newbyteorder("=")))
    out = small(SPECS[name]).preprocess(native)
    assert out.dtype == torch.float32
    assert torch.equal(out, preprocessed(images, SPECS[name]))


@pytest.mark.parametrize("name", SPECS)
def test_what_the_backbone_sees_may_be_of_another_dtype_and_order(name: str) -> None:
    layer = Preprocess(SPECS[name], dtype=torch.bfloat16, channels_last=True)
    out = layer(torch.from_numpy(galaxies()))
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(out, preprocessed(galaxies(), SPECS[name]).bfloat16())


@pytest.mark.parametrize("name", ["corrected", "legacy, crop", "residual, crop"])
def test_masked_pixels_leave_the_statistics(name: str) -> None:
    spec, images = SPECS[name], galaxies()
    mask = np.zeros((5, 1, SIZE, SIZE), bool)
    mask[:, :, 20:40] = True
    side = spec.side()
    planes = center_crop(images, side)
    has_residual = spec.mode == "residual_radial_profile"
    expected = fastnorm.normalize_outer_annulus(
        np.where(np.isnan(planes), np.float32(0), planes) if has_residual else planes,
        spec.annulus.r_in,
        spec.annulus.r_out,
        mask=np.broadcast_to(center_crop(mask, side), planes.shape),
        clip=None if has_residual else spec.clip_range,
        nan_to_zero=not has_residual,
    )
    if has_residual:
        with np.errstate(invalid="ignore"):
            flat = expected.reshape(-1, side, side)
            expected = np.stack([p - radial_profile_model(p) for p in flat]).reshape(expected.shape)
        limit = np.float32(spec.clip_range)
        expected = np.clip(np.where(np.isnan(expected), np.float32(0), expected), -limit, limit)
    model = small(spec)
    out = model.preprocess(torch.from_numpy(images), mask=torch.from_numpy(mask))
    np.testing.assert_array_equal(out.numpy(), expected)
    assert not torch.equal(out, preprocessed(images, spec))
    with torch.inference_mode():
        logits = model(torch.from_numpy(images), mask=torch.from_numpy(mask))
        np.testing.assert_array_equal(logits, model.backbone(out).squeeze(1))


@pytest.mark.parametrize("name", ["corrected", "legacy, crop", "residual"])
def test_rows_are_taken_and_turned_as_by_random_augment(name: str) -> None:
    spec, raw = SPECS[name], galaxies()
    seen = preprocessed(raw, spec).numpy()
    rows, elements, expected = [], [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        hflip, vflip = rng.random() < 0.5, rng.random() < 0.5
        turns = int(rng.integers(0, 4))
        # Reversing the rows equals reversing the columns, then a half turn.
        elements.append((turns + 2 * vflip) % 4 + 4 * (hflip != vflip))
        rows.append(seed % 5)
        expected.append(random_augment(seen[seed % 5], seed, AugmentConfig()))
    assert set(elements) == set(range(8))
    index, dihedral = torch.tensor(rows), torch.tensor(elements)
    mask = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    model, images = small(spec), torch.from_numpy(raw)
    out = model.preprocess(images, index=index, dihedral=dihedral, mask=mask)
    np.testing.assert_array_equal(out.numpy(), np.stack(expected))
    with torch.inference_mode():
        logits = model(images, index=index[:6], dihedral=dihedral[:6])
        np.testing.assert_array_equal(logits, model.backbone(out[:6]).squeeze(1))


@pytest.mark.parametrize(
    ("spec", "size", "reason"),
    [
        (PreprocessSpec(annulus_r_in=70, annulus_r_out=80), 101, "holds 12 pixels of an image"),
        (CORRECTED, 48, "its statistics need at least 100"),
        (PreprocessSpec(crop=True, annulus_r_in=50, annulus_r_out=60), 101, "image of 64 x 64"),
        (PreprocessSpec(crop=True), 60, "crop_size=64 does not fit cutouts of 60 x 60"),
    ],
)
def test_what_does_not_fit_is_refused_when_it_is_built(
    spec: PreprocessSpec, size: int, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        small(spec, size=size)


@pytest.mark.parametrize("shape", [(2, 3, 64, 64), (2, 3, 101, 100), (3, 101, 101)])
def test_cutouts_of_another_size_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"this model takes \(N, bands, 101, 101\)"):
        small(CORRECTED)(torch.zeros(shape))


def test_other_sizes_and_bands() -> None:
    model = small(PreprocessSpec(), size=64, in_ch=5)
    assert model.architecture["size"] == 64
    assert model(torch.randn(2, 5, 64, 64)).shape == (2,)


def exported(module: nn.Module, images: Tensor) -> Any:
    batch = {"images": {0: torch.export.Dim("n", min=2)}}
    program = torch.export.export(module, (images[:3],), dynamic_shapes=batch)
    targets = {str(node.target) for node in program.graph.nodes}
    assert "fastnorm.normalize_footprint.default" in targets
    return program.module()


def test_export_has_the_normalisation_inside() -> None:
    model, images = small(CORRECTED), torch.from_numpy(galaxies())
    with torch.inference_mode():
        assert torch.equal(exported(model, images)(images), model(images))


def test_export_of_the_residual() -> None:
    layer, images = Preprocess(SPECS["residual, crop"]), torch.from_numpy(galaxies())
    assert torch.equal(exported(layer, images)(images), layer(images))


def test_gradients_reach_every_parameter() -> None:
    model = small(CORRECTED).train()
    model(torch.from_numpy(galaxies())).square().sum().backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    assert all(g is not None and math.isfinite(g.sum()) for g in gradients)


def test_rebuild() -> None:
    model = small(CORRECTED)
    again = LensFinder.rebuild(model.spec, model.architecture, channels_last=True)
    assert again.architecture == model.architecture
    assert again.preprocess.channels_last
    assert {k: v.shape for k, v in again.state_dict().items()} == {
        k: v.shape for k, v in model.state_dict().items()
    }


@pytest.mark.parametrize(
    ("arch", "options", "reason"),
    [
        ("efficientnet_v9", {}, "arch='efficientnet_v9' is not known; use one of .*bottlenecked"),
        ("bottlenecked_resnet", {"width": 3}, "bottlenecked_resnet cannot be built with"),
        (TINY, {"width": 3}, f"{TINY} cannot be built with"),
        ("bottlenecked_resnet", {"pretrained": True}, "has no ImageNet weights"),
        (TINY, {"weights": "x.safetensors"}, "needs pretrained=True; pretrained is False"),
    ],
)
def test_what_cannot_be_built(arch: str, options: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        build_model(arch, **options)


def test_pretrained_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("We couldn't connect to 'https://huggingface.co'\n to load the files")

    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(OSError, match=r"give weights=FILE\.safetensors") as caught:
        build_model("efficientnet_v2_s", pretrained=True)
    message = str(caught.value)
    assert message.startswith("the ImageNet weights of efficientnet_v2_s (tf_efficientnetv2_s of")
    assert "couldn't connect to 'https://huggingface.co' to load" in message


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Save the weights of a tiny timm network with 1000 classes."""
    torch.manual_seed(8)
    path = tmp_path_factory.mktemp("imagenet") / "tiny.safetensors"
    save_file(timm.create_model(TINY).state_dict(), path)
    return path


def test_local_weights_are_used(imagenet: Path) -> None:
    model: Any = LensFinder(CORRECTED, TINY, pretrained=True, weights=imagenet).backbone
    torch.manual_seed(8)
    source: Any = timm.create_model(TINY)
    assert torch.equal(model.blocks[0][0].conv.weight, source.blocks[0][0].conv.weight)
    assert torch.equal(model.conv_stem.weight, source.conv_stem.weight)
    assert model.classifier.weight.shape == (1, source.num_features)
    wide: Any = build_model(TINY, 5, pretrained=True, weights=imagenet)
    assert wide.conv_stem.weight.shape[1] == 5
    assert torch.equal(wide.conv_head.weight, source.conv_head.weight)


def test_other_weights_are_refused(imagenet: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"does not have the weights of test_resnet: .* are missing"
    ):
        build_model("test_resnet", pretrained=True, weights=imagenet)
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(imagenet.read_bytes()[:-10])
    with pytest.raises(OSError, match=r"is damaged or not a \.safetensors"):
        build_model(TINY, pretrained=True, weights=damaged)
    with pytest.raises(FileNotFoundError, match="absent"):
        build_model(TINY, pretrained=True, weights=tmp_path / "absent.safetensors")
