"""Models of the metadata that artefacts must have, checked once when they are read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from dhs.checkpoint import Checkpoint
from dhs.config.errors import describe
from dhs.preprocess.spec import PreprocessSpec


class _Part(BaseModel):
    """A part of the metadata; other keys are ignored."""

    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)


def _spec(values: dict[str, Any]) -> dict[str, Any]:
    try:
        PreprocessSpec.from_dict(values)
    except TypeError as error:
        raise ValueError(str(error)) from error
    return values


Spec = Annotated[dict[str, Any], AfterValidator(_spec)]
SIDES = ("first", "second")
"""Keys of the two sides of a comparison."""
Share = Annotated[float, Field(ge=0, le=1)]


class _Member(_Part):
    checkpoint: str
    checkpoint_fingerprint: str
    spec: Spec
    architecture: dict[str, Any]
    data_origin: str | None = None
    deprecated: str | bool | None = None


class Scores(_Part):
    """Metadata of a table of scores."""

    members: Annotated[list[_Member], Field(min_length=1)]
    combination: str
    data_origin: str | None = None


class PackManifest(_Part):
    """Metadata of the manifest of a pack."""

    data_origin: str | None = None
    mask_bits: str | None = None
    seed: int | None = None


class _Recall(_Part):
    fpr: Share
    recall: Share


class _Area(_Part):
    value: Share
    low: Share | None = None
    """Absent in evaluations of the old kind, and None if there were too few lenses."""


class _Table(Scores):
    name: str
    recall_at_fpr: list[_Recall]
    auc: _Area | None = None


class _AtRate(_Part):
    fpr: Share
    recall_difference: float
    bootstrap_low: float
    bootstrap_high: float
    p_value: Share | None = None
    """Absent in evaluations of the old kind."""


class _Pair(_Part):
    first: str
    second: str
    at_fpr: list[_AtRate]


class Evaluation(_Part):
    """Metadata in ``evaluation.json``."""

    data_origin: str | None
    across_annuli: str | None
    truth: dict[str, Any]
    tables: Annotated[list[_Table], Field(min_length=1)]
    comparisons: list[_Pair]

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


class _Made(_Part):
    name: str
    fingerprint: str
    architecture: str | dict[str, Any]
    data_origin: str | None = None
    deprecated: str | bool | None = None


class _Hosts(_Part):
    split: str


class _Config(_Part):
    hosts: _Hosts


class Grid(_Part):
    """Metadata in ``grid.json`` that `dhs.selection.grid_result.GridResult` does not check."""

    checkpoint: _Made
    spec: Spec
    data_origin: str | None
    config: _Config
    injections: Annotated[int, Field(ge=0)]
    failed: Annotated[int, Field(ge=0)]


class _Side(_Part):
    folder: str
    checkpoint: _Made
    spec: Spec


class Comparison(_Part):
    """Metadata in ``comparison.json``."""

    first: _Side
    second: _Side
    preprocessing_differs: list[str]
    data_origin: str | None


class _Sample(_Part):
    data_origin: str | None = None


class Realism(_Part):
    """Metadata in ``realism.json``."""

    checkpoint: _Made
    spec: Spec
    real: _Sample
    injected: _Sample


class _Metrics(_Part):
    val_auc: Share | None = None
    best_auc: Share | None = None


class _Data(_Part):
    data_origin: str
    n_train: int | None = None


class _Checkpoint(_Part):
    metrics: _Metrics
    data: _Data
    config: dict[str, Any]


def require(kind: type[BaseModel], metadata: Mapping[str, Any], path: Path) -> None:
    """Refuse an artefact whose metadata are incomplete or invalid.

    Parameters
    ----------
    kind : type of BaseModel
        Model of the metadata.
    metadata : mapping
        Metadata of the artefact.
    path : Path
        File of the artefact, for the message.

    Raises
    ------
    ValueError
        An entry is missing or invalid; the message names it.
    """
    try:
        kind.model_validate(dict(metadata))
    except ValidationError as error:
        raise ValueError(f"{describe(error, str(path), kind)} Create it again.") from error


def require_checkpoint(checkpoint: Checkpoint) -> None:
    """Apply `require` to the metrics, the data and the configuration of a checkpoint."""
    metadata = {name: getattr(checkpoint, name) for name in ("metrics", "data", "config")}
    require(_Checkpoint, metadata, checkpoint.path)
