"""What a training is: the YAML file, checked."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from dhs.config.file import located, read_config_file
from dhs.config.section import Section
from dhs.data import DatasetConfig, SplitConfig
from dhs.transforms import AugmentConfig

DATA_PATHS = ("parquet_path", "manifest_path")

Count = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]


class AugmentSection(Section):
    """Section ``augment``; see `dhs.transforms.AugmentConfig`."""

    hflip: bool = True
    vflip: bool = True
    rot90: bool = True
    core_dropout_prob: Annotated[float, Field(ge=0, le=1)] = 0.0
    core_radius: Positive = 5.0
    az_shuffle_prob: Annotated[float, Field(ge=0, le=1)] = 0.0
    az_shuffle_rmax: Count = 32

    def config(self) -> AugmentConfig:
        return AugmentConfig(**self.model_dump())


class TrainSection(Section):
    """Section ``train``.

    Attributes
    ----------
    arch : str
        As of `dhs.model.build_model`.
    out_dir : str
        Folder of everything that is written.
    epochs : int
    batch_size : int
        Cutouts of one forward pass in one process: the micro-batch.
    effective_batch : int
        Cutouts of one step of the optimiser, over all processes; 0 means ``batch_size`` times the
        number of processes. A last, incomplete one is left out, another one in every epoch.
    lr, weight_decay : float
        Of AdamW.
    lr_schedule : {"step", "cosine", "constant"}
        See `dhs.train.schedule.learning_rate`.
    lr_step_epoch, lr_gamma
        Every so many epochs the step schedule multiplies by gamma.
    warmup_epochs : int
        Epochs in which the rate grows from a hundredth, on a straight line.
    freeze_backbone_epochs : int
        Epochs in which the last layer alone learns, and batch-norm statistics stay as they are.
    early_stopping_patience : int
        Stop after so many epochs without a better validation AUC; 0 never stops.
    mixed_precision : bool or {"bf16", "fp16"}
        Autocast on a GPU, True meaning bf16. On a CPU all is float32.
    unweighted_loss : bool
        Ignore the sample weights.
    pretrained, weights
        As of `dhs.model.build_model`.
    init_weights : str
        A checkpoint to start from, of the same architecture and preprocessing.
    init_across_annuli : bool
        Let ``init_weights`` be of another preprocessing; the checkpoint then says so.
    base_ch, drop_rate
        Of architectures that have them.
    balance : bool
        Draw both classes equally often.
    device : str
        ``auto``, ``cpu``, ``cuda`` or ``cuda:1``.
    compile : bool
        Use ``torch.compile``.
    channels_last : bool
        Order of memory of the backbone.
    num_workers : int
        Kept for existing files, without effect: one thread per process reads whole batches.
    save_every_minutes : float
        How often the state is written within an epoch; it is at the end of each in any case.
    """

    arch: str
    out_dir: str
    epochs: Count
    batch_size: Count = 64
    effective_batch: NotNegative = 0
    lr: Positive
    weight_decay: Annotated[float, Field(ge=0)] = 1e-4
    lr_schedule: Literal["step", "cosine", "constant"] = "cosine"
    lr_step_epoch: Count = 130
    lr_gamma: Annotated[float, Field(gt=0, le=1)] = 0.5
    warmup_epochs: NotNegative = 0
    freeze_backbone_epochs: NotNegative = 0
    early_stopping_patience: NotNegative = 0
    mixed_precision: bool | Literal["bf16", "fp16"] = True
    unweighted_loss: bool = True
    pretrained: bool = False
    weights: str = ""
    init_weights: str = ""
    init_across_annuli: bool = False
    base_ch: Count | None = None
    drop_rate: Annotated[float, Field(ge=0, lt=1)] | None = None
    balance: bool = False
    device: str = "auto"
    compile: bool = False
    channels_last: bool = True
    num_workers: NotNegative = 0
    save_every_minutes: Positive = 10.0

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.effective_batch % self.batch_size:
            raise ValueError(
                f"effective_batch={self.effective_batch} is no multiple of "
                f"batch_size={self.batch_size}"
            )
        if self.pretrained and self.init_weights:
            raise ValueError("pretrained and init_weights both say where to start; give one")
        if self.weights and not self.pretrained:
            raise ValueError("weights is given, but pretrained is false")
        if self.init_weights.endswith((".pt", ".pth")):
            raise ValueError(
                f"init_weights={self.init_weights!r} is pickled; make a checkpoint of it with "
                "dhs checkpoint import"
            )
        return self

    def architecture_keywords(self) -> dict[str, Any]:
        """The keywords of `dhs.model.build_model` that are given."""
        named = {"base_ch": self.base_ch, "drop_rate": self.drop_rate}
        return {key: value for key, value in named.items() if value is not None}


class TrainConfig(Section):
    """A whole file: sections ``dataset``, ``split``, ``augment`` and ``train``."""

    dataset: DatasetConfig
    split: SplitConfig = SplitConfig()
    augment: AugmentSection = AugmentSection()
    train: TrainSection

    @model_validator(mode="after")
    def _weights_are_there(self) -> Self:
        if not (self.train.unweighted_loss or self.dataset.sample_weight_col):
            raise ValueError(
                "train.unweighted_loss is false, but dataset.sample_weight_col names no column"
            )
        return self

    def located_dataset(self) -> DatasetConfig:
        """The dataset with its relative paths starting from the folder of the data."""
        paths = {name: located(getattr(self.dataset, name)) for name in DATA_PATHS}
        return self.dataset.model_copy(update=paths)

    def determining(self) -> dict[str, Any]:
        """What the trained weights depend on, for JSON."""
        without_effect = {"train": {"num_workers", "save_every_minutes", "out_dir"}}
        return self.model_dump(mode="json", exclude=without_effect)


def read_config(path: str | Path, settings: Iterable[str] = ()) -> TrainConfig:
    """Read a training from YAML, as `dhs.config.file.read_config_file`."""
    return read_config_file(path, TrainConfig, settings)
