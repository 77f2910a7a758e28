"""The sections ``dataset`` and ``split`` of a training configuration."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import (
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from dhs.config.errors import describe
from dhs.config.section import LocalPath, Section
from dhs.preprocess.spec import PreprocessSpec
from dhs.preprocess.stack import MODES, NO_CROP

MAY_BE_NONE = (
    *("parquet_path", "manifest_path", "sample_weight_col", "data_origin"),
    *("crop_size", "annulus_r_in", "annulus_r_out"),
)


class Assignable(Section):
    """A section that existing scripts change by assignment; `checked` is called where it is used.

    An assignment alone is not checked, because two radii are assigned one after the other.
    """

    model_config = ConfigDict(frozen=False)

    def checked(self) -> Self:
        """Return a validated copy.

        Raises
        ------
        ValueError
            A value is not allowed, or two of them contradict each other.
        """
        try:
            # The sections in this one may have changed as well.
            return type(self).model_validate(self.model_dump(warnings=False))
        except ValidationError as error:
            name = type(self).__name__
            raise ValueError(describe(error, name, type(self))) from error


class DatasetConfig(Assignable):
    """Section ``dataset`` of a training; None is an empty value.

    Attributes
    ----------
    parquet_path : str
        Folder or manifest of a pack; required in mode ``pack``.
    mode : {"pack", "file_manifest"}
        Source of the cutouts: a pack, or a table of cutout files.
    preprocessing : str
        The ``mode`` of `dhs.preprocess.preprocess_stack`.
    label_col : str
        Column of the labels, 0 or 1.
    seed : int
        Random seed of the whole training.
    manifest_path : str
        Table of cutout files, .parquet or .csv; required in mode ``file_manifest``.
    cutout_path_col : str
        Column of the file paths; relative paths start from the folder of the manifest.
    sample_weight_col : str
        Column of the sample weights; empty means no weights.
    crop : bool
        Crop the centre of the cutouts first.
    crop_size : int
        Side of the crop in pixels; 0 means 64, and -1 no crop.
    annulus_r_in, annulus_r_out : float
        Radii in pixels; if both are 0, the legacy annulus (20, 32).
    clip_range : float
        Limit of the absolute normalised values, in MAD.
    data_origin : str
        Origin of the cutouts, if the manifest does not state it.
    resident : bool
        Keep all cutouts on the device.
    """

    parquet_path: LocalPath = ""
    mode: Literal["pack", "file_manifest"] = "pack"
    preprocessing: str = "raw_robust"
    label_col: str = "label"
    seed: Annotated[int, Field(ge=0)] = 1337
    manifest_path: LocalPath = ""
    cutout_path_col: str = "cutout_path"
    sample_weight_col: str = ""
    crop: bool = True
    crop_size: Annotated[int, Field(ge=NO_CROP)] = 0
    annulus_r_in: float = 0.0
    annulus_r_out: float = 0.0
    clip_range: float = 10.0
    data_origin: str = ""
    resident: bool = False

    @field_validator("mode", mode="before")
    @classmethod
    def _mode_is_known(cls, mode: Any) -> Any:
        if mode not in ("pack", "file_manifest"):
            raise ValueError(
                f"mode={mode!r} is not known; write mode: pack with parquet_path (the folder that "
                "dhs pack makes of a table of cutouts), or mode: file_manifest with manifest_path "
                "(a table with the columns cutout_path and label)"
            )
        return mode

    @field_validator("preprocessing")
    @classmethod
    def _preprocessing_is_known(cls, mode: str) -> str:
        if mode not in MODES:
            raise ValueError(
                f"preprocessing={mode!r} is not known; write one of {', '.join(MODES)}"
            )
        return mode

    @model_validator(mode="before")
    @classmethod
    def _none_is_empty(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {k: v for k, v in values.items() if not (v is None and k in MAY_BE_NONE)}

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        self.spec()
        name = "parquet_path" if self.mode == "pack" else "manifest_path"
        if not getattr(self, name):
            raise ValueError(f"mode {self.mode} needs {name}")
        return self

    def spec(self) -> PreprocessSpec:
        """Return the preprocessing of these settings."""
        return PreprocessSpec(
            mode=self.preprocessing,
            crop=self.crop,
            crop_size=self.crop_size,
            clip_range=self.clip_range,
            annulus_r_in=self.annulus_r_in,
            annulus_r_out=self.annulus_r_out,
        )


class SplitConfig(Assignable):
    """Section ``split``; see `dhs.manifest.splits`.

    Attributes
    ----------
    train_fraction : float
        Fraction of the sky for training, if the manifest has no column of splits.
    seed : int
        Random seed, if the manifest has no column of splits.
    split_col : str
        Column of the splits.
    split_value : {"train", "val", "test"} or None
        Split that `LensDataset` opens, if its own ``split`` is not given.
    """

    train_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.7
    seed: int = 42
    split_col: str = "split"
    split_value: Literal["train", "val", "test"] | None = None

    @model_serializer(mode="wrap")
    def _without_none(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Trainings and grids compare these records with those of earlier runs.
        values: dict[str, Any] = serialize(self)
        return {k: v for k, v in values.items() if not (k == "split_value" and v is None)}
