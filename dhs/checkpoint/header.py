"""The description in the header of a checkpoint: its values and their form in the file."""

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
from dhs.preprocess.spec import PreprocessSpec
from fastnorm.io.maskbits import MaskBits
from fastnorm.json_text import parse_json
from fastnorm.paths import open_file

MOST_HEADER_BYTES = 2**24
"""Largest header of a checkpoint in bytes; this project's own have fewer than 100,000."""
MOST_SIDE = 4096
"""Largest side of cutouts in pixels, and largest integer option of a network."""

_KINDS: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("architecture", "config", "metrics", "data", "versions", "extra"), (dict,)),
    **dict.fromkeys(("created", "weights_sha256"), (str,)),
    **dict.fromkeys(("deprecated", "deprecated_at"), (str, type(None))),
    "tensors": (dict,),
    "imported_from": (dict, type(None)),
}
_NOT_OF_A_NETWORK = {
    *("pretrained", "weights", "dtype", "channels_last", "checkpoint_path", "cache_dir"),
    *("pretrained_cfg", "pretrained_cfg_overlay"),
}
"""Arguments of `dhs.model.LensFinder` and timm with which a header could load other files."""


@dataclass(frozen=True)
class Checkpoint:
    """The description of a checkpoint, without its weights.

    Attributes
    ----------
    path : Path
        Checkpoint file.
    spec : PreprocessSpec
        Preprocessing, which is part of the model.
    architecture : dict
        The `dhs.model.LensFinder.architecture` of the model.
    config : dict
        Configuration of the training.
    metrics : dict
        Metrics of the training.
    data : dict
        Description of the data, with at least ``data_origin``.
    versions : dict
        Versions of Python and of the packages that wrote the file.
    created : str
        UTC time of writing, ISO 8601.
    weights_sha256 : str
        Result of `dhs.checkpoint.file.weights_sha256`.
    tensors : dict
        ``dtype`` and ``shape`` of each tensor by name.
    extra : dict
        Further values that the writer recorded.
    imported_from : dict or None
        Record of the old file that the weights come from, and of the defaults assumed for it.
    deprecated : str or None
        Reason of the deprecation mark.
    deprecated_at : str or None
        UTC time of the deprecation mark, ISO 8601.
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
        """The sha256 of weights, preprocessing and architecture.

        A deprecation mark does not change it.
        """
        parts = [self.weights_sha256, self.spec.fingerprint, self.architecture]
        text = json.dumps(parts, sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def arch(self) -> str:
        """Name of the architecture."""
        return str(self.architecture["arch"])

    @property
    def data_origin(self) -> str:
        """Origin of the training data."""
        return str(self.data["data_origin"])

    @property
    def mask_bits(self) -> MaskBits:
        """Bits of MASKBITS that marked bad pixels in training; the defaults if not recorded."""
        return MaskBits.parse(self.data.get("mask_bits") or str(MaskBits()))

    @property
    def validation_auc(self) -> float | None:
        """Validation AUC from the training or the imported file, or None."""
        for name in ("val_auc", "best_auc"):
            value = self.metrics.get(name)
            if isinstance(value, int | float):
                return float(value)
            if value is not None:
                raise TypeError(f"metrics.{name}={value!r} is not a number")
        return None

    @property
    def size(self) -> int:
        """Side of the cutouts in pixels."""
        return int(self.architecture["size"])

    @property
    def status(self) -> str:
        """Status of the annulus, and whether the checkpoint is deprecated."""
        status = self.spec.annulus_status(self.size)
        return status if self.deprecated is None else f"{status}; deprecated"

    @classmethod
    def from_header(cls, path: Path, header: Mapping[str, Any]) -> Checkpoint:
        """Rebuild a description from the result of `to_header`.

        Raises
        ------
        KeyError, TypeError, ValueError
            An entry is missing or invalid.
        """
        entries = {name: header[name] for name in cls.__dataclass_fields__ if name != "path"}
        checkpoint = cls(path, **entries | {"spec": PreprocessSpec.from_dict(header["spec"])})
        if checkpoint.spec.fingerprint != header["spec_fingerprint"]:
            raise ValueError("the preprocessing does not match its fingerprint")
        for name, kinds in _KINDS.items():
            value = getattr(checkpoint, name)
            if not isinstance(value, kinds):
                raise TypeError(f"{name} is a {type(value).__name__}")
        for name, entry in checkpoint.tensors.items():
            if not isinstance(entry["shape"], list) or not isinstance(entry["dtype"], str):
                raise TypeError(f"tensor {name} is {entry!r}")
        _require_architecture(checkpoint.architecture)
        require_origin(checkpoint.data)
        # Computed here, so that showing them later cannot fail.
        _ = checkpoint.mask_bits, checkpoint.validation_auc, checkpoint.status
        return checkpoint

    def to_header(self) -> dict[str, Any]:
        """Return everything but the path, as plain values for JSON."""
        entries = {name: getattr(self, name) for name in self.__dataclass_fields__}
        del entries["path"]
        spec = {"spec": self.spec.to_dict(), "spec_fingerprint": self.spec.fingerprint}
        return entries | spec

    def to_dict(self) -> dict[str, Any]:
        """Return everything to show, as plain values for JSON."""
        own = {"path": str(self.path), "fingerprint": self.fingerprint, "status": self.status}
        return own | self.to_header()


def parse_header(text: str) -> Any:
    """Parse a header, the JSON text of `Checkpoint.to_header`.

    Raises
    ------
    ValueError
        The text is not JSON, has a key twice or a number that is not finite or too large, or is
        nested too deeply.
    """
    return plain("header", parse_json(text))


def header_bytes(path: Path) -> int:
    """Return the length of the header that a .safetensors file declares, in bytes."""
    with open_file(path) as stream:
        return int.from_bytes(stream.read(8), "little")


def _require_architecture(architecture: dict[str, Any]) -> None:
    """Refuse an architecture that needs huge memory, downloads weights or reads other files."""
    if set(architecture) != {"arch", "in_ch", "size", "kwargs"}:
        raise ValueError(f"architecture={architecture!r} is not an architecture")
    arch, kwargs = architecture["arch"], architecture["kwargs"]
    if not isinstance(arch, str) or not isinstance(kwargs, dict):
        raise TypeError(f"architecture={architecture!r} is not an architecture")
    sizes = {"in_ch": architecture["in_ch"], "size": architecture["size"]}
    for name, value in sizes.items():
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"{name}={value!r} is not an integer")
    for name, value in (sizes | kwargs).items():
        if name in _NOT_OF_A_NETWORK:
            raise ValueError(f"kwargs has {name}, which is not an option of a network")
        if isinstance(value, int) and value > MOST_SIDE:
            raise ValueError(f"{name}={value} is above {MOST_SIDE}")
    if min(sizes.values()) < 1:
        raise ValueError(f"in_ch and size of architecture={architecture!r} must be at least 1")


def require_origin(data: Mapping[str, Any]) -> None:
    """Refuse data without a stated origin.

    Raises
    ------
    ValueError
        ``data_origin`` is missing, empty or not a string.
    """
    origin = data.get("data_origin")
    if not isinstance(origin, str) or not origin.strip():
        raise ValueError(
            f"data has data_origin={origin!r}; state where the cutouts come from: 'simulated', or "
            "survey and release."
        )


def plain(name: str, value: Any) -> Any:
    """Convert a value to plain JSON types.

    Raises
    ------
    TypeError, ValueError
        The value has another type or is not finite; the message starts with its ``name``.
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
            raise ValueError(f"{name}={value} is not finite; give None for an undefined value.")
        return float(value)
    if isinstance(value, Path):
        return str(value)
    raise TypeError(
        f"{name} is a {type(value).__name__}; it must be a mapping, list, string, number, True, "
        "False or None."
    )


def now() -> str:
    """Return the UTC time, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that results depend on."""
    packages = {"torch": torch, "numpy": np, "safetensors": safetensors}
    found = {name: str(package.__version__) for name, package in packages.items()}
    found["timm"] = metadata.version("timm")  # importing it takes seconds
    return {"python": platform.python_version(), "dhs": fastnorm.__version__} | found
