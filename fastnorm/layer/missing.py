"""State dicts without the footprint of a layer: an error, or a warning if ``strict=False``."""

from __future__ import annotations

import inspect
import warnings

from torch import nn

HOW_TO_STATE = (
    "If you know it, fastnorm.layer.with_footprint(weights, model, fastnorm.Annulus(r_in, r_out), "
    "clip=...) adds it to them."
)


class MissingFootprintWarning(UserWarning):
    """Weights were loaded that do not say which footprint they were trained with."""


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
    said = (
        f"the state dict has no {key!r}, and does not say which annulus its weights were trained "
        f"with; models with different annuli must never be mixed. {HOW_TO_STATE}"
    )
    # torch passes strict=True to every module, whatever load_state_dict was called with.
    level, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_code is not nn.Module.load_state_dict.__code__:
        level, frame = level + 1, frame.f_back
    if frame is not None:
        strict = bool(frame.f_locals["strict"])
    if strict:
        errors.append(said)
    else:
        warnings.warn(said, MissingFootprintWarning, level + 1 if frame is not None else 2)
