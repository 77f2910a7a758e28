"""The sections ``dataset`` and ``split`` of a training configuration."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from dhs.config.section import Section
from dhs.preprocess.spec import PreprocessSpec


class DatasetConfig(Section):
    """Section ``dataset`` of a training.

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
        Side of the crop in pixels; 0 means 64.
    annulus_r_in, annulus_r_out : float
        Radii in pixels; if both are 0, the legacy annulus (20, 32).
    clip_range : float
        Limit of the absolute normalised values, in MAD.
    data_origin : str
        Origin of the cutouts, if the manifest does not state it.
    resident : bool
        Keep all cutouts on the device.
    """

    parquet_path: str = ""
    mode: Literal["pack", "file_manifest"] = "pack"
    preprocessing: str = "raw_robust"
    label_col: str = "label"
    seed: Annotated[int, Field(ge=0)] = 1337
    manifest_path: str = ""
    cutout_path_col: str = "cutout_path"
    sample_weight_col: str = ""
    crop: bool = True
    crop_size: Annotated[int, Field(ge=0)] = 0
    annulus_r_in: float = 0.0
    annulus_r_out: float = 0.0
    clip_range: float = 10.0
    data_origin: str = ""
    resident: bool = False

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
            crop_size=self.crop_size or None,
            clip_range=self.clip_range,
            annulus_r_in=self.annulus_r_in,
            annulus_r_out=self.annulus_r_out,
        )


class SplitConfig(Section):
    """Section ``split``, for a manifest without a split column; see `dhs.manifest.splits`."""

    train_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.7
    seed: int = 42
    split_col: str = "split"
