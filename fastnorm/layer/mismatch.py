"""State dicts without the footprint of a layer, or with another one: errors and a warning."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterable

from torch import nn

HOW_TO_STATE = (
    "If you know it, fastnorm.layer.with_footprint(weights, model, fastnorm.Annulus(r_in, r_out), "
    "clip=...) adds it to them."
)


WRAPPERS = ("module", "_orig_mod")
"""Names that `torch.nn.DataParallel` and `torch.compile` put before the names of weights."""


class FootprintMismatchError(ValueError, RuntimeError):
    """Weights were trained with another footprint or other settings than the layer has.

    It is also a RuntimeError, which is what `torch.nn.Module.load_state_dict` raises.
    """


class MissingFootprintWarning(UserWarning):
    """Weights were loaded that do not say which footprint they were trained with."""


def unwrapped(key: str) -> str:
    """Return the name of a weight without the names of wrappers."""
    parts = [part for part in key.split(".") if part != WRAPPERS[1]]
    while parts and parts[0] == WRAPPERS[0]:
        del parts[0]
    return ".".join(parts)


def tell_missing(key: str, strict: bool, errors: list[str]) -> None:
    """Report that a state dict has no footprint.

    Parameters
    ----------
    key : str
        Its key.
    strict : bool
        Whether that is an error, if `torch.nn.Module.load_state_dict` did not make the call.
    errors : list of str
        Receives the error.

    Warns
    -----
    MissingFootprintWarning
        Keys may be missing.
    """
    # torch passes strict=True and the keys of its own to every module.
    level, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_code is not nn.Module.load_state_dict.__code__:
        level, frame = level + 1, frame.f_back
    given: Iterable[str] = ()
    if frame is not None:
        strict, given = bool(frame.f_locals["strict"]), frame.f_locals["state_dict"]
    said = _said(key, given)
    if strict:
        errors.append(said)
    else:
        warnings.warn(said, MissingFootprintWarning, level + 1 if frame is not None else 2)


def _said(key: str, given: Iterable[str]) -> str:
    other = next((name for name in given if unwrapped(name) == unwrapped(key)), None)
    if other is not None:
        return (
            f"the state dict has no {key!r}, but {other!r}: remove the prefixes that DataParallel "
            "or torch.compile put before its keys, or load it into a model wrapped in the same way."
        )
    return (
        f"the state dict has no {key!r}, and does not say which annulus its weights were trained "
        f"with; models with different annuli must never be mixed. {HOW_TO_STATE}"
    )
