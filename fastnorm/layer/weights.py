"""Weights that were saved without the layer: a copy of them that states their footprint."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from fastnorm.layer.buffers import EXTRA_STATE
from fastnorm.layer.mismatch import unwrapped
from fastnorm.layer.module import FootprintNorm, has_footprint

Rename = Callable[[str], str]


def with_footprint(
    weights: Mapping[str, Any],
    model: nn.Module,
    footprint: Any,
    *,
    clip: float | None,
    nan_to_zero: bool = True,
    eps: float = 1e-8,
) -> dict[str, Any]:
    """Return weights that state the footprint that they were trained with, which they lack.

    Weights do not tell which annulus they were trained with: you have to know. The result loads
    into ``model`` only if its layer has the same footprint and settings. Its names are those of
    ``model``: the prefixes of `torch.nn.DataParallel` and `torch.compile` are added or removed, and
    weights of a network without the layer are given the names that they have behind it, if the
    names and shapes fit exactly one place.

    Parameters
    ----------
    weights : mapping of str to Tensor
        A state dict; it is not changed.
    model : nn.Module
        The model to load them into, with a `FootprintNorm` or `OuterAnnulusNorm` anywhere in it.
    footprint : Annulus, EllipticalAnnulus, or (H, W) bool array or tensor
        Pixels that the statistics used when the weights were trained, such as
        ``fastnorm.Annulus(20.0, 32.0)``.
    clip : float or None
        Limit of the normalised values in that training; None if there was none.
    nan_to_zero, eps
        Same as in `FootprintNorm`, in that training.

    Returns
    -------
    dict of str to Tensor
        The weights, and the state of every such layer of the model.

    Raises
    ------
    TypeError
        ``model`` is not a module, or ``footprint`` is not a footprint.
    ValueError
        ``model`` has no such layer, or one with another footprint or other settings; or ``weights``
        already states others, or is not a state dict.

    Examples
    --------
    >>> import torch, fastnorm
    >>> network = torch.nn.Conv2d(3, 1, 5)
    >>> model = torch.nn.Sequential(fastnorm.OuterAnnulusNorm(20.0, 32.0), torch.nn.Conv2d(3, 1, 5))
    >>> trained_with = fastnorm.Annulus(20.0, 32.0)
    >>> model.load_state_dict(with_footprint(network.state_dict(), model, trained_with, clip=10))
    <All keys matched successfully>
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is a {type(model).__name__}; give the torch.nn.Module to load.")
    inner = next((key for key, value in weights.items() if isinstance(value, Mapping)), None)
    if inner is not None:
        raise ValueError(
            f"weights has the key {inner!r}, whose value is a dict; give the state dict itself, "
            f"such as weights[{inner!r}]."
        )
    stated = FootprintNorm(footprint, clip=clip, nan_to_zero=nan_to_zero, eps=eps)
    layers = {
        f"{name}.{EXTRA_STATE}" if name else EXTRA_STATE: layer
        for name, layer in model.named_modules(remove_duplicate=False)
        if isinstance(layer, FootprintNorm)
    }
    if not layers:
        raise ValueError(
            f"model has no layer that normalises, but is a {type(model).__name__}; build it with "
            "fastnorm.OuterAnnulusNorm as the first layer."
        )
    rename = _rename(weights, model)
    ready: dict[str, Any] = OrderedDict((rename(key), value) for key, value in weights.items())
    for key, value in ready.items():
        is_state = key.rpartition(".")[2] == EXTRA_STATE and isinstance(value, Tensor)
        if is_state and (key in layers or has_footprint(value)):
            stated.require_same(value, f"weights, at {key!r},", "footprint")
    for key, layer in layers.items():
        where = key.rpartition(".")[0]
        layer.require_same(stated.get_extra_state(), "footprint", f"the layer {where!r} of model")
        ready.setdefault(key, stated.get_extra_state())
    versions = getattr(weights, "_metadata", None)
    if versions is not None:
        renamed = {rename(f"{name}.")[:-1] if name else name: at for name, at in versions.items()}
        ready._metadata = OrderedDict(renamed)  # type: ignore[attr-defined]
    return ready


def _rename(weights: Mapping[str, Any], model: nn.Module) -> Rename:
    """Return how the names of weights become those of a model; unchanged if nothing fits."""
    shapes = {key: _shape(value) for key, value in model.state_dict().items() if _is_weight(key)}
    behind = {unwrapped(key): key for key in shapes}
    given = [(key, _shape(value)) for key, value in weights.items() if _is_weight(key)]

    def fits(rename: Rename) -> bool:
        found = {behind.get(rename(unwrapped(key)), ""): shape for key, shape in given}
        return found == shapes and len(given) == len(shapes)

    candidates = list(_candidates(model))
    fitting = [rename for rename in candidates[:1] if fits(rename)]
    fitting = fitting or [rename for rename in candidates[1:] if fits(rename)]
    if len(behind) < len(shapes) or len(fitting) != 1:
        return lambda key: key
    places = {unwrapped(name): name for name, _ in model.named_modules(remove_duplicate=False)}

    def renamed(key: str) -> str:
        module, _, name = fitting[0](unwrapped(key)).rpartition(".")
        outer = places.get(module, module)
        return f"{outer}.{name}" if outer else name

    return renamed


def _candidates(model: nn.Module) -> Iterator[Rename]:
    """Yield how names may change: not at all, by one place in a sequence, by the name of a part."""
    yield lambda key: key
    yield _next_place
    names = {unwrapped(name) for name, _ in model.named_modules(remove_duplicate=False)}
    for name in sorted(names - {""}):
        yield lambda key, name=name: f"{name}.{key}"  # type: ignore[misc]


def _next_place(key: str) -> str:
    place, dot, rest = key.partition(".")
    return f"{int(place) + 1}{dot}{rest}" if place.isdecimal() else key


def _is_weight(key: str) -> bool:
    return key.rpartition(".")[2] != EXTRA_STATE


def _shape(value: Any) -> tuple[int, ...] | None:
    return tuple(value.shape) if isinstance(value, Tensor) else None
