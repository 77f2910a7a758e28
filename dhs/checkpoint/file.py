"""Checkpoints: the weights of a lens finder and their provenance in one .safetensors file."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from dhs.arguments import existing_checkpoint
from dhs.checkpoint.header import (
    MOST_HEADER_BYTES,
    Checkpoint,
    header_bytes,
    now,
    parse_header,
    plain,
    require_origin,
    versions,
)
from dhs.model import LensFinder
from dhs.preprocess.spec import PreprocessSpec
from fastnorm.annulus import frames_to_caller
from fastnorm.atomic import atomic_path
from fastnorm.kinds import flag
from fastnorm.paths import local_path
from fastnorm.text import one_line

CHECKPOINT_SUFFIX = ".safetensors"
FORMAT_VERSION = 1
KEY = "dhs"
"""Key of the file's metadata with everything but the weights, as JSON."""


class CheckpointError(ValueError):
    """A checkpoint is damaged, contradicts itself, or has a different format version."""


class NoCheckpointError(CheckpointError):
    """A .safetensors file is intact but is not a checkpoint."""


class DeprecatedCheckpointError(ValueError):
    """A checkpoint is marked as deprecated, and deprecated checkpoints are refused."""


class DeprecatedCheckpointWarning(UserWarning):
    """A checkpoint is marked as deprecated."""


def save(
    path: str | Path,
    model: LensFinder,
    *,
    config: Mapping[str, Any],
    metrics: Mapping[str, Any],
    data: Mapping[str, Any],
    extra: Mapping[str, Any] | None = None,
    imported_from: Mapping[str, Any] | None = None,
) -> Checkpoint:
    """Write a checkpoint atomically.

    Parameters
    ----------
    path : path
        File to write, ending in ``.safetensors``. An existing file is replaced.
    model : LensFinder
        Model on any device, in any mode.
    config : mapping
        Configuration of the training, in plain values.
    metrics : mapping
        Metrics, in plain values; an undefined metric is None.
    data : mapping
        Description of the data, in plain values. ``data_origin`` is required; others such as
        ``fingerprint`` and ``n_train`` are optional.
    extra : mapping, optional
        Further plain values to record.
    imported_from : mapping, optional
        Record of the old file that the weights come from, in plain values.

    Returns
    -------
    Checkpoint
        Description of the written checkpoint.

    Raises
    ------
    TypeError, ValueError
        An argument has the wrong type, or a value that JSON cannot represent, such as NaN.
    OSError
        The file cannot be written.
    """
    path = local_path(path)
    if path.suffix != CHECKPOINT_SUFFIX:
        raise ValueError(f"path={str(path)!r} must end in {CHECKPOINT_SUFFIX}.")
    if not isinstance(model, LensFinder):
        raise TypeError(
            f"model is a {type(model).__name__}; give the LensFinder itself, not a wrapper of it."
        )
    require_origin(data)
    tensors = {
        # torch.compile adds a prefix to the names of the weights.
        name.replace("_orig_mod.", ""): value.cpu().clone(memory_format=torch.contiguous_format)
        for name, value in model.state_dict().items()
    }
    checkpoint = Checkpoint(
        path=path,
        spec=model.spec,
        architecture=plain("architecture", model.architecture),
        config=plain("config", config),
        metrics=plain("metrics", metrics),
        data=plain("data", data),
        versions=versions(),
        created=now(),
        weights_sha256=weights_sha256(tensors),
        tensors={
            name: {"dtype": _dtype(value), "shape": list(value.shape)}
            for name, value in tensors.items()
        },
        extra=plain("extra", extra or {}),
        imported_from=plain("imported_from", imported_from),
    )
    _write(path, checkpoint, tensors)
    return checkpoint


def read(path: str | Path) -> Checkpoint:
    """Read the description of a checkpoint, without its weights.

    Raises
    ------
    FileNotFoundError
        The file does not exist.
    NoCheckpointError
        The file is intact but is not a checkpoint.
    CheckpointError
        The file is damaged, contradicts itself, or has a different format version.
    """
    path = local_path(path)
    header, found = _open(path)
    version = header.get("format_version")
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{path} is a checkpoint of format {version!r:.40}, but this version of dhs reads "
            f"format {FORMAT_VERSION}. Install the version that wrote it, or a newer one."
        )
    try:
        checkpoint = Checkpoint.from_header(path, header)
        expected = {name: tuple(entry["shape"]) for name, entry in checkpoint.tensors.items()}
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path} has an incomplete or invalid header: {type(error).__name__}: "
            f"{one_line(str(error)).rstrip('.')}. {_COPY}"
        ) from error
    wrong = differences(found, expected)
    if wrong:
        raise CheckpointError(
            f"{path}: its tensors do not match its header: {one_line('; '.join(wrong[:5]))}. "
            f"{_COPY}"
        )
    return checkpoint


def load(
    path: str | Path,
    *,
    allow_deprecated: bool = True,
    expect_spec: PreprocessSpec | None = None,
    expect_arch: str | None = None,
    **model_options: Any,
) -> tuple[LensFinder, Checkpoint]:
    """Rebuild a model from its checkpoint.

    Parameters
    ----------
    path : path
        Checkpoint file.
    allow_deprecated : bool
        Warn about a deprecated checkpoint instead of refusing it.
    expect_spec : PreprocessSpec, optional
        Refuse a checkpoint with different preprocessing.
    expect_arch : str, optional
        Refuse a checkpoint with a different architecture.
    **model_options
        Options of `LensFinder`: ``dtype`` and ``channels_last``.

    Returns
    -------
    model : LensFinder
        Model on the CPU, in evaluation mode.
    checkpoint : Checkpoint
        Description of the checkpoint.

    Raises
    ------
    FileNotFoundError, CheckpointError
        Same as in `read`; also if the weights do not match the header.
    SpecMismatchError
        The preprocessing is not the expected one.
    DeprecatedCheckpointError
        The checkpoint is deprecated, and ``allow_deprecated`` is False.
    ValueError
        The architecture is not the expected one.

    Warns
    -----
    DeprecatedCheckpointWarning
        The checkpoint is deprecated.
    """
    allow_deprecated = flag("allow_deprecated", allow_deprecated)
    checkpoint = read(path)
    if expect_spec is not None:
        checkpoint.spec.require_same(expect_spec, str(path), "the expected specification")
    if expect_arch is not None and checkpoint.arch != expect_arch:
        raise ValueError(
            f"{path} has the architecture {checkpoint.arch!r}, expected {expect_arch!r}; give "
            "another checkpoint or architecture."
        )
    _warn_or_refuse_deprecated(checkpoint, allow_deprecated)
    # Copied, because safetensors maps the file and another process may write to it.
    tensors = {name: value.clone() for name, value in load_file(checkpoint.path).items()}
    if weights_sha256(tensors) != checkpoint.weights_sha256:
        raise CheckpointError(f"{path}: its weights do not match their checksum. {_COPY}")
    with torch.device("cpu"):
        model = LensFinder.rebuild(checkpoint.spec, checkpoint.architecture, **model_options)
    wrong = differences(shapes(tensors), shapes(model.state_dict()))
    if wrong:
        raise CheckpointError(
            f"{path} does not fit {checkpoint.arch} as this version builds it: "
            f"{'; '.join(wrong[:5])}. It was written with {checkpoint.versions}; use those."
        )
    try:
        model.load_state_dict(tensors, assign=True)
    except ValueError as error:
        raise CheckpointError(f"{path} contradicts itself: {error}") from error
    return model.eval(), checkpoint


def deprecate(path: str | Path, reason: str) -> Checkpoint:
    """Mark a checkpoint as deprecated, so that every later use of it warns or fails.

    The weights and the fingerprint do not change.

    Raises
    ------
    FileNotFoundError, CheckpointError
        Same as in `read`.
    ValueError
        The reason is empty, or the checkpoint is already marked for a different reason.
    OSError
        The file cannot be written.
    """
    reason = " ".join(reason.split())
    if not reason:
        raise ValueError("reason is empty; say why the checkpoint must no longer be used.")
    checkpoint = read(path)
    if checkpoint.deprecated == reason:
        return checkpoint
    if checkpoint.deprecated is not None:
        raise ValueError(f"{path} is already deprecated: {checkpoint.deprecated}.")
    marked = replace(checkpoint, deprecated=reason, deprecated_at=now())
    # Replace the target of a link, not the link.
    target = Path(path).resolve()
    _write(target, marked, load_file(target))
    return marked


def weights_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Return the sha256 of names, dtypes, shapes and bytes of tensors, sorted by name."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(json.dumps([name, _dtype(value), list(value.shape)]).encode())
        digest.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor by name."""
    return {name: tuple(value.shape) for name, value in tensors.items()}


def differences(
    found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]
) -> list[str]:
    """Return the differences between the shapes of two sets of tensors, as phrases."""
    missing = [f"{name} is missing" for name in expected if name not in found]
    unknown = [f"{name} does not belong" for name in found if name not in expected]
    other = [
        f"{name} has shape {found[name]}, not {shape}"
        for name, shape in expected.items()
        # A layer reads the states that earlier versions of it wrote, which had other shapes.
        if name in found and found[name] != shape and not name.endswith(EXTRA_STATE)
    ]
    return missing + unknown + other


EXTRA_STATE = "_extra_state"
_COPY = "Use another copy of it, or train again."


def _open(path: Path) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """Return our header and the shapes of the tensors.

    safetensors checks that the file is long enough for them.
    """
    existing_checkpoint(path)
    try:
        if (length := header_bytes(path)) > MOST_HEADER_BYTES:
            raise SafetensorError(f"a header of {length:,} bytes, above {MOST_HEADER_BYTES:,}")
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} is truncated, damaged or not a {CHECKPOINT_SUFFIX} file "
            f"({one_line(str(error))}). Use another copy of it; for an old .pt file, use "
            "`dhs checkpoint import`."
        ) from error
    try:
        header = parse_header(metadata.get(KEY, "{}"))
    except ValueError as error:
        reason = one_line(str(error))
        raise CheckpointError(f"{path}: its header is not JSON ({reason}). {_COPY}") from error
    if not isinstance(header, dict):
        raise CheckpointError(f"{path}: its header is not a JSON object. {_COPY}")
    if not {"format_version", "spec_fingerprint"} & header.keys():
        raise NoCheckpointError(
            f"{path} is not a checkpoint: it has tensors, but does not state the preprocessing "
            "of their training; give a checkpoint that dhs wrote."
        )
    return header, found


def _write(path: Path, checkpoint: Checkpoint, tensors: dict[str, Tensor]) -> None:
    header = {"format_version": FORMAT_VERSION} | checkpoint.to_header()
    metadata = {KEY: json.dumps(header, allow_nan=False)}
    try:
        with atomic_path(path) as temporary:
            temporary.touch()
            mode = temporary.stat().st_mode
            save_file(tensors, temporary, metadata=metadata)
            # safetensors makes its files private.
            temporary.chmod(mode)
    except SafetensorError as error:
        raise OSError(f"{path} cannot be written: {error}") from error


def _warn_or_refuse_deprecated(checkpoint: Checkpoint, allow_deprecated: bool) -> None:
    if checkpoint.deprecated is None:
        return
    message = f"{checkpoint.path} is deprecated: {checkpoint.deprecated}"
    if not allow_deprecated:
        raise DeprecatedCheckpointError(
            f"{message}. Use a newer checkpoint, or --allow-deprecated (allow_deprecated=True) "
            "to reproduce an old result."
        )
    warnings.warn(message, DeprecatedCheckpointWarning, stacklevel=frames_to_caller())


def _dtype(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")
