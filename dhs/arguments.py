"""Checks of arguments, whose errors name the argument, the element and the allowed range."""

from __future__ import annotations

import math
import numbers
import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastnorm.paths import require_file

DATA_VARIABLE = "DHS_DATA"
"""Environment variable with the folder that relative paths of data start from."""
MOST_ID = 2**63 - 1


def existing(path: Path) -> Path:
    """Return a path that exists.

    Raises
    ------
    FileNotFoundError
        It does not exist. The message says where it starts.
    """
    if path.exists():
        return path
    start = os.environ.get(DATA_VARIABLE)
    if not path.is_absolute():
        where = f"it starts from the working directory {Path.cwd()}"
        unset = "is not set" if start is None else f"is {start!r}"
        where += f"; {DATA_VARIABLE}, where data of a configuration start, {unset}"
    elif start and path.is_relative_to(start):
        where = f"it starts from {DATA_VARIABLE}={start}"
    else:
        where = "check the path"
    raise FileNotFoundError(f"{path} does not exist; {where}.")


def existing_checkpoint(path: Path) -> Path:
    """Return the path of a checkpoint, which is a file.

    Raises
    ------
    FileNotFoundError
        It is not a file. The message names the command that lists checkpoints.
    """
    require_file(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is not a file; `dhs checkpoint list DIR` lists the checkpoints of a folder."
        )
    return path


def real_array(
    name: str,
    values: ArrayLike,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    low_is_allowed: bool = True,
    ndim: int | None = None,
) -> NDArray[np.float64]:
    """Convert values to float64 and check that all of them are finite and in a range.

    Parameters
    ----------
    name : str
        Name of the argument, for error messages.
    values : array_like
        Real numbers.
    low, high : float
        Ends of the range. ``high`` is allowed.
    low_is_allowed : bool
        Whether ``low`` itself is allowed.
    ndim : int, optional
        Required number of dimensions. None allows any number.

    Returns
    -------
    ndarray of float64

    Raises
    ------
    TypeError
        The values are not real numbers.
    ValueError
        A value is out of range, NaN or infinite. The message names the first such value.
    """
    refuse_more_than_numbers(name, values)
    try:
        given = np.asarray(values)
    except ValueError as error:
        raise TypeError(f"{name} is not an array: its rows have different lengths.") from error
    if given.dtype.kind not in "iuf":
        raise TypeError(
            f"{name} has dtype {given.dtype}; give real numbers (a float, or an array of them)."
        )
    array: NDArray[np.float64] = given.astype(np.float64)
    if ndim is not None and array.ndim != ndim:
        raise ValueError(f"{name} has shape {array.shape}; it must have {ndim} dimension(s).")
    is_good = np.isfinite(array) & (array <= high)
    is_good &= (array >= low) if low_is_allowed else (array > low)
    if not is_good.all():
        index = tuple(int(i) for i in np.argwhere(~is_good)[0])
        raise ValueError(
            f"{name}{element(index)}={array[index]:g} is not allowed: "
            f"{range_text(low, high, low_is_allowed)}."
        )
    return array


def label_array(name: str, labels: ArrayLike) -> NDArray[np.bool_]:
    """Return labels of any shape as a flat array, True for a lens.

    Raises
    ------
    TypeError
        The labels are neither numbers nor bool.
    ValueError
        A label is neither 0 nor 1. The message names the first such label.
    """
    refuse_more_than_numbers(name, labels)
    given = np.asarray(labels).reshape(-1)
    if given.dtype.kind not in "biuf":
        raise TypeError(
            f"{name} has dtype {given.dtype}; give 1 for a lens and 0 for a non-lens, or bool."
        )
    is_good = (given == 0) | (given == 1)
    if not is_good.all():
        index = int(np.argmin(is_good))
        raise ValueError(
            f"{name}[{index}]={given[index].item():g} is not a label; give 1 for a lens and 0 for "
            "a non-lens, or bool. The order of arguments is labels, then scores."
        )
    return given.astype(np.bool_)


def refuse_more_than_numbers(name: str, values: object) -> None:
    """Reject an array with a mask or a unit, because `numpy.asarray` drops both.

    Raises
    ------
    TypeError
        The array has a mask or a unit.
    """
    if isinstance(values, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array; fill the masked elements or exclude them.")
    if hasattr(values, "unit"):
        raise TypeError(
            f"{name} has a unit ({values.unit}); convert it to the documented unit and pass its "
            "value only."
        )


def broadcast(name: str, values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Broadcast values to one per injection.

    Parameters
    ----------
    name : str
        Name of the argument, for error messages.
    values : (), (1,) or (count,) float64
    count : int
        Number of injections.

    Returns
    -------
    (count,) float64

    Raises
    ------
    ValueError
        There are neither one nor ``count`` values.
    """
    if values.shape not in ((), (1,), (count,)):
        raise ValueError(f"{name} has shape {values.shape}; give a number or shape ({count},).")
    return np.broadcast_to(values, (count,))


def element(index: tuple[int, ...]) -> str:
    """Format an index as in code, or as nothing for a scalar."""
    return f"[{', '.join(map(str, index))}]" if index else ""


def range_text(low: float, high: float, low_is_allowed: bool = True) -> str:
    """Describe a range in words that fit after a colon.

    Parameters
    ----------
    low, high : float
        Ends of the range. ``high`` is allowed.
    low_is_allowed : bool
        Whether ``low`` itself is allowed.

    Returns
    -------
    str
    """
    if math.isinf(low) and math.isinf(high):
        return "it must be a finite number"
    left = "[" if low_is_allowed and math.isfinite(low) else "("
    right = "]" if math.isfinite(high) else ")"
    return f"it must be a finite number in {left}{low:g}, {high:g}{right}"


def integer(name: str, value: Any, low: int, high: int) -> int:
    """Check that a value is an integer in ``[low, high]``, and return it as an int.

    Parameters
    ----------
    name : str
        Name of the argument, for error messages.
    value : object
        Any integer type except bool.
    low, high : int
        Ends of the range, both allowed.

    Returns
    -------
    int

    Raises
    ------
    TypeError
        The value is not an integer.
    ValueError
        The value is out of range.
    """
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise TypeError(f"{name}={value!r} is not an integer.")
    if not low <= int(value) <= high:
        raise ValueError(f"{name}={value!r} is not allowed: it must be in [{low}, {high}].")
    return int(value)


def id_array(ids: ArrayLike | None, count: int) -> NDArray[np.int64]:
    """Return the ids of ``count`` injections as int64, by default 0, 1, 2, ...

    Raises
    ------
    TypeError, ValueError
        The ids are not integers, there are not ``count`` of them, or one is out of range.
    """
    if ids is None:
        return np.arange(count, dtype=np.int64)
    given = np.asarray(ids)
    if given.dtype.kind not in "iu":
        raise TypeError(f"ids has dtype {given.dtype}; give one integer per injection.")
    if given.shape != (count,):
        raise ValueError(f"ids has shape {given.shape}; expected ({count},), one id per injection.")
    is_good = (given >= 0) & (given <= MOST_ID)
    if not is_good.all():
        index = int(np.argmin(is_good))
        raise ValueError(
            f"ids[{index}]={given[index]} is not allowed: it must be in [0, {MOST_ID}]."
        )
    return given.astype(np.int64)
