"""Tests of the arithmetic that the compiler chose for a GPU, which an interpreter cannot show."""

from __future__ import annotations

import re
from collections import Counter

import pytest

pytest.importorskip("triton")

from benchmarks.gpu_model.variants import compile_variant


def arithmetic(ptx: str) -> Counter[str]:
    return Counter(
        re.findall(r"\b(?:add|sub|mul|div|fma|rcp|sqrt|cvt)\.[a-z0-9.]*f(?:32|64)\b", ptx)
    )


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("variant", ["float32", "float64"])
def test_rounding_is_ieee_wherever_it_is_seen(variant: str, capability: int) -> None:
    ptx = compile_variant(variant, capability).ptx
    found = arithmetic(ptx)
    # Guesses may be approximate: the root in the margin, and quotients that are not pixels.
    guesses = {"sqrt.approx.ftz.f32", "div.full.f32"} if variant == "float32" else set()
    inexact = {name for name in found if re.search(r"approx|ftz|full|fma|rcp", name)}
    assert inexact <= guesses
    assert found["div.full.f32"] <= 3
    assert found["div.rn.f64"] >= 1
    if variant == "float32":
        assert found["div.rn.f32"] > found["div.full.f32"]
        assert found["cvt.f64.f32"] > 1, "the product is in float64"
    assert found["add.rn.f64"] >= 1, "MAD + eps is summed in float64"
