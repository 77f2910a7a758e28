"""Digits that tell printed numbers apart."""

from __future__ import annotations

import pytest

from dhs.statistics.digits import digits_to_tell_apart


@pytest.mark.parametrize(
    ("values", "digits"),
    [
        ([], 3),
        ([0.5, 0.5], 3),
        ([0.501, 0.502], 3),
        ([0.5011, 0.5012, 0.9], 4),
        ([0.50004, 0.50006], 4),
        ([0.123451, 0.123452], 6),
        ([0.1234561, 0.1234562], 6),
    ],
)
def test_digits(values: list[float], digits: int) -> None:
    assert digits_to_tell_apart(values, 3, 6) == digits
