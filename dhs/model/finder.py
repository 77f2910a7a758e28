"""Networks: raw nanomaggies in, one logit out."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from dhs.constants import CUTOUT_SIZE
from dhs.model.resnet import BottleneckedResNet
from dhs.preprocess.layer import Preprocess
from dhs.preprocess.spec import PreprocessSpec

TIMM_NAMES: dict[str, tuple[str, dict[str, Any]]] = {
    "efficientnet_v2_s": ("tf_efficientnetv2_s", {}),
    # Pads as torchvision does, and has its batch-norm epsilon: for weights that were trained there.
    "efficientnet_v2_s_torchvision": ("efficientnetv2_s", {"bn_eps": 1e-3}),
}
"""Our names of architectures, timm's, and what they are built with."""

BOTTLENECKED_RESNET = "bottlenecked_resnet"


def build_model(
    arch: str,
    in_ch: int = 3,
    *,
    pretrained: bool = False,
    weights: str | Path | None = None,
    **kwargs: Any,
) -> nn.Module:
    """Build a backbone of one logit.

    Parameters
    ----------
    arch : str
        ``bottlenecked_resnet``, ``efficientnet_v2_s`` (timm's ``tf_efficientnetv2_s``),
        ``efficientnet_v2_s_torchvision``, or any name of timm's.
    in_ch : int
        Bands.
    pretrained : bool
        Start from ImageNet weights, of ``weights`` or else as timm has them.
    weights : path, optional
        A local .safetensors file of timm's weights for this architecture.
    **kwargs
        Of the architecture: ``base_ch`` of the bottlenecked ResNet, ``drop_rate`` and others of
        timm's.

    Returns
    -------
    nn.Module
        Takes normalised (N, in_ch, H, W) images, gives logits (N, 1).

    Raises
    ------
    ValueError
        The architecture or an argument of it is not known, or the weights are of another one.
    OSError
        The weights cannot be read, or cannot be fetched.
    """
    if weights is not None and not pretrained:
        raise ValueError(f"weights={str(weights)!r} is given, but pretrained is False; set it.")
    if arch == BOTTLENECKED_RESNET:
        if pretrained:
            raise ValueError(f"pretrained=True: {arch} has no ImageNet weights; train it afresh.")
        return _build(BottleneckedResNet, arch, in_ch=in_ch, **kwargs)
    timm = _timm()
    name, fixed = TIMM_NAMES.get(arch, (arch, {}))
    if not timm.is_model(name):
        known = ", ".join([BOTTLENECKED_RESNET, *TIMM_NAMES])
        raise ValueError(
            f"arch={arch!r} is not known; allowed are {known}, and the names that "
            "timm.list_models() gives."
        )
    options: dict[str, Any] = {"num_classes": 1, "in_chans": in_ch} | fixed | kwargs
    if not pretrained:
        return _build(timm.create_model, arch, name, **options)
    if weights is not None:
        _check_weights(Path(weights), name)
        options["pretrained_cfg_overlay"] = {"file": str(weights)}
    try:
        return _build(timm.create_model, arch, name, pretrained=True, **options)
    except (OSError, RuntimeError) as error:
        raise OSError(
            f"the ImageNet weights of {arch} ({name} of timm) cannot be had: "
            f"{' '.join(str(error).split())[:300]}. Without a network, fetch them elsewhere and "
            "give weights=FILE.safetensors (train.weights in a configuration), or train afresh "
            "with pretrained=False."
        ) from error


def _timm() -> Any:
    # With all that it imports, it takes three seconds; a worker of a grid may not need it.
    return importlib.import_module("timm")


def _build(make: Any, arch: str, *args: Any, **options: Any) -> nn.Module:
    try:
        return cast(nn.Module, make(*args, **options))
    except TypeError as error:
        raise ValueError(f"{arch} cannot be built with {options}: {error}") from error


def _check_weights(path: Path, name: str) -> None:
    """Refuse a file that is not of this architecture: timm would load a part of it."""
    try:
        with safe_open(path, framework="pt") as file:
            found = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise OSError(f"{path} is damaged, or no .safetensors file: {error}") from error
    model = _timm().create_model(name)
    config = cast(dict[str, Any], model.pretrained_cfg)
    # Layers that timm adapts: to one logit, and to another number of bands.
    adapted = tuple(
        f"{layer}." for key in ("classifier", "first_conv") for layer in _names(config.get(key))
    )
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    wrong = [
        key
        for key, shape in expected.items()
        if not key.startswith(adapted) and found.get(key) != shape
    ]
    if wrong:
        raise ValueError(
            f"{path} holds no weights of {name}: {len(wrong)} of {len(expected)} tensors are "
            f"missing or of another shape ({', '.join(wrong[:3])})."
        )


def _names(entry: str | tuple[str, ...] | None) -> list[str]:
    return [] if entry is None else [entry] if isinstance(entry, str) else list(entry)


class LensFinder(nn.Module):
    """A whole lens finder: the normalisation, then the backbone.

    Equal to `dhs.preprocess.preprocess_stack` followed by the backbone.

    Parameters
    ----------
    spec : PreprocessSpec
        The normalisation, which is a part of the model.
    arch : str
        As of `build_model`.
    in_ch : int
        Bands.
    size : int
        Side of the cutouts in pixels.
    pretrained, weights
        As of `build_model`.
    dtype : torch.dtype, optional
        That the backbone sees; float32 by default.
    channels_last : bool
        Order of memory that the backbone sees.
    **kwargs
        Of the architecture.

    Attributes
    ----------
    preprocess : Preprocess
    backbone : nn.Module
    architecture : dict
        ``arch``, ``in_ch``, ``size`` and ``kwargs``: what rebuilds the model, for JSON.

    Raises
    ------
    ValueError, OSError
        As of `build_model`; or the spec does not fit cutouts of this size.
    """

    def __init__(
        self,
        spec: PreprocessSpec,
        arch: str,
        in_ch: int = 3,
        *,
        size: int = CUTOUT_SIZE,
        pretrained: bool = False,
        weights: str | Path | None = None,
        dtype: torch.dtype | None = None,
        channels_last: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        self.spec = spec
        self.architecture = {"arch": arch, "in_ch": in_ch, "size": size, "kwargs": dict(kwargs)}
        self.preprocess = Preprocess(spec, size, dtype=dtype, channels_last=channels_last)
        self.backbone = build_model(arch, in_ch, pretrained=pretrained, weights=weights, **kwargs)

    @classmethod
    def rebuild(
        cls, spec: PreprocessSpec, architecture: Mapping[str, Any], **options: Any
    ) -> LensFinder:
        """Build the model that `architecture` describes, with fresh weights."""
        known = {key: architecture[key] for key in ("arch", "in_ch", "size")}
        return cls(spec, **known, **architecture["kwargs"], **options)

    def forward(
        self,
        images: Tensor,
        *,
        index: Tensor | None = None,
        dihedral: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Logits of raw cutouts; see `dhs.preprocess.layer.Preprocess.forward` for the arguments.

        Returns
        -------
        (N,) tensor
            Larger means more likely a lens.
        """
        seen = self.preprocess(images, index=index, dihedral=dihedral, mask=mask)
        logits: Tensor = self.backbone(seen)
        return logits.squeeze(1)
