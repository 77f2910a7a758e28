"""Preprocessing specifications: equality, fingerprints and refused values."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from dhs.checkpoint import PreprocessSpec as ReExported
from dhs.preprocess.spec import PreprocessSpec, SpecMismatchError, resolve_annulus
from fastnorm import LEGACY_ANNULUS, Annulus

CORRECTED = PreprocessSpec(annulus_r_in=32.5, annulus_r_out=45.0)


def test_the_fingerprint_of_the_corrected_preprocessing_never_drifts() -> None:
    assert CORRECTED.fingerprint == (
        "539187bcb05efb5724ba4fa5aa82f7b4aba0f5a54d0b48a23b8fdf45a2b43200"
    )


def test_it_is_the_checkpoints_spec_too() -> None:
    assert ReExported is PreprocessSpec


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({}, {"annulus_r_in": 20, "annulus_r_out": 32}),
        ({}, {"annulus_r_in": 0.0, "annulus_r_out": 0.0}),
        ({}, {"annulus_r_in": None, "annulus_r_out": 0}),
        (
            {"annulus_r_in": 32.5, "annulus_r_out": 45},
            {"annulus_r_in": 32.5, "annulus_r_out": 45.0},
        ),
        ({"crop": False, "crop_size": 48}, {"crop": False}),
        ({"crop": True, "crop_size": 0}, {"crop": True, "crop_size": 64}),
        ({"crop": True, "crop_size": -1}, {"crop": False}),
        ({"crop": False, "crop_size": -1}, {"crop": False}),
        ({"crop": True}, {"crop": True, "crop_size": 64}),
        ({"clip_range": 10}, {"clip_range": 10.0}),
        ({"bands": ["g", "r", "z"]}, {}),
    ],
)
def test_what_means_the_same_is_the_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    first, second = PreprocessSpec(**one), PreprocessSpec(**other)
    assert first == second
    assert hash(first) == hash(second)
    assert first.fingerprint == second.fingerprint
    assert first.to_dict() == second.to_dict()
    first.require_same(second, "this", "that")


DIFFERENT: dict[str, Any] = {
    "mode": "residual_radial_profile",
    "crop": True,
    "crop_size": 48,
    "clip_range": 5.0,
    "annulus_r_in": 32.0,
    "annulus_r_out": 44.0,
    "pixel_scale": 0.168,
}


@pytest.mark.parametrize("name", CORRECTED.to_dict())
def test_every_field_is_in_the_fingerprint(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    own = CORRECTED.to_dict() | ({"crop": True, "crop_size": 64} if name == "crop_size" else {})
    changed = own | {name: DIFFERENT.get(name, "another")}
    if name not in DIFFERENT:
        # This version has one value only; a later one may have more.
        monkeypatch.setattr("dhs.preprocess.spec._ONLY", {})
        if name == "eps":
            changed[name] = 1e-6
    spec, other = PreprocessSpec.from_dict(own), PreprocessSpec.from_dict(changed)
    assert other.fingerprint != spec.fingerprint
    with pytest.raises(SpecMismatchError, match=name):
        spec.require_same(other, "this", "that")


@pytest.mark.parametrize(
    "spec", [PreprocessSpec(), CORRECTED, PreprocessSpec(crop=True, clip_range=3, crop_size=48)]
)
def test_json_keeps_it(spec: PreprocessSpec) -> None:
    again = PreprocessSpec.from_dict(json.loads(json.dumps(spec.to_dict())))
    assert again == spec
    assert again.fingerprint == spec.fingerprint


def test_a_mismatch_names_both_and_what_differs() -> None:
    with pytest.raises(SpecMismatchError) as caught:
        CORRECTED.require_same(PreprocessSpec(clip_range=5), "scores.parquet", "old.safetensors")
    message = str(caught.value)
    assert message.startswith("scores.parquet and old.safetensors have different")
    differ = "annulus_r_in 32.5 against 20.0; annulus_r_out 45.0 against 32.0"
    assert f"({differ}; clip_range 10.0 against 5.0)" in message
    assert "must never be mixed" in message


@pytest.mark.parametrize(
    ("values", "kind", "reason"),
    [
        ({"annulus_r_in": 32.5}, ValueError, "annulus_r_in=32.5 and annulus_r_out=None: give both"),
        ({"annulus_r_out": 45}, ValueError, "give both radii"),
        ({"annulus_r_in": 0.0, "annulus_r_out": 45}, ValueError, "give both radii"),
        ({"annulus_r_in": 45, "annulus_r_out": 32.5}, ValueError, "r_in=45.0 is not below"),
        ({"annulus_r_in": "20", "annulus_r_out": 32}, TypeError, "r_in='20' is not a number"),
        ({"mode": "raw"}, ValueError, "mode='raw' is not known; use one of 'raw_robust'"),
        ({"crop": 1}, TypeError, "crop=1 must be True or False"),
        ({"crop_size": -2}, ValueError, "crop_size=-2 must be None or"),
        ({"crop_size": 64.0}, ValueError, "crop_size=64.0 must be None or"),
        ({"clip_range": 0}, ValueError, "clip_range=0.0 must be above 0"),
        ({"clip_range": float("inf")}, ValueError, "clip_range=inf"),
        ({"clip_range": float("nan")}, ValueError, "clip_range=nan"),
        ({"clip_range": "10"}, TypeError, "clip_range='10' is not a number"),
        ({"clip_range": True}, TypeError, "clip_range=True is not a number"),
        ({"eps": 1e-6}, ValueError, "eps=1e-06 is not supported"),
        ({"bands": ("g", "r")}, ValueError, "bands="),
        ({"definition_version": 2}, ValueError, "Use the version of dhs that wrote the artefact"),
        ({"pixel_scale": 0}, ValueError, "pixel_scale=0.0 must be above 0"),
        ({"pixel_scale": float("nan")}, ValueError, "pixel_scale=nan must be above 0"),
        ({"rotation": 1, "axis": 2}, ValueError, "unknown keys axis, rotation"),
    ],
)
def test_what_is_refused(values: dict[str, Any], kind: type[Exception], reason: str) -> None:
    with pytest.raises(kind, match=reason.replace("(", r"\(")):
        PreprocessSpec.from_dict(values)


def test_status() -> None:
    assert CORRECTED.annulus_status() == "corrected, on the sky"
    assert PreprocessSpec().annulus_status() == "legacy, inside the galaxy"
    assert PreprocessSpec(crop=True).annulus_status() == "legacy, on the sky"
    assert PreprocessSpec().annulus_status(64) == "legacy, on the sky"
    # The corrected radii of whole cutouts are not those of crops.
    assert PreprocessSpec(annulus_r_in=20.8, annulus_r_out=28.8).annulus_status(64) == (
        "corrected, on the sky"
    )
    other = PreprocessSpec(annulus_r_in=10, annulus_r_out=34)
    assert other.annulus_status() == "other, inside the galaxy"
    assert str(CORRECTED) == "raw_robust, annulus (32.5, 45.0) px, no crop, clip 10"
    assert "crop to 64" in str(PreprocessSpec(crop=True))


def test_resolve_annulus() -> None:
    assert resolve_annulus(None, None) == resolve_annulus(0, 0.0) == LEGACY_ANNULUS
    assert resolve_annulus(32.5, 45) == Annulus(32.5, 45.0)


def test_radii_that_differ_by_rounding_are_one_annulus() -> None:
    """Check the radii of 64 x 64 images, 20.8 and 28.8, as other dtypes and averages keep them."""
    spec = PreprocessSpec(annulus_r_in=20.8, annulus_r_out=28.8)
    for rounded in (
        tuple(float(np.float32(radius)) for radius in (20.8, 28.8)),
        tuple(float(np.mean([radius] * 6)) for radius in (20.8, 28.8)),
    ):
        other = PreprocessSpec(annulus_r_in=rounded[0], annulus_r_out=rounded[1])
        spec.require_same(other, "this", "that")
        assert spec.has_radii(*rounded)
    assert not spec.has_radii(20.8, 28.9)
    assert not spec.has_radii(None, None)
