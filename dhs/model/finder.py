"""Lens finders: networks that compute one logit from raw cutouts in nanomaggies."""

from __future__ import annotations

import importlib
import numbers
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from dhs.arguments import integer
from dhs.constants import CUTOUT_SIZE
from dhs.model.networks import NETWORKS, TIMM_NAMES
from dhs.preprocess.layer import Preprocess
from dhs.preprocess.spec import PreprocessSpec
from fastnorm.kinds import flag
from fastnorm.paths import local_path, require_file
from fastnorm.text import one_line

RATES = ("drop_rate", "drop_path_rate")
MOST_CHANNELS = 4096
NOT_OPTIONS = {
    *("num_classes", "in_chans", "features_only", "out_indices", "checkpoint_path", "cache_dir"),
    *("pretrained_cfg", "pretrained_cfg_overlay"),
}
"""Options of timm that would change what a network returns, or load other files."""
# What timm and torch raise for options of a wrong kind or value.
_OF_OPTIONS = (
    ArithmeticError, AssertionError, AttributeError, LookupError, NotImplementedError, RuntimeError,
    TypeError, ValueError,
)  # fmt: skip
"""Options of networks of timm that drop features or paths in training."""


def build_model(
    arch: str,
    in_ch: int = 3,
    *,
    pretrained: bool = False,
    weights: str | Path | None = None,
    **kwargs: Any,
) -> nn.Module:
    """Build a backbone with one logit.

    Parameters
    ----------
    arch : str
        ``bottlenecked_resnet``, ``efficientnet_v2_s`` (timm's ``tf_efficientnetv2_s``),
        ``efficientnet_v2_s_torchvision``, or any name that timm knows.
    in_ch : int
        Number of bands.
    pretrained : bool
        Start from ImageNet weights: those of ``weights``, or else those that timm downloads.
    weights : path, optional
        Local .safetensors file with timm's weights for this architecture.
    **kwargs
        Options of the architecture: ``base_ch`` for the bottlenecked ResNet; ``drop_rate``,
        ``drop_path_rate`` and others for the networks of timm.

    Returns
    -------
    nn.Module
        Maps normalised (N, in_ch, H, W) images to logits (N, 1).

    Raises
    ------
    ValueError
        The architecture or one of its options is not known, or the weights belong to a different
        architecture.
    OSError
        The weights cannot be read or downloaded.
    """
    pretrained = flag("pretrained", pretrained)
    _check_options(in_ch, kwargs)
    if weights is not None and not pretrained:
        raise ValueError(f"weights={str(weights)!r} needs pretrained=True; pretrained is False.")
    network = NETWORKS.get(arch)
    if network is not None and network.own_class is not None:
        if pretrained:
            raise ValueError(f"pretrained=True: {arch} has no ImageNet weights; set it to False.")
        module, _, name = network.own_class.partition(":")
        make = getattr(importlib.import_module(module), name)
        return _build(make, arch, in_ch=in_ch, **_without_rates(arch, kwargs))
    timm = _timm()
    name, fixed = TIMM_NAMES.get(arch, (arch, {}))
    if not timm.is_model(name):
        known = ", ".join(NETWORKS)
        raise ValueError(
            f"arch={arch!r} is not known; use one of {known}, or a name from timm.list_models()."
        )
    options: dict[str, Any] = {"num_classes": 1, "in_chans": in_ch} | fixed | kwargs
    if not pretrained:
        return _build(timm.create_model, arch, name, **options)
    if weights is not None:
        _check_weights(local_path(weights), name)
        options["pretrained_cfg_overlay"] = {"file": str(weights)}
    try:
        return _build(timm.create_model, arch, name, pretrained=True, **options)
    except (OSError, RuntimeError) as error:
        raise OSError(
            f"the ImageNet weights of {arch} ({name} of timm) are not available: "
            f"{' '.join(str(error).split())[:300]}. Without a network connection, download them "
            "elsewhere and give weights=FILE.safetensors (train.weights in a configuration), or "
            "train from scratch with pretrained=False."
        ) from error


def _check_options(in_ch: int, options: Mapping[str, Any]) -> None:
    """Check the options that every network has, and refuse those that are not of a network."""
    integer("in_ch", in_ch, 1, MOST_CHANNELS)
    if "base_ch" in options:
        integer("base_ch", options["base_ch"], 1, MOST_CHANNELS)
    for name in RATES:
        rate = options.get(name)
        if rate is None:
            continue
        if not isinstance(rate, numbers.Real) or isinstance(rate, bool):
            raise TypeError(f"{name}={rate!r} is not a number.")
        if not 0 <= float(rate) < 1:
            raise ValueError(f"{name}={rate!r} is not allowed: it must be in [0, 1).")
    for name in NOT_OPTIONS & options.keys():
        raise ValueError(
            f"{name}={options[name]!r} is not an option of a network here: it has one logit, and "
            "its weights come from pretrained and weights. Leave it out."
        )


def _without_rates(arch: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a network of our own, which has no layers that drop anything."""
    for name in RATES:
        if options.get(name):
            raise ValueError(
                f"{name}={options[name]!r}: {arch} has no such layers; set it to 0 or leave it out."
            )
    return {name: value for name, value in options.items() if name not in RATES}


def _timm() -> Any:
    # Importing timm takes three seconds, and a worker of a grid may not need it.
    return importlib.import_module("timm")


def _build(make: Any, arch: str, *args: Any, **options: Any) -> nn.Module:
    try:
        return cast(nn.Module, make(*args, **options))
    except _OF_OPTIONS as error:
        if options.get("pretrained") and not isinstance(error, TypeError):
            raise
        said = one_line(f"{type(error).__name__}: {error}")
        raise ValueError(f"{arch} cannot be built with {options}: {said}") from error


def _check_weights(path: Path, name: str) -> None:
    """Refuse a file of a different architecture, which timm would load in part."""
    require_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            found = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise OSError(f"{path} is damaged or not a .safetensors file: {error}") from error
    model = _timm().create_model(name)
    config = cast(dict[str, Any], model.pretrained_cfg)
    # timm adapts these layers to one logit and to a different number of bands.
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
            f"{path} does not have the weights of {name}: {len(wrong)} of {len(expected)} tensors "
            f"are missing or have a different shape ({', '.join(wrong[:3])})."
        )


def _names(entry: str | tuple[str, ...] | None) -> list[str]:
    return [] if entry is None else [entry] if isinstance(entry, str) else list(entry)


class LensFinder(nn.Module):
    """A complete lens finder: preprocessing followed by a backbone.

    It is equal to `dhs.preprocess.preprocess_stack` followed by the backbone.

    Parameters
    ----------
    spec : PreprocessSpec
        Preprocessing, which is part of the model.
    arch : str
        Name of the architecture, see `build_model`.
    in_ch : int
        Number of bands.
    size : int
        Side of the cutouts in pixels.
    pretrained : bool
        Start from ImageNet weights, see `build_model`.
    weights : path, optional
        Local file of the ImageNet weights, see `build_model`.
    dtype : torch.dtype, optional
        Dtype of the input of the backbone; float32 by default.
    channels_last : bool
        Give the backbone its input in ``torch.channels_last``.
    **kwargs
        Options of the architecture.

    Attributes
    ----------
    preprocess : Preprocess
        Preprocessing layer.
    backbone : nn.Module
        Network that maps the preprocessed cutouts to logits.
    architecture : dict
        ``arch``, ``in_ch``, ``size`` and ``kwargs``, from which `rebuild` builds the model again;
        plain values for JSON.

    Raises
    ------
    ValueError, OSError
        Same as in `build_model`; also if the spec does not fit cutouts of this size.
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
        """Build the model that an `architecture` describes, with new random weights."""
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
        """Compute the logits of raw cutouts.

        Parameters
        ----------
        images : (N, C, size, size) tensor
            Raw cutouts in nanomaggies.
        index : (M,) int64 tensor, optional
            Rows of ``images`` to use.
        dihedral : (N or M,) integer tensor, optional
            Flip and rotation of each cutout, 0 to 7, applied after the normalisation.
        mask : bool tensor, broadcastable to ``images``, optional
            True marks a bad pixel.

        Returns
        -------
        (N or M,) tensor
            Logits; a larger value means a more likely lens.

        Raises
        ------
        ValueError
            The images do not have the size of the model.
        """
        seen = self.preprocess(images, index=index, dihedral=dihedral, mask=mask)
        logits: Tensor = self.backbone(seen)
        return logits.squeeze(1)
