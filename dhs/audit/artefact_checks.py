"""Models of the metadata that artefacts must have, checked once when they are read."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any

from pydantic import Field, ValidationError, model_validator

from dhs.checkpoint import Checkpoint
from dhs.preprocess.recorded import (
    Architecture,
    Count,
    Part,
    Scores,
    Share,
    Spec,
    Text,
    Versions,
    require,
)
from dhs.selection.grid_metadata import Scorer
from fastnorm.text import MOST_LETTERS, one_line

SIDES = ("first", "second")
"""Keys of the two sides of a comparison."""


class DrawnSplit(Part):
    """A split that was drawn while packing."""

    train_fraction: Share
    seed: Count


class PackManifest(Part):
    """Metadata of the manifest of a pack."""

    data_origin: Text | None = None
    mask_bits: Text | None = None
    seed: int | None = None
    n: Count | None = None
    split: DrawnSplit | Text | None = None
    bands: list[Text] | None = None
    shard_bytes: Count | None = None
    lens_fraction: Share | None = None
    config_sha256: Text | None = None
    source_manifest_sha256: Text | None = None
    package_version: Text | None = None
    versions: Versions = Field(default_factory=dict)


class _Group(Part):
    name: Text | None = None
    detected: Count = 0
    objects: Count = 0
    share: Share = 0
    low: Share = 0
    high: Share = 0


class _Recall(Part):
    fpr: Share
    recall: Share
    low: Share = 0
    high: Share = 0
    found: Count = 0
    lenses: Count = 0
    threshold: float = 0
    threshold_score: Share = 0
    actual_fpr: Share = 0
    expected_fpr: Share | None = None
    interval_kind: Text | None = None
    tiers: list[_Group] = Field(default_factory=list)
    categories: list[_Group] = Field(default_factory=list)


class _Area(Part):
    value: Share
    low: Share | None = None
    """Absent in evaluations of the old kind, and None if there were too few lenses."""
    high: Share | None = None
    is_too_few: bool | None = None
    bootstrap_low: Share | None = None
    bootstrap_high: Share | None = None

    @model_validator(mode="after")
    def _has_both(self) -> _Area:
        if (self.low is None) != (self.high is None):
            raise ValueError("an interval has one end only")
        return self


class _Bin(Part):
    low: float
    high: float
    objects: Count
    lenses: Count
    mean_score: Share
    lens_share: Share
    share_low: Share
    share_high: Share


class _Calibration(Part):
    ece: float = 0
    ece_debiased: float = 0
    ece_low: float = 0
    ece_high: float = 0
    curve: list[_Bin]


class _Curve(Part):
    fpr: list[Share]
    recall: list[Share]
    low: list[Share]
    high: list[Share]

    @model_validator(mode="after")
    def _fits(self) -> _Curve:
        if len({len(values) for values in (self.fpr, self.recall, self.low, self.high)}) > 1:
            raise ValueError("its columns have different lengths")
        return self


class _Table(Scores):
    name: Text
    path: Text | None = None
    recall_at_fpr: list[_Recall]
    auc: _Area | None = None
    calibration: _Calibration | None = None
    roc: _Curve | None = None


class _AtRate(Part):
    fpr: Share
    recall_difference: float
    bootstrap_low: float
    bootstrap_high: float
    only_first: Count = 0
    only_second: Count = 0
    p_value: Share | None = None
    """Absent in evaluations of the old kind."""


class _Difference(Part):
    value: float
    bootstrap_low: float
    bootstrap_high: float


class _Pair(Part):
    first: Text
    second: Text
    at_fpr: list[_AtRate]
    auc_difference: _Difference | None = None


class _Truth(Part):
    path: Text | None = None
    label_col: Text | None = None
    tier_col: Text | None = None
    category_col: Text | None = None
    split: Text | None = None


class _Refused(Part):
    fpr: Share


class _Interval(Part):
    method: Text


class _Bootstrap(Part):
    resamples: Count
    seed: Count


class Evaluation(Part):
    """Metadata in ``evaluation.json``."""

    data_origin: Text | None
    across_annuli: Text | None
    truth: _Truth
    tables: Annotated[list[_Table], Field(min_length=1)]
    comparisons: list[_Pair]
    lenses: Annotated[int, Field(ge=1)] = 1
    negatives: Annotated[int, Field(ge=1)] = 1
    refused: list[_Refused] = Field(default_factory=list)
    interval: _Interval | None = None
    bootstrap: _Bootstrap | None = None
    ece_definition: Text = ""
    versions: Versions = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_fit(self) -> Evaluation:
        rates = {table.name: len(table.recall_at_fpr) for table in self.tables}
        for pair in self.comparisons:
            for name in (pair.first, pair.second):
                if rates.get(name) != len(pair.at_fpr):
                    raise ValueError(
                        f"a comparison of {name!r} does not match a table: "
                        "unknown name, or different rates"
                    )
        return self


class _Side(Part):
    folder: Text
    checkpoint: Scorer
    spec: Spec


class _Compared(Part):
    threshold: Text
    completeness_first: Share
    completeness_second: Share
    difference: float
    difference_ci95_lo: float | None
    difference_ci95_hi: float | None
    n_only_first: Count
    n_only_second: Count
    p_value: Share | None = None
    interval: Text = ""
    cells: Count = 0
    significant_cells: Count = 0


class Comparison(Part):
    """Metadata in ``comparison.json``."""

    first: _Side
    second: _Side
    preprocessing_differs: list[Text]
    data_origin: Text | None
    draws_fingerprint: Text | None = None
    injections: Count = 0
    thresholds: list[_Compared] = Field(default_factory=list)
    warnings: list[Text] = Field(default_factory=list)


class _Network(Scorer):
    architecture: Architecture  # type: ignore[assignment]


class _Sample(Part):
    data_origin: Text | None = None
    label_col: Text | None = None
    split: Text | None = None
    least_snr: float | None = None
    pack: Text | None = None
    grid: Text | None = None
    files: list[Text] = Field(default_factory=list)


class _Probe(Part):
    auc: Share
    interval: Annotated[list[Share], Field(min_length=2, max_length=2)]
    told_apart: bool
    p_value: Share
    detectable_auc: float
    used_of_each: Count
    verdict: Text
    permutations: Count | None = None


class Realism(Part):
    """Metadata in ``realism.json``."""

    checkpoint: _Network
    spec: Spec
    real: _Sample
    injected: _Sample
    probe: _Probe | None = None
    sample: Count | None = None
    seed: Count | None = None
    created: Text | None = None
    versions: Versions = Field(default_factory=dict)


class _Metrics(Part):
    val_auc: Share | None = None
    best_auc: Share | None = None
    epoch: Count | None = None


class _Data(Part):
    data_origin: Text
    fingerprint: Text | None = None
    n_train: Count | None = None
    n_train_lenses: Count | None = None
    n_validation: Count | None = None
    n_validation_lenses: Count | None = None

    @model_validator(mode="after")
    def _fits(self) -> _Data:
        for name in ("n_train", "n_validation"):
            count, lenses = getattr(self, name), getattr(self, f"{name}_lenses")
            if count is not None and lenses is not None and lenses > count:
                raise ValueError(f"{name} is {count:,}, but {lenses:,} of them are lenses")
        return self


class _Config(Part):
    dataset: dict[str, Any] | None = None
    train: dict[str, Any] | None = None


class _Old(Part):
    file: Text
    sha256: Text


class _Checkpoint(Part):
    metrics: _Metrics
    data: _Data
    config: _Config
    versions: Versions
    created: Text
    deprecated: Text | None
    deprecated_at: Text | None
    imported_from: _Old | None


def require_checkpoint(checkpoint: Checkpoint) -> None:
    """Apply `require` to what a checkpoint records beside its preprocessing and its weights."""
    metadata = {item.name: getattr(checkpoint, item.name) for item in fields(checkpoint)}
    recorded = {name: metadata[name] for name in _Checkpoint.model_fields}
    require(_Checkpoint, recorded, checkpoint.path)


def reason_of(error: BaseException) -> str:
    """Return why an artefact cannot be read or shown, as one line without internal addresses."""
    if isinstance(error, ValidationError):
        faults = [f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        return one_line(f"is not valid: {'; '.join(faults)}.")
    if isinstance(error, KeyError):
        return one_line(f"has no entry {error}; create it again.")
    if isinstance(error, OSError | ValueError):
        return one_line(str(error), 5 * MOST_LETTERS)
    said = one_line(f"{type(error).__name__}: {error}".removesuffix(": "))
    return f"has unexpected content ({said}); create it again."
