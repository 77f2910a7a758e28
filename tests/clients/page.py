"""The page on training frameworks, whose blocks the tests run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from tests import ROOT

PAGE = ROOT / "docs" / "howto" / "frameworks.md"
BOTH_ANNULI = r"annulus \(32\.5, 45\.0\).*annulus \(20\.0, 32\.0\)"
"""Pattern of the error if weights of the page's network are loaded under the legacy annulus."""

Names = dict[str, Any]


def blocks(section: str) -> list[str]:
    """Return the Python blocks under a heading, or those above the first one for ``""``."""
    text: dict[str, str] = {}
    for part in re.split(r"^## ", "## \n" + PAGE.read_text("utf-8"), flags=re.MULTILINE)[1:]:
        heading, _, rest = part.partition("\n")
        text[heading.strip()] = rest
    return re.findall(r"^```python\n(.*?)^```$", text[section], re.DOTALL | re.MULTILINE)


def execute(block: str, names: Names) -> None:
    exec(compile(block, PAGE.name, "exec"), names)


def common() -> Names:
    """Return the names that the page's first block defines."""
    names: Names = {"__name__": "__main__"}
    (block,) = blocks("")
    execute(block, names)
    return names


def prenormalised() -> Names:
    """Return the same names, but the cutouts are normalised by NumPy and the network is bare."""
    names = common()
    build = names["finder"]

    def bare() -> nn.Module:
        network: nn.Module = build()
        network[0] = nn.Identity()  # type: ignore[operator]
        return network

    names["finder"] = bare
    names["images"] = torch.from_numpy(by_numpy(names["images"].numpy()))
    names["loader"] = DataLoader(TensorDataset(names["images"], names["labels"]), batch_size=8)
    return names


def by_numpy(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Normalise by the annulus (32.5, 45) and clip to 10, with NumPy alone."""
    height, width = images.shape[-2:]
    row, column = np.indices((height, width))
    radius = np.sqrt((row - height // 2) ** 2.0 + (column - width // 2) ** 2.0)
    ring = images[..., (radius >= 32.5) & (radius < 45.0)]
    median = np.median(ring, axis=-1, keepdims=True)
    mad = np.median(np.abs(ring - median), axis=-1, keepdims=True)
    scale = (mad.astype(np.float64) + 1e-8).astype(np.float32)
    normalised: NDArray[np.float32] = (images - median[..., None]) / scale[..., None]
    return normalised.clip(-10, 10)


def weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.named_parameters()}


def train_plainly(names: Names) -> nn.Module:
    """Train for two epochs as the page does, with torch alone."""
    network: nn.Module = names["finder"]()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    for _ in range(2):
        for raw, target in names["loader"]:
            optimizer.zero_grad()
            names["loss_of"](network(raw), target).backward()
            optimizer.step()
    return network


@contextmanager
def legacy(names: Names) -> Iterator[None]:
    """Let ``finder()`` build the network with the legacy annulus."""
    build = names["finder"]
    names["finder"] = lambda: build(20.0, 32.0)
    try:
        yield
    finally:
        names["finder"] = build
