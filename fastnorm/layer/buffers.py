"""The footprint of a layer for loaders that look for every entry of a state dict as a buffer."""

from __future__ import annotations

import weakref
from typing import Any

from torch import Tensor, nn

EXTRA_STATE = "_extra_state"
"""Name in state dicts of what `torch.nn.Module.get_extra_state` returns."""


class Buffers(dict[str, Any]):
    """The buffers of a layer, in which its extra state can be looked up, and set after a check.

    Nothing lists it, so that it is neither cast nor moved. ``load_checkpoint_and_dispatch`` of
    accelerate sets it here, in place of `torch.nn.Module.load_state_dict`.

    Parameters
    ----------
    layer : nn.Module
        The layer, which is not kept alive.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__(layer._buffers)
        self._layer = weakref.ref(layer)

    def __contains__(self, name: object) -> bool:
        return name == EXTRA_STATE or super().__contains__(name)

    def __missing__(self, name: str) -> Any:
        layer: Any = self._layer()
        if name != EXTRA_STATE or layer is None:
            raise KeyError(name)
        return layer.get_extra_state()

    def __setitem__(self, name: str, value: Any) -> None:
        layer: Any = self._layer()
        if name != EXTRA_STATE or layer is None:
            super().__setitem__(name, value)
            return
        # A loader may keep all values on disk for a while, and set them at the end.
        layer.is_compared = not (isinstance(value, Tensor) and value.is_meta)
        if layer.is_compared:
            layer.set_extra_state(value)

    def __reduce__(self) -> tuple[Any, ...]:
        # A copy belongs to another layer, which makes its own.
        return dict, (dict(self),)
