"""The architecture of an old checkpoint, from its configuration or the names of its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from dhs.checkpoint.file import CheckpointError
from dhs.checkpoint.old_file import prefix_hint
from dhs.checkpoint.torchvision_names import is_torchvision
from dhs.model import BOTTLENECKED_RESNET

STEM = "stem.0.weight"
TIMM, TORCHVISION = "efficientnet_v2_s", "efficientnet_v2_s_torchvision"

# Tensors that a network has, and tensors of its larger relatives that it does not have.
_MARKS: tuple[tuple[str, tuple[str, ...], tuple[str, ...]], ...] = (
    (BOTTLENECKED_RESNET, (STEM, "layer1.conv1.weight", "layer4.conv3.weight"), ()),
    (BOTTLENECKED_RESNET, (STEM, "blocks.0.path.0.weight", "blocks.3.path.6.weight"), ()),
    (
        "resnet18",
        ("conv1.weight", "layer4.1.conv2.weight"),
        ("layer1.2.conv1.weight", "layer1.0.conv3.weight"),
    ),
    (
        TORCHVISION,
        ("features.0.0.weight", "features.6.14.block.3.0.weight"),
        ("features.6.15.block.0.0.weight",),
    ),
    (TIMM, ("conv_stem.weight", "blocks.5.14.conv_pw.weight"), ("blocks.6.0.conv_pw.weight",)),
)


def recognise(state: Mapping[str, Tensor]) -> str | None:
    """Return the architecture whose names the tensors have; None for those not known.

    Names of timm's EfficientNetV2-S give ``efficientnet_v2_s``; its two variants have the same.
    """
    for arch, there, absent in _MARKS:
        if all(name in state for name in there) and not any(name in state for name in absent):
            return arch
    return None


def architecture(
    path: Path,
    train: Mapping[str, Any],
    state: Mapping[str, Tensor],
    given: str | None,
    defaults: dict[str, Any],
) -> str:
    """Return the architecture that is stated or given, or else that of the names of tensors.

    Parameters
    ----------
    path : Path
        The file, for messages.
    train : mapping
        Its section ``train``.
    state : mapping
        Its tensors.
    given : str or None
        Architecture that the user gives.
    defaults : dict
        Gets the architecture under ``arch``, if the file does not state it.

    Returns
    -------
    str
        Name for `dhs.model.build_model`.

    Raises
    ------
    CheckpointError
        The file states another architecture than the given one; or it states none, none is given,
        and the names do not tell.
    """
    stated = train.get("arch")
    named = [_resolved(name, state) for name in (stated, given) if name is not None]
    if len(set(named)) > 1:
        raise CheckpointError(
            f"{path} has train.arch={stated!r}, but {given!r} is given; omit --arch, or correct "
            "'train.arch' and save the file again."
        )
    if named:
        return named[0]
    found = recognise(state)
    start = f"{path} does not state its architecture (train.arch)"
    if found == TIMM:
        raise CheckpointError(
            f"{start}, and the names of its tensors are those of two: give --arch {TIMM}, or "
            f"--arch {TORCHVISION} for the padding of torchvision."
        )
    if found is None:
        raise CheckpointError(
            f"{start}, and the names of its tensors are not those of {BOTTLENECKED_RESNET}, "
            f"resnet18 or {TIMM}; give --arch, a name that dhs or timm has, such as --arch "
            f"resnet18.{prefix_hint(list(state))}"
        )
    defaults["arch"] = found
    return found


def misfit_hint(arch: str, state: Mapping[str, Tensor], *, is_stated: bool) -> str:
    """Return a sentence on the architecture that the names of tensors tell, if it is another.

    Parameters
    ----------
    arch : str
        Architecture that the weights do not fit.
    state : mapping
        The tensors.
    is_stated : bool
        Whether the file states the architecture.

    Returns
    -------
    str
    """
    found = recognise(state)
    # An import renames torchvision's tensors to timm's.
    if found is None or found == arch or (found, arch) == (TIMM, TORCHVISION):
        return ""
    what = "correct 'train.arch' and save the file again" if is_stated else "omit --arch"
    return f" Its tensors have the names of {found}; {what}."


def _resolved(arch: str, state: Mapping[str, Tensor]) -> str:
    return TORCHVISION if arch == TIMM and is_torchvision(state) else arch
