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
from dhs.preprocess.spec import PreprocessSpec
from fastnorm.io.maskbits import MaskBits

MOST_HEADER_BYTES = 2**24
"""Of a checkpoint; those of this project have less than 100,000."""
MOST_SIDE = 4096
"""Of cutouts, and of everything that a network counts."""

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
"""Arguments of `dhs.model.LensFinder` and of timm by which a header could name other files."""


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
            value = self.metrics.get(name)
            if isinstance(value, int | float):
                return float(value)
            if value is not None:
                raise TypeError(f"metrics.{name}={value!r} is no number")
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
        for name, kinds in _KINDS.items():
            value = getattr(checkpoint, name)
            if not isinstance(value, kinds):
                raise TypeError(f"{name} is a {type(value).__name__}")
        for name, entry in checkpoint.tensors.items():
            if not isinstance(entry["shape"], list) or not isinstance(entry["dtype"], str):
                raise TypeError(f"tensor {name} is {entry!r}")
        _require_architecture(checkpoint.architecture)
        require_origin(checkpoint.data)
        # What is shown of it later must not fail then.
        _ = checkpoint.mask_bits, checkpoint.validation_auc, checkpoint.status
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


def parse_header(text: str) -> Any:
    """Read JSON as `Checkpoint.to_header` gives it.

    Raises
    ------
    ValueError
        It is none, has a key twice, a number that is not finite, or is nested too deeply.
    """
    try:
        return plain("header", json.loads(text, object_pairs_hook=_once))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def header_bytes(path: Path) -> int:
    """How long a .safetensors file says that its header is; see `MOST_HEADER_BYTES`."""
    with path.open("rb") as stream:
        return int.from_bytes(stream.read(8), "little")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("a key is there twice")
    return result


def _require_architecture(architecture: dict[str, Any]) -> None:
    """Refuse what would take memory without end, fetch weights, or read another file."""
    if set(architecture) != {"arch", "in_ch", "size", "kwargs"}:
        raise ValueError(f"architecture={architecture!r} is none")
    arch, kwargs = architecture["arch"], architecture["kwargs"]
    if not isinstance(arch, str) or not isinstance(kwargs, dict):
        raise TypeError(f"architecture={architecture!r} is none")
    sizes = {"in_ch": architecture["in_ch"], "size": architecture["size"]}
    for name, value in sizes.items():
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"{name}={value!r} is no integer")
    for name, value in (sizes | kwargs).items():
        if name in _NOT_OF_A_NETWORK:
            raise ValueError(f"kwargs has {name}, which is not of the network")
        if isinstance(value, int) and value > MOST_SIDE:
            raise ValueError(f"{name}={value} is above {MOST_SIDE}")
    if min(sizes.values()) < 1:
        raise ValueError(f"in_ch and size of architecture={architecture!r} are not at least 1")


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
