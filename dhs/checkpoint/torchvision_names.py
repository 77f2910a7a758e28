"""Rename the tensors of torchvision's EfficientNetV2-S to the names of timm."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

_OUTER = {
    "features.0.0": "conv_stem",
    "features.0.1": "bn1",
    "features.7.0": "conv_head",
    "features.7.1": "bn2",
    "classifier.1": "classifier",
}
_PLAIN = {"0.0": "conv", "0.1": "bn1"}
_FUSED = {"0.0": "conv_exp", "0.1": "bn1", "1.0": "conv_pwl", "1.1": "bn2"}
_DEPTHWISE = {
    "0.0": "conv_pw",
    "0.1": "bn1",
    "1.0": "conv_dw",
    "1.1": "bn2",
    "2.fc1": "se.conv_reduce",
    "2.fc2": "se.conv_expand",
    "3.0": "conv_pwl",
    "3.1": "bn3",
}
_STAGES = [_PLAIN, _FUSED, _FUSED, _DEPTHWISE, _DEPTHWISE, _DEPTHWISE]
_INNER = re.compile(r"features\.([1-6])\.(\d+)\.block\.(.+)")


def is_torchvision(state: Mapping[str, Tensor]) -> bool:
    """Return whether the tensors have torchvision's names."""
    return "features.0.0.weight" in state


def to_timm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename tensors from torchvision's names to timm's.

    Names that are not part of the network stay as they are.
    """
    return {_rename(name): value for name, value in state.items()}


def _rename(name: str) -> str:
    layer, _, leaf = name.rpartition(".")
    if layer in _OUTER:
        return f"{_OUTER[layer]}.{leaf}"
    inner = _INNER.fullmatch(layer)
    if inner is None:
        return name
    stage, block, part = int(inner[1]) - 1, inner[2], inner[3]
    if part not in _STAGES[stage]:
        return name
    return f"blocks.{stage}.{block}.{_STAGES[stage][part]}.{leaf}"
