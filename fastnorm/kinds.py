"""Arguments that look like others: flags that are not bool, tensors without plain memory."""

from __future__ import annotations

import sys
from typing import Any


def flag(name: str, value: object) -> bool:
    """Return a flag as a bool; text such as ``"false"`` would count as true.

    Raises
    ------
    TypeError
        The value is neither a bool nor a bool of NumPy.
    """
    if value is True or value is False:
        return value
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.bool_):
        return bool(value)
    raise TypeError(f"{name}={value!r} is not a bool; give True or False.")


def refuse_special_tensor(name: str, tensor: Any) -> None:
    """Refuse a torch tensor whose values are not one plain array of real numbers.

    Raises
    ------
    TypeError
        The tensor is nested, sparse, quantized or complex, or has a mask.
    """
    torch = sys.modules["torch"]
    if tensor.is_nested:
        raise TypeError(
            f"{name} is a nested tensor, whose images can have different shapes; give a dense "
            f"tensor: torch.stack({name}.unbind()) if the shapes are equal, else each image of "
            f"{name}.unbind()."
        )
    if tensor.layout != torch.strided:
        raise TypeError(
            f"{name} has layout {tensor.layout}; expected a dense tensor. Pass {name}.to_dense()."
        )
    if tensor.is_quantized:
        raise TypeError(f"{name} is quantized ({tensor.dtype}); pass {name}.dequantize().")
    if tensor.is_complex():
        raise TypeError(
            f"{name} has dtype {tensor.dtype}; expected real numbers, such as float32. Pass "
            f"{name}.real or {name}.abs()."
        )
    if type(tensor).__name__ == "MaskedTensor":
        raise TypeError(
            f"{name} is a MaskedTensor, whose mask would be lost; pass {name}.get_data() and "
            f"mask=~{name}.get_mask()."
        )


def refuse_tensor_without_memory(name: str, tensor: Any) -> None:
    """Refuse a torch tensor that NumPy cannot read where it lies; see `refuse_special_tensor`.

    Raises
    ------
    TypeError
        The tensor is special, or is of a class that wraps other tensors.
    ValueError
        It has no values.
    """
    refuse_special_tensor(name, tensor)
    if tensor.is_meta:
        raise ValueError(
            f"{name} is on meta, so it has a shape but no values; create it on the CPU or on CUDA."
        )
    if type(tensor).__torch_dispatch__ is not sys.modules["torch"].Tensor.__torch_dispatch__:
        raise TypeError(
            f"{name} is a {type(tensor).__qualname__}, which wraps other tensors; pass a plain "
            "torch.Tensor of its values."
        )
