"""Launches of Numba-CUDA kernels on CPU tensors, executed as the PTX that a real GPU would get."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
from numba import cuda, from_dtype
from numba.cuda import dispatcher, types
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.ptx.launch import Execution, bits_of, bytes_of
from benchmarks.ptx.memory import GlobalMemory
from fastnorm.kernels import numba_cuda_normalize


@contextmanager
def numba_launches(execution: Execution) -> Iterator[Execution]:
    """Execute every launch of a Numba-CUDA kernel inside the context on CPU tensors.

    Parameters
    ----------
    execution : Execution
        How to execute; counts what ran.
    """

    def configured(kernel: Any, settings: tuple[int, int, Any, int]) -> Callable[..., None]:
        blocks, threads, _, shared_bytes = settings

        def launch(*arguments: Any) -> None:
            signature = tuple(_type_of(argument) for argument in arguments)
            code = execution.code(
                (id(kernel), signature),
                lambda: _compile(kernel.py_func, signature, execution.capability),
            )
            flat = list(_flattened(arguments))
            arrays = [_bytes(value) for value in flat if isinstance(value, np.ndarray)]

            def bind(memory: GlobalMemory) -> list[int]:
                return [word for value in flat for word in _words(value, memory)]

            execution.run(code, arrays, bind, (blocks, 1, 1), threads, shared_bytes, False)

        return launch

    @contextmanager
    def no_stream(tensor: Tensor) -> Iterator[None]:
        yield None

    with (
        mock.patch.object(dispatcher.CUDADispatcher, "__getitem__", configured),
        mock.patch.multiple(numba_cuda_normalize, torch_stream=no_stream, flat=_elements),
    ):
        yield execution


def _compile(function: Callable[..., Any], signature: tuple[Any, ...], capability: int) -> str:
    """Compile for a GPU that is not there, as the first launch with these types would."""
    target = divmod(capability, 10)
    # Numba compiles device functions for the capability of the current device.
    device = SimpleNamespace(compute_capability=target)
    with mock.patch.object(dispatcher, "get_current_device", return_value=device):
        return str(cuda.compile_ptx(function, signature, cc=target)[0])


def _elements(tensor: Tensor) -> NDArray[Any]:
    """Return the memory of a tensor, first to last element, without a copy."""
    bits = {torch.bfloat16: torch.int16, torch.bool: torch.uint8}
    plain = torch.empty(0, dtype=bits.get(tensor.dtype, tensor.dtype)).numpy().dtype
    dtype = np.dtype(bool) if tensor.dtype is torch.bool else plain
    return bytes_of(tensor).view(dtype)


def _bytes(array: NDArray[Any]) -> NDArray[np.uint8]:
    return array.view(np.uint8)


def _type_of(value: Any) -> Any:
    if isinstance(value, tuple):
        members = tuple(_type_of(member) for member in value)
        same = len(set(members)) == 1 and not isinstance(members[0], types.Array)
        return types.UniTuple(members[0], len(members)) if same else types.Tuple(members)
    if isinstance(value, np.ndarray):
        return types.Array(from_dtype(value.dtype), 1, "C")
    return {bool: types.boolean, int: types.int64, float: types.float64}[type(value)]


def _flattened(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, tuple):
            yield from _flattened(value)
        else:
            yield value


def _words(value: Any, memory: GlobalMemory) -> list[int]:
    """Return the parameters that one argument becomes; an array becomes Numba's structure."""
    if isinstance(value, np.ndarray):
        size, unit = value.size, value.itemsize
        # Two owners, both null, then sizes, address, shape and stride.
        return [0, 0, size, unit, memory.address(_bytes(value)), size, unit]
    return [bits_of(value, "fp64" if isinstance(value, float) else "i64")]
