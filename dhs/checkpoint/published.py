"""Read old .pt checkpoints without unpickling objects, and convert them to the current format."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dhs.checkpoint.file import CheckpointError, differences, save, shapes
from dhs.checkpoint.header import Checkpoint
from dhs.checkpoint.old_architecture import STEM, TORCHVISION, architecture, misfit_hint
from dhs.checkpoint.old_file import Weights, find_weights, listed, prefix_hint, read_plain
from dhs.checkpoint.published_names import to_ours
from dhs.checkpoint.torchvision_names import to_timm
from dhs.constants import CUTOUT_SIZE
from dhs.model import BOTTLENECKED_RESNET, LensFinder
from dhs.preprocess.spec import PreprocessSpec, SpecMismatchError
from fastnorm.kinds import flag
from fastnorm.paths import local_path
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
GIVEN = "given annulus and crop"
DEFAULTS: dict[str, Any] = {"mode": "raw_robust", "crop": False, "clip_range": 10.0}
"""Defaults of the published scoring for keys that a configuration lacks."""


@dataclass(frozen=True)
class OldCheckpoint:
    """An old checkpoint, interpreted by its own configuration.

    Attributes
    ----------
    path : Path
        The old file.
    spec : PreprocessSpec
        Preprocessing of the model.
    arch : str
        Name of the architecture, see `dhs.model.build_model`.
    kwargs : dict
        Options of the architecture.
    in_ch : int
        Number of bands.
    state : dict
        Weights, under the names of the architecture.
    content : dict
        Content of the file without the weights.
    defaults : dict
        Assumed values that the file does not state.
    weights_key : str
        Entry of the file with the weights.
    other_weights : tuple of str
        Further entries of the file with a state dict.
    """

    path: Path
    spec: PreprocessSpec
    arch: str
    kwargs: dict[str, Any]
    in_ch: int
    state: dict[str, Tensor]
    content: dict[str, Any]
    defaults: dict[str, Any]
    weights_key: str = "model"
    other_weights: tuple[str, ...] = ()


def import_old(
    path: str | Path,
    out: str | Path,
    *,
    annulus: tuple[float, float] | None = None,
    crop: bool | None = None,
    data_origin: str | None = None,
    size: int = CUTOUT_SIZE,
    weights: str | None = None,
    arch: str | None = None,
) -> Checkpoint:
    """Convert an old checkpoint to the current format, which records its preprocessing.

    Parameters
    ----------
    path : path
        A ``.pt`` file with a dict of ``model`` (the weights; or another of
        `dhs.checkpoint.old_file.WEIGHTS_KEYS`), ``train`` and ``dataset`` (mappings from the
        configuration of the training), and optionally ``preprocess_spec``.
    out : path
        Checkpoint to write, ending in ``.safetensors``.
    annulus : (float, float), optional
        Inner and outer radius in pixels, if the file does not state them.
    crop : bool, optional
        Whether the centre was cropped first, if the file does not state it; False by default.
    data_origin : str, optional
        Origin of the training cutouts, if the file does not state it.
    size : int
        Side in pixels of the training cutouts, before any crop.
    weights : str, optional
        Entry of the file with the weights, if it has several.
    arch : str, optional
        Architecture, if neither the file nor the names of its tensors state it.

    Returns
    -------
    Checkpoint
        Description of the new checkpoint. Its ``imported_from`` records the name and hash of the
        old file, the assumed values, and the entries that were not imported.

    Raises
    ------
    CheckpointError, SpecMismatchError, ValueError
        Same as in `read_old`; also if the weights do not fit the architecture, if the file has
        several state dicts and ``weights`` is None, or if ``data_origin`` is missing or contradicts
        the file.
    OSError
        A file cannot be read or written.
    """
    if crop is not None:
        crop = flag("crop", crop)
    old = read_old(path, annulus=annulus, crop=crop, weights=weights, arch=arch)
    if old.other_weights and weights is None:
        keys = (old.weights_key, *old.other_weights)
        raise CheckpointError(
            f"{path} has several state dicts, {' and '.join(map(repr, keys))}; choose one, for "
            f"example --weights {keys[-1]}."
        )
    origin = _origin(old, data_origin)
    with torch.device("cpu"):
        model = LensFinder(old.spec, old.arch, old.in_ch, size=size, **old.kwargs)
    expected = shapes(model.backbone.state_dict())
    wrong = differences(shapes(old.state), expected)
    if wrong:
        is_stated = old.content["train"].get("arch") is not None
        raise CheckpointError(
            f"{path}: its weights do not fit {old.arch} with {old.kwargs} and {old.in_ch} bands: "
            f"{len(wrong)} differences ({'; '.join(wrong[:5])}). Assumed values that the file does "
            f"not state: {old.defaults or 'none'}.{_base_ch_hint(old)}"
            f"{prefix_hint(list(old.state))}"
            f"{misfit_hint(old.arch, old.state, is_stated=is_stated)}"
        )
    model.backbone.load_state_dict(old.state)
    metrics = {name: value for name, value in old.content.items() if _is_figure(value)}
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
            "weights": old.weights_key,
            "defaults": old.defaults,
            "left_out": sorted(set(old.content) - taken),
        },
    )


def read_old(
    path: str | Path,
    *,
    annulus: tuple[float, float] | None = None,
    crop: bool | None = None,
    weights: str | None = None,
    arch: str | None = None,
) -> OldCheckpoint:
    """Read an old checkpoint, and determine its preprocessing and architecture.

    Parameters
    ----------
    path : path
        The ``.pt`` file.
    annulus : (float, float), optional
        Inner and outer radius in pixels, if the file does not state them.
    crop : bool, optional
        Whether the centre was cropped first, if the file does not state it; False by default.
    weights : str, optional
        Entry of the file with the weights; by default the first of
        `dhs.checkpoint.old_file.WEIGHTS_KEYS` that it has.
    arch : str, optional
        Architecture, if neither the file nor the names of its tensors state it.

    Returns
    -------
    OldCheckpoint
        Weights and their interpretation.

    Raises
    ------
    CheckpointError
        The file cannot be read without running code, lacks a part, does not state the annulus
        of its model, or has another architecture than the given one.
    SpecMismatchError
        Two sources contradict each other.
    """
    path = local_path(path)
    content, found = _read(path, weights)
    state, train = found.state, content["train"]
    defaults: dict[str, Any] = {}
    spec = _checked_spec(path, content, annulus, crop, defaults)
    arch = architecture(path, train, state, arch, defaults)
    kwargs = {}
    if arch == BOTTLENECKED_RESNET:
        width = len(state[STEM]) if STEM in state and state[STEM].ndim else 16
        kwargs["base_ch"] = _take(train, "base_ch", width, defaults)
        state = to_ours(state)
    if arch == TORCHVISION:
        state = to_timm(state)
    in_ch = _take(train, "in_ch", 3, defaults)
    return OldCheckpoint(
        path, spec, arch, kwargs, in_ch, state, content, defaults, found.key, found.others
    )


def read_old_spec(path: str | Path) -> PreprocessSpec:
    """Read the preprocessing of an old checkpoint, which needs no known architecture.

    Raises
    ------
    CheckpointError, SpecMismatchError, OSError
        Same as in `read_old`.
    """
    path = local_path(path)
    return _checked_spec(path, _read(path, None)[0], None, None, {})


def _read(path: Path, weights: str | None) -> tuple[dict[str, Any], Weights]:
    """Return the content of a file without its weights, and the weights."""
    content = read_plain(path)
    found = find_weights(path, content, weights)
    del content[found.key]
    for name in ("train", "dataset"):
        content[name] = _section(path, content, name)
    return content, found


def _section(path: Path, content: Mapping[str, Any], name: str) -> dict[str, Any]:
    section = content.get(name)
    if section is None:
        return {}
    if not isinstance(section, Mapping):
        raise CheckpointError(
            f"{path}: its {name!r} is a {type(section).__name__}; it must be a dict, such as the "
            "result of dataclasses.asdict."
        )
    return dict(section)


def _checked_spec(
    path: Path,
    content: Mapping[str, Any],
    annulus: tuple[float, float] | None,
    crop: bool | None,
    defaults: dict[str, Any],
) -> PreprocessSpec:
    try:
        return _spec(path, content, annulus, crop, defaults)
    except (CheckpointError, SpecMismatchError):
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(
            f"{path}: its preprocessing with the given options is invalid: {one_line(str(error))}"
        ) from error


def _spec(
    path: Path,
    content: Mapping[str, Any],
    annulus: tuple[float, float] | None,
    crop: bool | None,
    defaults: dict[str, Any],
) -> PreprocessSpec:
    """Combine the preprocessing in the file with the given one; the two must not differ."""
    dataset = content["dataset"]
    given: dict[str, Any] = {} if annulus is None else dict(zip(RADII, annulus, strict=True))
    sources = {
        "preprocess_spec": _section(path, content, "preprocess_spec"),
        "dataset": {
            name: dataset[key]
            for key, name in SPEC_KEYS.items()
            # A radius of None is a statement too: it means the legacy annulus.
            if dataset.get(key) is not None or (key in RADII and key in dataset)
        },
        GIVEN: given | ({} if crop is None else {"crop": crop}),
    }
    unknown = sorted(
        sources["preprocess_spec"].keys() - {field.name for field in fields(PreprocessSpec)}
    )
    if unknown:
        key, them = ("key", "it") if len(unknown) == 1 else ("keys", "them")
        raise CheckpointError(
            f"{path}: its 'preprocess_spec' has the unknown {key} {listed(unknown, 'and')}; remove "
            f"{them}, unless the pixels depend on {them}, and save the file again."
        )
    known: dict[str, Any] = {}
    heard: list[str] = []
    for source, values in sources.items():
        if not values.keys().isdisjoint(RADII):
            # A single radius must not be completed by another source.
            values = dict.fromkeys(RADII) | values
        first = PreprocessSpec.from_dict(DEFAULTS | values | known)
        second = PreprocessSpec.from_dict(DEFAULTS | known | values)
        if first != second:
            wrong = f"the {' or '.join(heard)}" if source == GIVEN else "the other entry"
            raise SpecMismatchError(
                f"{path}: its {' and '.join(heard)} ({first}) and the {source} ({second}) "
                f"contradict each other. Find out which one is right, correct {wrong}, and save "
                "the file again (torch.load, torch.save); options cannot overrule a file."
            )
        known = values | known
        heard += [source] if values else []
    if known.keys().isdisjoint(RADII):
        raise CheckpointError(
            f"{path} has no annulus, neither under 'dataset' nor under 'preprocess_spec', and it "
            "is not guessed. Find out which annulus the model was trained with, and give it, for "
            "example --annulus 20 32 for the legacy one."
        )
    defaults.update({name: value for name, value in DEFAULTS.items() if name not in known})
    spec = PreprocessSpec.from_dict(DEFAULTS | known)
    if not any(known[name] for name in RADII):
        defaults["annulus"] = [spec.annulus_r_in, spec.annulus_r_out]
    return spec


def _base_ch_hint(old: OldCheckpoint) -> str:
    stem = old.state.get(STEM)
    if old.arch != BOTTLENECKED_RESNET or stem is None or len(stem) == old.kwargs["base_ch"]:
        return ""
    return (
        f" The stem in the file has {len(stem)} channels, so its base_ch is {len(stem)}; save the "
        f"file again with base_ch={len(stem)} under 'train'. (A new training without base_ch has "
        "27.)"
    )


def _origin(old: OldCheckpoint, given: str | None) -> str:
    own = old.content.get("data_origin", old.content["dataset"].get("data_origin"))
    if own is None and given is None:
        raise ValueError(
            f"{old.path} does not state where its training cutouts come from; give --data-origin: "
            "'simulated', or survey and release, such as 'DESI Legacy Surveys DR10'."
        )
    if own is not None and given is not None and own != given:
        raise ValueError(
            f"{old.path} has data_origin={own!r}, but {given!r} is given; omit --data-origin."
        )
    return str(given if own is None else own)


def _take(section: Mapping[str, Any], name: str, default: Any, defaults: dict[str, Any]) -> Any:
    if section.get(name) is not None:
        return section[name]
    defaults[name] = default
    return default


def _is_figure(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value)
