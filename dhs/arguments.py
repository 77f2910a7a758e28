"""Checks at the public doors: which field, which element, what is allowed."""

from __future__ import annotations

import math
import numbers
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

MOST_ID = 2**63 - 1


def real_array(
    name: str,
    values: ArrayLike,
    low: float = -math.inf,
    high: float = math.inf,
    *,
    low_is_allowed: bool = True,
    ndim: int | None = None,
) -> NDArray[np.float64]:
    """Values as float64, all finite and in a range.

    Parameters
    ----------
    name : str
        What a message calls them.
    values : array_like
        Real numbers.
    low, high : float
        Ends of the range; ``high`` belongs to it, and so does ``low`` unless
        ``low_is_allowed`` is false.
    ndim : int, optional
        The number of dimensions that is allowed; None allows any.

    Returns
    -------
    ndarray of float64

    Raises
    ------
    TypeError
        They are not numbers.
    ValueError
        One is out of range, NaN or infinite; the message names the first.
    """
    refuse_more_than_numbers(name, values)
    try:
        given = np.asarray(values)
    except ValueError as error:
        raise TypeError(f"{name} is no array: its rows are of different lengths.") from error
    if given.dtype.kind not in "iuf":
        raise TypeError(
            f"{name} has dtype {given.dtype}; give real numbers (a float, or an array of them)."
        )
    array: NDArray[np.float64] = given.astype(np.float64)
    if ndim is not None and array.ndim != ndim:
        raise ValueError(f"{name} has shape {array.shape}; it needs {ndim} dimension(s).")
    is_good = np.isfinite(array) & (array <= high)
    is_good &= (array >= low) if low_is_allowed else (array > low)
    if not is_good.all():
        index = tuple(int(i) for i in np.argwhere(~is_good)[0])
        raise ValueError(
            f"{name}{element(index)}={array[index]:g} is not allowed: "
            f"{range_text(low, high, low_is_allowed)}."
        )
    return array


def refuse_more_than_numbers(name: str, values: object) -> None:
    """Refuse arrays that carry a mask or a unit, which `numpy.asarray` drops.

    Raises
    ------
    TypeError
        They do.
    """
    if isinstance(values, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array; fill what is masked, or leave it out.")
    if hasattr(values, "unit"):
        raise TypeError(
            f"{name} has a unit ({values.unit}); convert it to the documented one, and give its "
            "value alone."
        )


def broadcast(name: str, values: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """One value per injection.

    Raises
    ------
    ValueError
        There is neither one nor ``count`` of them.
    """
    if values.shape not in ((), (1,), (count,)):
        raise ValueError(f"{name} has shape {values.shape}; give a number, or shape ({count},).")
    return np.broadcast_to(values, (count,))


def element(index: tuple[int, ...]) -> str:
    """Write an index as in code; nothing for a scalar."""
    return f"[{', '.join(map(str, index))}]" if index else ""


def range_text(low: float, high: float, low_is_allowed: bool = True) -> str:
    """Say a range in words that fit behind a colon."""
    if math.isinf(low) and math.isinf(high):
        return "it has to be a finite number"
    left = "[" if low_is_allowed and math.isfinite(low) else "("
    right = "]" if math.isfinite(high) else ")"
    return f"it has to be a finite number in {left}{low:g}, {high:g}{right}"


def integer(name: str, value: Any, low: int, high: int) -> int:
    """One integer in ``[low, high]``.

    Raises
    ------
    TypeError, ValueError
        It is not an integer, or out of range.
    """
    if not isinstance(value, numbers.Integral) or isinstance(value, bool):
        raise TypeError(f"{name}={value!r} is not an integer.")
    if not low <= int(value) <= high:
        raise ValueError(f"{name}={value!r} is not allowed: it has to be in [{low}, {high}].")
    return int(value)


def id_array(ids: ArrayLike | None, count: int) -> NDArray[np.int64]:
    """Identities of ``count`` injections, by default 0, 1, 2, ...

    Raises
    ------
    TypeError, ValueError
        They are not integers, not ``count`` of them, or one is negative.
    """
    if ids is None:
        return np.arange(count, dtype=np.int64)
    given = np.asarray(ids)
    if given.dtype.kind not in "iu":
        raise TypeError(f"ids has dtype {given.dtype}; give an integer per injection.")
    if given.shape != (count,):
        raise ValueError(f"ids has shape {given.shape}; it needs one per injection, ({count},).")
    is_good = (given >= 0) & (given <= MOST_ID)
    if not is_good.all():
        index = int(np.argmin(is_good))
        raise ValueError(
            f"ids[{index}]={given[index]} is not allowed: it has to be in [0, {MOST_ID}]."
        )
    return given.astype(np.int64)
