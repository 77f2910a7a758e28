"""The base class of every section of a configuration."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict

from fastnorm.paths import local_path


def _on_a_disk(path: str) -> str:
    local_path(path)
    return path


LocalPath = Annotated[str, AfterValidator(_on_a_disk)]
"""A path on a disk, or nothing."""


class Section(BaseModel):
    """A section of a configuration; unknown keys, NaN and later changes are errors.

    ``IF_MISSING`` has what to write for keys that a file lacks, for messages.
    """

    IF_MISSING: ClassVar[dict[str, str]] = {}

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
