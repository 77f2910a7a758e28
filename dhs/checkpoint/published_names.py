"""Rename the tensors of the published bottlenecked ResNet to the names used here."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

_LAYERS = {"conv1": 0, "bn1": 1, "conv2": 3, "bn2": 4, "conv3": 6, "bn3": 7}
_BLOCK = re.compile(r"layer([1-4])\.(conv[123]|bn[123]|shortcut)\.(.+)")


def to_ours(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename tensors to the names of `dhs.model.resnet.BottleneckedResNet`.

    Unknown names stay as they are.
    """
    return {_rename(name): value for name, value in state.items()}


def _rename(name: str) -> str:
    found = _BLOCK.fullmatch(name)
    if found is None:
        return f"classifier.{name[3:]}" if name.startswith("fc.") else name
    block, layer, rest = int(found[1]) - 1, found[2], found[3]
    inner = "shortcut" if layer == "shortcut" else f"path.{_LAYERS[layer]}"
    return f"blocks.{block}.{inner}.{rest}"
