"""Old .pt checkpoints: read without unpickling, understood, and written as checkpoints of today."""

from __future__ import annotations

import hashlib
import math
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from dhs.checkpoint.file import CheckpointError, differences, save, shapes
from dhs.checkpoint.header import Checkpoint
from dhs.checkpoint.published_names import to_ours
from dhs.checkpoint.torchvision_names import is_torchvision, to_timm
from dhs.constants import CUTOUT_SIZE
from dhs.model import BOTTLENECKED_RESNET, LensFinder
from dhs.preprocess.spec import PreprocessSpec, SpecMismatchError
from fastnorm.text import one_line

PUBLISHED_SUFFIXES = (".pt", ".pth")
RADII = ("annulus_r_in", "annulus_r_out")
SPEC_KEYS = {
    "preprocessing": "mode",
    "crop": "crop",
    "crop_size": "crop_size",
    "clip_range": "clip_range",
    "annulus_r_in": "annulus_r_in",
    "annulus_r_out": "annulus_r_out",
}
"""Keys of an old ``dataset`` section, and the fields of a `PreprocessSpec` that they set."""
DEFAULTS: dict[str, Any] = {"mode": "raw_robust", "crop": False, "clip_range": 10.0}
"""What the published scoring took where a configuration said nothing."""

# Numbers of NumPy, as scikit-learn's metrics are; NumPy 1 had them in another module.
_CORES = ("core", "_core")
_SCALAR = np.float64(0).__reduce__()[0]
_NUMBERS: list[Any] = [
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8")),
    *((_SCALAR, f"numpy.{core}.multiarray.scalar") for core in _CORES),
]


@dataclass(frozen=True)
class OldCheckpoint:
    """An old checkpoint, as its own configuration explains it.

    Attributes
    ----------
    path : Path
    spec : PreprocessSpec
    arch : str
        As of `dhs.model.build_model`.
    kwargs : dict
        Of the architecture.
    in_ch : int
        Bands.
    state : dict
        The weights, under the names of the architecture.
    content : dict
        The file as it is, without the weights.
    defaults : dict
        What was assumed, since the file does not say it.
    """

    path: Path
    spec: PreprocessSpec
    arch: str
    kwargs: dict[str, Any]
    in_ch: int
    state: dict[str, Tensor]
    content: dict[str, Any]
    defaults: dict[str, Any]


def import_old(
    path: str | Path,
    out: str | Path,
    *,
    annulus: tuple[float, float] | None = None,
    crop: bool | None = None,
    data_origin: str | None = None,
    size: int = CUTOUT_SIZE,
) -> Checkpoint:
    """Write an old checkpoint anew, with its preprocessing inside.

    Parameters
    ----------
    path : path
        A ``.pt`` file: a dict of ``model`` (the weights), ``train`` and ``dataset`` (mappings,
        as of the training's configuration), and perhaps ``preprocess_spec``.
    out : path
        Ends in ``.safetensors``.
    annulus, crop
        As of `read_old`.
    data_origin : str, optional
        Where the training's cutouts are from, if the file does not say.
    size : int
        Side in pixels of the cutouts that the model was trained on, before any crop.

    Returns
    -------
    Checkpoint
        ``imported_from`` holds the old file's name and hash, what was assumed, and the entries
        that were left out.

    Raises
    ------
    CheckpointError, SpecMismatchError, ValueError
        As of `read_old`; the weights do not fit the architecture; or ``data_origin`` is missing,
        or contradicts the file.
    OSError
        A file cannot be read or written.
    """
    old = read_old(path, annulus=annulus, crop=crop)
    origin = _origin(old, data_origin)
    model = LensFinder(old.spec, old.arch, old.in_ch, size=size, **old.kwargs)
    expected = shapes(model.backbone.state_dict())
    wrong = differences(shapes(old.state), expected)
    if wrong:
        raise CheckpointError(
            f"{path}: its weights are not those of {old.arch} with {old.kwargs} and {old.in_ch} "
            f"bands: {len(wrong)} differences ({'; '.join(wrong[:5])}). Assumed, since the file "
            f"does not say it: {old.defaults or 'nothing'}."
        )
    model.backbone.load_state_dict(old.state)
    figures = {name: value for name, value in old.content.items() if _is_figure(value)}
    metrics = {
        name: value.item() if isinstance(value, np.number) else value
        for name, value in figures.items()
    }
    taken = {"model", "train", "dataset", "preprocess_spec", "data_origin", *metrics}
    with Path(path).open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return save(
        out,
        model,
        config={name: old.content[name] for name in ("train", "dataset")},
        metrics=metrics,
        data={"data_origin": origin},
        imported_from={
            "file": Path(path).name,
            "sha256": digest,
            "defaults": old.defaults,
            "left_out": sorted(set(old.content) - taken),
        },
    )


def read_old(
    path: str | Path,
    *,
    annulus: tuple[float, float] | None = None,
    crop: bool | None = None,
) -> OldCheckpoint:
    """Read an old checkpoint and find out its preprocessing and architecture.

    Parameters
    ----------
    path : path
    annulus : (float, float), optional
        Radii in pixels, if the file does not have them.
    crop : bool, optional
        Whether the centre was cut out first, if the file does not say; no by default.

    Raises
    ------
    CheckpointError
        The file cannot be read without running code, lacks a part, or does not say which
        annulus its model was trained with.
    SpecMismatchError
        Two sources contradict each other.
    """
    path = Path(path)
    content = _read_plain(path)
    state = _weights(path, content.pop("model", None))
    for name in ("train", "dataset"):
        content[name] = _section(path, content, name)
    defaults: dict[str, Any] = {}
    try:
        spec = _spec(path, content, annulus, crop, defaults)
    except (CheckpointError, SpecMismatchError):
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(
            f"{path}: its preprocessing, with what is given, is wrong: {one_line(str(error))}"
        ) from error
    train = content["train"]
    arch = _take(train, "arch", "resnet18", defaults)
    kwargs = {}
    if arch == BOTTLENECKED_RESNET:
        kwargs["base_ch"] = _take(train, "base_ch", 16, defaults)
        state = to_ours(state)
    if arch == "efficientnet_v2_s" and is_torchvision(state):
        arch = "efficientnet_v2_s_torchvision"
    if arch == "efficientnet_v2_s_torchvision":
        state = to_timm(state)
    in_ch = _take(train, "in_ch", 3, defaults)
    return OldCheckpoint(path, spec, arch, kwargs, in_ch, state, content, defaults)


def _read_plain(path: Path) -> dict[str, Any]:
    """The dict in the file, of tensors and plain values and no other objects."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file; name the .pt file.")
    with path.open("rb") as stream:
        content = _unpickled(path, stream)
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}; an old checkpoint is a dict with 'model'."
        )
    return {str(name): value for name, value in content.items()}


def _unpickled(path: Path, stream: BinaryIO) -> Any:
    try:
        with torch.serialization.safe_globals(_NUMBERS), warnings.catch_warnings():
            # Of pickles that torch was not made for: they are read, or refused.
            warnings.simplefilter("ignore", UserWarning)
            return torch.load(stream, weights_only=True, map_location="cpu")
    # Damaged pickles raise whatever their bytes lead to, OSError among others.
    except Exception as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        if found is None:
            first = one_line(str(error).partition("\n")[0], 200)
            raise CheckpointError(
                f"{path} is damaged, or no .pt file ({type(error).__name__}: {first}). Take "
                "another copy of it."
            ) from error
        raise CheckpointError(
            f"{path} holds an object of {found[1]}, which only unpickling makes, and unpickling "
            "runs whatever code a file names: it is refused. Where the file was written, load it "
            "and save it again with tensors, dicts, lists, strings and numbers alone "
            "(dataclasses.asdict, float, str)."
        ) from error


def _weights(path: Path, state: object) -> dict[str, Tensor]:
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise CheckpointError(
            f"{path} has no state dict of tensors under 'model', so it is no old checkpoint; bare "
            "weights do not say how they were trained."
        )
    names = dict(state)
    for prefix in ("module.", "_orig_mod.", "module."):
        if names and all(name.startswith(prefix) for name in names):
            names = {name.removeprefix(prefix): value for name, value in names.items()}
    return names


def _section(path: Path, content: Mapping[str, Any], name: str) -> dict[str, Any]:
    section = content.get(name)
    if section is None:
        return {}
    if not isinstance(section, Mapping):
        raise CheckpointError(
            f"{path}: its {name!r} is a {type(section).__name__}; allowed is a dict, as of "
            "dataclasses.asdict."
        )
    return dict(section)


def _spec(
    path: Path,
    content: Mapping[str, Any],
    annulus: tuple[float, float] | None,
    crop: bool | None,
    defaults: dict[str, Any],
) -> PreprocessSpec:
    """Combine what the file and the caller say; whoever says less may not contradict."""
    dataset = content["dataset"]
    given: dict[str, Any] = {} if annulus is None else dict(zip(RADII, annulus, strict=True))
    sources = {
        "preprocess_spec": _section(path, content, "preprocess_spec"),
        "dataset": {
            name: dataset[key]
            for key, name in SPEC_KEYS.items()
            # No radius is an annulus, the legacy one.
            if dataset.get(key) is not None or (key in RADII and key in dataset)
        },
        "given annulus and crop": given | ({} if crop is None else {"crop": crop}),
    }
    known: dict[str, Any] = {}
    heard: list[str] = []
    for source, values in sources.items():
        if values.get("crop_size") == 0:
            # There it meant the default of 64, here it means no crop.
            values = values | {"crop_size": None}
        if not values.keys().isdisjoint(RADII):
            # A radius without its fellow must not find one in another source.
            values = dict.fromkeys(RADII) | values
        first = PreprocessSpec.from_dict(DEFAULTS | values | known)
        second = PreprocessSpec.from_dict(DEFAULTS | known | values)
        if first != second:
            raise SpecMismatchError(
                f"{path}: its {' and '.join(heard)} ({first}) and the {source} ({second}) "
                "contradict each other. Find out which is right: what a file says of its own "
                "model is never overruled."
            )
        known = values | known
        heard += [source] if values else []
    if known.keys().isdisjoint(RADII):
        raise CheckpointError(
            f"{path} has no annulus, neither under 'dataset' nor under 'preprocess_spec', and a "
            "guess would be the mistake that checkpoints are to prevent. Find out with which it "
            "was trained, and give it: --annulus 20 32 for the legacy one, say."
        )
    defaults.update({name: value for name, value in DEFAULTS.items() if name not in known})
    spec = PreprocessSpec.from_dict(DEFAULTS | known)
    if not any(known[name] for name in RADII):
        defaults["annulus"] = [spec.annulus_r_in, spec.annulus_r_out]
    return spec


def _origin(old: OldCheckpoint, given: str | None) -> str:
    own = old.content.get("data_origin", old.content["dataset"].get("data_origin"))
    if own is None and given is None:
        raise ValueError(
            f"{old.path} does not say where its training's cutouts are from; give --data-origin: "
            "'simulated', or survey and release ('DESI Legacy Surveys DR10', say)."
        )
    if own is not None and given is not None and own != given:
        raise ValueError(
            f"{old.path} has data_origin={own!r}, and {given!r} is given; leave it out."
        )
    return str(given if own is None else own)


def _take(section: Mapping[str, Any], name: str, default: Any, defaults: dict[str, Any]) -> Any:
    if section.get(name) is not None:
        return section[name]
    defaults[name] = default
    return default


def _is_figure(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return False
    return math.isfinite(value)
