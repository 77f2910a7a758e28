"""What a checkpoint says of itself: the values, and their form in the file."""

from __future__ import annotations

import hashlib
import json
import math
import numbers
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import torch

import fastnorm
from dhs.spec import PreprocessSpec
from fastnorm.maskbits import MaskBits


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint says of itself; the weights stay in the file.

    Attributes
    ----------
    path : Path
    spec : PreprocessSpec
        The normalisation, which is a part of the model.
    architecture : dict
        As of `dhs.model.LensFinder.architecture`.
    config, metrics, data : dict
        Of the training; ``data`` has at least ``data_origin``.
    versions : dict
        Of Python and the packages that wrote it.
    created : str
        UTC time, ISO 8601.
    weights_sha256 : str
        As of `weights_sha256`.
    tensors : dict
        Name to ``dtype`` and ``shape``.
    extra : dict
        Whatever else the writer wanted to keep.
    imported_from : dict or None
        The old file that the weights were taken from, and what it left to defaults.
    deprecated, deprecated_at : str or None
        Why and when (UTC, ISO 8601) the checkpoint was marked.
    """

    path: Path
    spec: PreprocessSpec
    architecture: dict[str, Any]
    config: dict[str, Any]
    metrics: dict[str, Any]
    data: dict[str, Any]
    versions: dict[str, str]
    created: str
    weights_sha256: str
    tensors: dict[str, dict[str, Any]]
    extra: dict[str, Any] = field(default_factory=dict)
    imported_from: dict[str, Any] | None = None
    deprecated: str | None = None
    deprecated_at: str | None = None

    @property
    def fingerprint(self) -> str:
        """The sha256 of weights, preprocessing and architecture; a mark does not change it."""
        parts = [self.weights_sha256, self.spec.fingerprint, self.architecture]
        text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def arch(self) -> str:
        return str(self.architecture["arch"])

    @property
    def data_origin(self) -> str:
        return str(self.data["data_origin"])

    @property
    def mask_bits(self) -> MaskBits:
        """Which of MASKBITS made a pixel bad in the training; the usual ones if it does not say."""
        return MaskBits.parse(self.data.get("mask_bits") or str(MaskBits()))

    @property
    def validation_auc(self) -> float | None:
        """As the training, or the old file, gives it."""
        for name in ("val_auc", "best_auc"):
            if self.metrics.get(name) is not None:
                return float(self.metrics[name])
        return None

    @property
    def size(self) -> int:
        """Side of the cutouts in pixels."""
        return int(self.architecture["size"])

    @property
    def status(self) -> str:
        """Of the annulus, and whether the checkpoint is deprecated."""
        status = self.spec.annulus_status(self.size)
        return status if self.deprecated is None else f"{status}; deprecated"

    @classmethod
    def from_header(cls, path: Path, header: Mapping[str, Any]) -> Checkpoint:
        """Rebuild it from `to_header`.

        Raises
        ------
        KeyError, TypeError, ValueError
            An entry is missing or wrong.
        """
        entries = {name: header[name] for name in cls.__dataclass_fields__ if name != "path"}
        checkpoint = cls(path, **entries | {"spec": PreprocessSpec.from_dict(header["spec"])})
        if checkpoint.spec.fingerprint != header["spec_fingerprint"]:
            raise ValueError("the preprocessing is not that of its fingerprint")
        if set(checkpoint.architecture) != {"arch", "in_ch", "size", "kwargs"}:
            raise ValueError(f"architecture={checkpoint.architecture!r} is none")
        require_origin(checkpoint.data)
        _ = checkpoint.mask_bits
        return checkpoint

    def to_header(self) -> dict[str, Any]:
        """All but the path, for JSON."""
        entries = {name: getattr(self, name) for name in self.__dataclass_fields__}
        del entries["path"]
        spec = {"spec": self.spec.to_dict(), "spec_fingerprint": self.spec.fingerprint}
        return entries | spec

    def to_dict(self) -> dict[str, Any]:
        """All there is to show, for JSON."""
        own = {"path": str(self.path), "fingerprint": self.fingerprint, "status": self.status}
        return own | self.to_header()


def require_origin(data: Mapping[str, Any]) -> None:
    """Refuse data of which nobody says where they are from.

    Raises
    ------
    ValueError
        ``data_origin`` is missing, empty, or no text.
    """
    origin = data.get("data_origin")
    if not isinstance(origin, str) or not origin.strip():
        raise ValueError(
            f"data has data_origin={origin!r}; say where the cutouts are from: 'simulated', or "
            "survey and release."
        )


def plain(name: str, value: Any) -> Any:
    """Turn a value into what JSON holds.

    Raises
    ------
    TypeError, ValueError
        It is of another type, or not finite; ``name`` says where.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(f"{name}.{key}", entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [plain(f"{name}[{k}]", entry) for k, entry in enumerate(value)]
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        if not math.isfinite(value):
            raise ValueError(f"{name}={value} is not finite; give None where there is no figure.")
        return float(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(
        f"{name} is a {type(value).__name__}; a checkpoint holds mappings, lists, strings, "
        "numbers, True, False and None."
    )


def now() -> str:
    """UTC time, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Of Python and the packages that results depend on."""
    packages = {"torch": torch, "numpy": np, "safetensors": safetensors}
    found = {name: str(package.__version__) for name, package in packages.items()}
    found["timm"] = metadata.version("timm")  # not imported: it takes seconds
    return {"python": platform.python_version(), "dhs": fastnorm.__version__} | found
