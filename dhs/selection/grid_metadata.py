"""The model of ``grid.json``, which is checked when a grid is read."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field

from dhs.preprocess.recorded import Count, Part, Share, Spec, Text, Versions

Logit = Annotated[float, Field(ge=-1e30, le=1e30)]
"""A number that fits the 32 bits of the logits of injections."""


class RecordedThreshold(Part):
    """A `dhs.statistics.thresholds.Threshold`."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    threshold: Share
    logit: Logit
    threshold_type: Text = "fixed"
    fpr_target: Annotated[float, Field(gt=0, lt=1)] | None = None
    negatives: Count | None = None
    false_positives: Count | None = None
    fpr_low: Share | None = None
    fpr_high: Share | None = None
    logit_low: Logit | None = None
    logit_high: Logit | None = None
    expected_fpr: Share | None = None


class Scorer(Part):
    """The checkpoint that scored a grid."""

    name: Text
    fingerprint: Text
    architecture: Text
    data_origin: Text | None = None
    deprecated: Text | bool | None = None


class Hosts(Part):
    """The hosts of the injections; seeing and depth are numbers only where they were assumed."""

    split: Text
    psf_fwhm: Annotated[float, Field(gt=0)] | None = None
    depth_5sig: Annotated[float, Field(gt=0)] | None = None


def _ascending(edges: list[float]) -> list[float]:
    if any(not low < high for low, high in pairwise(edges)):
        raise ValueError(f"{edges} do not ascend")
    return edges


class RecordedConfig(Part):
    """The configuration of a grid, as far as its results are read with it."""

    hosts: Hosts
    source_mag_bins: Annotated[list[float], Field(min_length=2), AfterValidator(_ascending)]
    seed: Count | None = None


class Determining(Part):
    """The part on what determines the scores of the injections."""

    versions: Versions = Field(default_factory=dict)


class Grid(Part):
    """Metadata in ``grid.json``."""

    checkpoint: Scorer
    spec: Spec
    annulus: Text
    data_origin: Text | None
    config: RecordedConfig
    injections_fingerprint: Text
    draws_fingerprint: Text
    thresholds: Annotated[list[RecordedThreshold], Field(min_length=1)]
    injections: Count
    failed: Count
    determining: Determining = Field(default_factory=Determining)
