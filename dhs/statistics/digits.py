"""Number of digits with which numbers in a printed table can be told apart."""

from __future__ import annotations

from collections.abc import Iterable


def digits_to_tell_apart(values: Iterable[float], least: int, most: int) -> int:
    """Return how many digits after the point make different values look different.

    Parameters
    ----------
    values : iterable of float
        Values that are printed in one column.
    least, most : int
        Limits of the result. Values that are closer than ``most`` digits show look equal.
    """
    different = set(values)
    for digits in range(least, most):
        if len({f"{value:.{digits}f}" for value in different}) == len(different):
            return digits
    return most
