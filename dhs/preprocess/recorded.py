"""Models of the metadata that artefacts record, which strangers may have written."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from dhs.config.errors import describe
from dhs.preprocess.spec import PreprocessSpec


class Part(BaseModel):
    """A part of the metadata; other keys are ignored.

    Defaults stand for entries that older versions did not write; an entry that is there must have
    the type of the field.
    """

    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)


def _spec(values: dict[str, Any]) -> dict[str, Any]:
    try:
        PreprocessSpec.from_dict(values)
    except TypeError as error:
        raise ValueError(str(error)) from error
    return values


Spec = Annotated[dict[str, Any], AfterValidator(_spec)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]
Text = Annotated[str, Field(max_length=4096)]
"""A name, a path or a sentence."""
Versions = dict[str, Text]
"""Versions of packages by name."""


class Architecture(Part):
    """The network that an artefact was made with."""

    arch: Text
    size: Annotated[int, Field(ge=1)] | None = None


class Member(Part):
    """A checkpoint that gave scores."""

    checkpoint: Text
    checkpoint_fingerprint: Text
    spec: Spec
    architecture: Architecture
    data_origin: Text | None = None
    deprecated: Text | bool | None = None
    training_fingerprint: Text | None = None


class Input(Part):
    """The cutouts that were scored."""

    path: Text | None = None


class Combiner(Part):
    """The training of a combiner."""

    truth: Text = ""


class Scores(Part):
    """Metadata of a table of scores."""

    members: Annotated[list[Member], Field(min_length=1)]
    combination: Text
    spec_fingerprint: Text = ""
    data_origin: Text | None = None
    mask_bits: Text | None = None
    input: Input | None = None
    combiner: Combiner | None = None
    across_annuli: Text | bool | None = None
    batch_size: Count | None = None
    device: Text | None = None
    fingerprint: Text | None = None
    versions: Versions = Field(default_factory=dict)


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
        An entry is missing or invalid, or a number is not finite; the message names it.
    """
    odd = next(_not_finite(metadata), None)
    if odd is not None:
        raise ValueError(f"{path} is not valid: {odd} is not a finite number. Create it again.")
    try:
        kind.model_validate(dict(metadata))
    except ValidationError as error:
        raise ValueError(f"{describe(error, str(path), kind)} Create it again.") from error


def _not_finite(value: Any, name: str = "") -> Iterator[str]:
    """Return the dotted names of numbers that JSON cannot represent."""
    entries: Any = ()
    if isinstance(value, Mapping):
        entries = value.items()
    elif isinstance(value, list):
        entries = enumerate(value)
    elif isinstance(value, float) and not math.isfinite(value):
        yield name
    for key, entry in entries:
        yield from _not_finite(entry, f"{name}.{key}".lstrip("."))
