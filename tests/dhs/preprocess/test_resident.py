"""Tests that a stack of cutouts that stays on a device is read in place, never copied whole."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dhs.preprocess.layer import Preprocess
from dhs.preprocess.spec import PreprocessSpec

ROWS = torch.tensor([40, 3, 3, 57])
MASK = torch.rand(60, 1, 101, 101, generator=torch.Generator().manual_seed(2)) < 0.1


class Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A mode that remembers the most values of any tensor that is not a view."""

    values = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and result._base is None and not func.is_view:
            self.values = max(self.values, result.numel())
        return result


SPECS = {
    "whole": PreprocessSpec(annulus_r_in=32.5, annulus_r_out=45.0),
    "crop": PreprocessSpec(crop=True),
    "residual": PreprocessSpec(crop=True, mode="residual_radial_profile"),
}


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("masked", [False, True])
def test_only_the_rows_of_a_batch_are_copied(name: str, dtype: torch.dtype, masked: bool) -> None:
    layer = Preprocess(SPECS[name], channels_last=True)
    generator = torch.Generator().manual_seed(1)
    pack = torch.rand(60, 3, 101, 101, generator=generator).to(dtype)
    mask = MASK if masked else None
    elements = torch.tensor([1, 6, 0, 3])
    with Largest() as mode:  # type: ignore[no-untyped-call]
        found = layer(pack, index=ROWS, dihedral=elements, mask=mask)
    assert mode.values <= 2 * len(ROWS) * 3 * 101 * 101
    batch = pack[ROWS].float()
    expected = layer(batch, dihedral=elements, mask=None if mask is None else mask[ROWS])
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)
