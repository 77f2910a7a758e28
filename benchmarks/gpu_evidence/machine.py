"""Describe the machine: device, driver and versions."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
from typing import Any

Row = dict[str, Any]
OTHERS = ("torchvision", "timm", "pydantic", "rich", "safetensors")


def describe_machine() -> Iterator[Row]:
    """Yield one row per property."""
    from fastnorm.check.machine import describe

    for name, value in describe().items():
        yield {"name": name, "value": value}
    for name in OTHERS:
        try:
            value = metadata.version(name)
        except metadata.PackageNotFoundError:
            value = "not installed"
        yield {"name": name, "value": value}
