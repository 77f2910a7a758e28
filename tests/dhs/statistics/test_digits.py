"""Digits that tell printed numbers apart."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit, logit

from dhs.statistics.digits import digits_to_tell_apart, rate_text, score_text


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


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.25, "0.25"),
        (0.125, "0.125"),
        (0.01, "0.01"),
        (0.001, "0.001"),
        (1e-4, "1e-4"),
        (2.5e-4, "2.5e-4"),
        (0.00099999999, "0.001"),
        (1e-12, "1e-12"),
        (0, "0"),
        (1, "1"),
    ],
)
def test_rates_look_as_they_are_written(value: float, text: str) -> None:
    assert rate_text(value) == text
    assert float(text) == pytest.approx(value, rel=1e-5)


def test_a_rate_may_be_rounded() -> None:
    assert [rate_text(v, 2) for v in (0.2549, 0.00123, 0.000999, 0.00012345)] == [
        *("0.25", "0.0012", "0.001", "1.2e-4"),
    ]


def test_a_printed_score_detects_no_more_than_its_logit() -> None:
    logits = np.random.default_rng(4).normal(0, 6, 3000).astype(np.float32)
    for value in logits.tolist():
        text = score_text(value)
        assert value <= float(logit(float(text))) < value + 2e-4, text
    assert score_text(-0.47) == "0.38462"
    assert score_text(0.0) == "0.5"
    assert len(score_text(-16.0)) < 12


@pytest.mark.parametrize("value", [40.0, -800.0])
def test_a_score_that_float64_cannot_tell_from_0_or_1_has_all_its_digits(value: float) -> None:
    assert float(score_text(value)) == float(expit(value))
