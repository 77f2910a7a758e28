"""Configuration of a selection-function grid: the sections of its YAML file."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from dhs.config.file import located, read_config_file
from dhs.config.section import LocalPath, Section
from dhs.data import DatasetConfig, SplitConfig

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(gt=0, lt=1)]

CLASS_COL = "host_type"
PSFDEPTH_UNITS = ("nanomaggy^-2", "mag")
DECIMALS = 6
MOST_STEPS = 1000


def _is_rising(edges: tuple[float, ...]) -> tuple[float, ...]:
    if len(edges) < 2 or any(low >= high for low, high in pairwise(edges)):
        raise ValueError(f"{list(edges)} are not bin edges: give two or more, in rising order")
    return edges


Edges = Annotated[tuple[float, ...], AfterValidator(_is_rising)]


class Axis(Section):
    """Cell centres from start to stop; a cell extends half a step to either side."""

    start: Positive
    stop: Positive
    step: Positive

    @model_validator(mode="after")
    def _steps_fit(self) -> Self:
        steps = (self.stop - self.start) / self.step
        if steps < -1e-6 or abs(steps - round(steps)) > 1e-6:
            raise ValueError(
                f"the range from start={self.start:g} to stop={self.stop:g} is not a whole "
                f"multiple of step={self.step:g}"
            )
        if steps > MOST_STEPS:
            raise ValueError(
                f"step={self.step:g} makes {steps:g} steps; at most {MOST_STEPS} are allowed"
            )
        return self

    def centres(self) -> list[float]:
        count = round((self.stop - self.start) / self.step) + 1
        return [round(self.start + k * self.step, DECIMALS) for k in range(count)]


class HostsSection(Section):
    """Section ``hosts``: the non-lenses that arcs are injected into.

    Attributes
    ----------
    parquet_path, mode, manifest_path, cutout_path_col, label_col, data_origin
        Same as in `dhs.data.config.DatasetConfig`.
    split : {"train", "val", "test", "all"}
        Split that provides the hosts, and the negatives that set the thresholds.
    split_by : SplitConfig
        Same as section ``split`` of a training configuration.
    psfsize_col, psfdepth_col : str
        Columns of the FWHM of the PSF in r (arcsec) and of the depth in r. If the manifest also
        has such columns for g and z (``psfsize_g``, ``psfsize_z``), the PSF has these widths.
    psfdepth_unit : {"", "nanomaggy^-2", "mag"}
        Unit of the depth: inverse variance of the flux of a point source, or 5-sigma AB
        magnitude. If empty, the unit is read from the metadata of the column.
    psf_fwhm, depth_5sig : float or None
        FWHM of the PSF in r (arcsec) and 5-sigma depth in r (AB mag) of every host, for a manifest
        without ``psfsize_col`` or ``psfdepth_col``.
    fewest_per_cell : int
        Cells with fewer hosts are reported and left empty.
    q_col, phi_col : str
        Columns of the axis ratio and position angle (radians) of the host's light, for
        ``q_lens: host``. The angle is free if ``phi_col`` is empty.
    class_col : str
        Column of the class of a host, for rates of false positives by class. The default may be
        absent.
    """

    parquet_path: LocalPath = ""
    mode: Literal["pack", "file_manifest"] = "pack"
    manifest_path: LocalPath = ""
    cutout_path_col: str = "cutout_path"
    label_col: str = "label"
    data_origin: str = ""
    split: Literal["train", "val", "test", "all"] = "val"
    split_by: SplitConfig = Field(default_factory=SplitConfig)
    psfsize_col: str = "psfsize_r"
    psfdepth_col: str = "psfdepth_r"
    psfdepth_unit: Literal["", "nanomaggy^-2", "mag"] = ""
    psf_fwhm: Positive | None = None
    depth_5sig: Positive | None = None
    fewest_per_cell: Count = 20
    q_col: str = "host_q"
    phi_col: str = ""
    class_col: str = CLASS_COL

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        self.dataset()
        if self.split_by.split_value is not None:
            raise ValueError(
                f"split_by.split_value={self.split_by.split_value!r} is for LensDataset; remove it "
                f"and write split: {self.split_by.split_value}"
            )
        return self

    def assumed(self) -> dict[str, float]:
        """Return the seeing and the depth that are constants instead of columns."""
        constants = {name: getattr(self, name) for name in ("psf_fwhm", "depth_5sig")}
        return {name: value for name, value in constants.items() if value is not None}

    def dataset(self) -> DatasetConfig:
        """Return the dataset configuration, with paths resolved against the data folder."""
        return DatasetConfig(
            parquet_path=located(self.parquet_path),
            mode=self.mode,
            manifest_path=located(self.manifest_path),
            cutout_path_col=self.cutout_path_col,
            label_col=self.label_col,
            data_origin=self.data_origin,
            crop=False,
        )


class NoiseSection(Section):
    """Section ``noise``: noise that the arcs add; see `dhs.injection.Noise`.

    Attributes
    ----------
    poisson : bool
        Add Poisson noise of the photons of the arc.
    gain_e_per_nmgy : float
        Photo-electrons per nanomaggy, for ``poisson``.
    texture : float
        Standard deviation of Gaussian noise in every pixel, in units of the host's own noise;
        0 turns it off.
    """

    poisson: bool = False
    gain_e_per_nmgy: Positive = 150.0
    texture: NotNegative = 0.0


class GridConfig(Section):
    """Configuration of a selection-function grid.

    Attributes
    ----------
    checkpoint : str
        Path of the lens finder; its preprocessing includes the annulus.
    out_dir : str
        Folder for all output.
    hosts : HostsSection
    theta_e, psf_fwhm, depth_5sig : Axis
        Axes of the grid. ``theta_e``: exact Einstein radius of the injections (arcsec).
        ``psf_fwhm``, ``depth_5sig``: FWHM of the PSF in r (arcsec) and 5-sigma depth in r
        (AB mag) of the hosts.
    source_mag_bins, lensed_mag_bins : tuple of float
        Bin edges in r (AB mag) of the unlensed source and of all its lensed light. Source
        magnitudes are drawn uniformly between the first and the last edge.
    injections_per_cell : int
    thresholds : tuple of float
        Scores in (0, 1); a higher score is a detection.
    fpr_targets : tuple of float
        False-positive rates in (0, 1). The non-lenses of the split set a threshold for each.
    noise : NoiseSection
    q_lens : {"free", "host"}
        Axis ratio of the mass: drawn from its prior, or tied to the host's light (Model 2).
    seed : int
    batch_size : int
        Images per forward pass; the last bits of a logit depend on it. 16 is fastest on a CPU,
        where larger batches get their memory from the system again for every layer. Use more on
        a GPU.
    shard_size : int
        Injections per file, a multiple of ``batch_size``.
    threads : int
        Threads per worker. The last bits of a logit may depend on it.
    device : {"auto", "cpu", "cuda"}
    engine : {"auto", "eager", "compile"}
        How the network is computed; see `dhs.model.engines.set_up`.
    backend : str or None
        Same as in `dhs.injection.render`.
    allow_deprecated : bool
        Accept a checkpoint that is marked as deprecated.
    """

    checkpoint: LocalPath
    out_dir: LocalPath
    hosts: HostsSection
    theta_e: Axis = Axis(start=0.5, stop=3.0, step=0.25)
    psf_fwhm: Axis = Axis(start=0.9, stop=1.8, step=0.15)
    depth_5sig: Axis = Axis(start=22.5, stop=24.5, step=0.5)
    source_mag_bins: Edges = (23.0, 24.0, 25.0, 26.0)
    lensed_mag_bins: Edges = (18.0, 20.0, 22.0, 24.0, 27.0)
    injections_per_cell: Count = 500
    thresholds: tuple[Share, ...] = ()
    fpr_targets: tuple[Share, ...] = (1e-2, 1e-3)
    noise: NoiseSection = NoiseSection()
    q_lens: Literal["free", "host"] = "free"
    seed: Annotated[int, Field(ge=0)] = 1337
    batch_size: Count = 16
    shard_size: Count = 1024
    threads: Count = 1
    device: Literal["auto", "cpu", "cuda"] = "auto"
    engine: Literal["auto", "eager", "compile"] = "auto"
    backend: str | None = None
    allow_deprecated: bool = False

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.shard_size % self.batch_size:
            raise ValueError(
                f"shard_size={self.shard_size} is not a multiple of batch_size={self.batch_size}"
            )
        if not (self.thresholds or self.fpr_targets):
            raise ValueError("thresholds and fpr_targets are both empty; give at least one")
        for name in ("thresholds", "fpr_targets"):
            given = getattr(self, name)
            # The table labels rates with two digits, so rates must differ in these.
            labels = {f"{value:.1e}" for value in given} if name == "fpr_targets" else set(given)
            if len(labels) < len(given):
                raise ValueError(
                    f"{name}={list(given)} has a duplicate (fpr_targets are compared to two digits)"
                )
        return self

    def cells(self) -> list[tuple[float, float, float]]:
        """Return all cell centres (theta_e, psf_fwhm, depth_5sig), the last varying fastest."""
        axes = (self.theta_e, self.psf_fwhm, self.depth_5sig)
        radii, widths, depths = (axis.centres() for axis in axes)
        return [(r, w, d) for r in radii for w in widths for d in depths]

    def determining(self) -> dict[str, Any]:
        """Return the settings that determine the draws, apart from hosts and priors, for JSON."""
        names = {"theta_e", "psf_fwhm", "depth_5sig", "injections_per_cell", "noise", "q_lens"}
        settings = self.model_dump(mode="json", include=names | {"seed"})
        return settings | {"source_r_mag": [self.source_mag_bins[0], self.source_mag_bins[-1]]}


def read_grid_config(path: str | Path, settings: Iterable[str] = ()) -> GridConfig:
    """Read the configuration of a grid; see `dhs.config.file.read_config_file`."""
    return read_config_file(path, GridConfig, settings)
