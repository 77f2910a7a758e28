"""The configuration of a training, read from YAML and validated."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from dhs.config.file import located, read_config_file
from dhs.config.section import LocalPath
from dhs.data import DatasetConfig, SplitConfig
from dhs.data.config import Assignable
from dhs.model.networks import NETWORKS
from dhs.transforms import AugmentConfig

DATA_PATHS = ("parquet_path", "manifest_path")

Count = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Rate = Annotated[float, Field(ge=0, lt=1)]


class AugmentSection(Assignable):
    """Section ``augment``; see `dhs.transforms.AugmentConfig`."""

    hflip: bool = True
    vflip: bool = True
    rot90: bool = True
    core_dropout_prob: Annotated[float, Field(ge=0, le=1)] = 0.0
    core_radius: Positive = 5.0
    az_shuffle_prob: Annotated[float, Field(ge=0, le=1)] = 0.0
    az_shuffle_rmax: Count = 32

    def config(self) -> AugmentConfig:
        """Return these settings as an `AugmentConfig`."""
        return AugmentConfig(**self.model_dump())


class TrainSection(Assignable):
    """Section ``train``.

    Attributes
    ----------
    arch : str
        Name of the architecture, see `dhs.model.build_model`.
    out_dir : str
        Output folder.
    epochs : int
        Number of epochs.
    batch_size : int
        Cutouts per forward pass in one process (the micro-batch).
    effective_batch : int
        Cutouts per step of the optimiser, over all processes; 0 means ``batch_size`` times the
        number of processes. An incomplete last batch is dropped; it has other cutouts in every
        epoch.
    lr : float
        Learning rate of AdamW.
    weight_decay : float
        Weight decay of AdamW.
    lr_schedule : {"step", "cosine", "constant"}
        Schedule of the learning rate, see `dhs.train.schedule.learning_rate`.
    lr_step_epoch : int
        Number of epochs between two steps of the step schedule.
    lr_gamma : float
        Factor of each step of the step schedule.
    warmup_epochs : int
        Epochs in which the learning rate grows linearly to ``lr``.
    freeze_backbone_epochs : int
        Epochs in which only the last layer learns and the batch-norm statistics do not change.
    early_stopping_patience : int
        Stop after this many epochs without a better validation AUC; 0 never stops.
    mixed_precision : bool or {"bf16", "fp16"}
        Autocast dtype on a GPU; True means bf16. A CPU always uses float32.
    unweighted_loss : bool
        Ignore the sample weights.
    pretrained : bool
        Start from ImageNet weights, see `dhs.model.build_model`.
    weights : str
        Local file of the ImageNet weights; empty means the weights of timm.
    init_weights : str
        Checkpoint to start from, with the same architecture and preprocessing.
    init_across_annuli : bool
        Allow different preprocessing in ``init_weights``; the new checkpoint records this setting.
    base_ch : int or None
        Channels of the stem of the bottlenecked ResNet.
    drop_rate : float or None
        Probability of dropout before the last layer, in architectures of timm. None means 0.2 for
        EfficientNetV2-S, as in torchvision, and timm's default for others.
    drop_path_rate : float or None
        Stochastic depth of architectures of timm. Block i of n drops its path, for each cutout on
        its own, with probability ``drop_path_rate * i / n`` in EfficientNets (i from 0). None means
        the same as for ``drop_rate``.
    balance : bool
        Draw both classes equally often.
    device : str
        ``auto``, ``cpu``, ``cuda``, or one GPU such as ``cuda:1``.
    compile : bool
        Use ``torch.compile``.
    channels_last : bool
        Run the backbone in ``torch.channels_last``.
    num_workers : int
        No effect; accepted for existing files. One thread per process reads whole batches.
    save_every_minutes : float
        Time between two saved states within an epoch. The state is also saved after each epoch.
    """

    IF_MISSING: ClassVar[dict[str, str]] = {
        "arch": "stronglens_calibration has resnet18 as the default: write arch: resnet18, or "
        f"another of {', '.join(NETWORKS)}, or a name in timm"
    }

    arch: str
    out_dir: LocalPath
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
    weights: LocalPath = ""
    init_weights: LocalPath = ""
    init_across_annuli: bool = False
    base_ch: Count | None = None
    drop_rate: Rate | None = None
    drop_path_rate: Rate | None = None
    balance: bool = False
    device: str = "auto"
    compile: bool = False
    channels_last: bool = True
    num_workers: NotNegative = 0
    save_every_minutes: Positive = 10.0

    @model_validator(mode="before")
    @classmethod
    def _none_is_missing(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("arch") is None:
            return {k: v for k, v in values.items() if k != "arch"}
        return values

    @model_validator(mode="after")
    def _agree(self) -> Self:
        if self.effective_batch % self.batch_size:
            raise ValueError(
                f"effective_batch={self.effective_batch} must be a multiple of "
                f"batch_size={self.batch_size}"
            )
        if self.pretrained and self.init_weights:
            raise ValueError("pretrained and init_weights are both set; use one of them")
        if self.weights and not self.pretrained:
            raise ValueError("weights is set, but pretrained is false")
        if self.init_weights.endswith((".pt", ".pth")):
            ours = Path(self.init_weights).with_suffix(".safetensors")
            raise ValueError(
                f"init_weights={self.init_weights!r} is a pickled file; run dhs checkpoint import "
                f"{self.init_weights} --out {ours} --data-origin ORIGIN, and write init_weights: "
                f"{ours}"
            )
        return self

    def architecture_keywords(self) -> dict[str, Any]:
        """Return the keywords of `dhs.model.build_model`: those set, and those of the network."""
        names = ("base_ch", "drop_rate", "drop_path_rate")
        named = {name: getattr(self, name) for name in names}
        return self.options_left_out() | {k: v for k, v in named.items() if v is not None}

    def options_left_out(self) -> dict[str, Any]:
        """Return the options of the network, for a training, that are not set here."""
        network = NETWORKS.get(self.arch)
        options = {} if network is None else network.training_options
        return {name: value for name, value in options.items() if getattr(self, name) is None}


class TrainConfig(Assignable):
    """A complete configuration: sections ``dataset``, ``split``, ``augment`` and ``train``."""

    dataset: DatasetConfig
    split: SplitConfig = Field(default_factory=SplitConfig)
    augment: AugmentSection = Field(default_factory=AugmentSection)
    train: TrainSection

    @model_validator(mode="after")
    def _weights_are_there(self) -> Self:
        if not (self.train.unweighted_loss or self.dataset.sample_weight_col):
            raise ValueError(
                "train.unweighted_loss is false, but dataset.sample_weight_col is empty"
            )
        return self

    def both_splits(self) -> SplitConfig:
        """Return how the cutouts are split, without the one split of other uses."""
        return self.split.model_copy(update={"split_value": None})

    def located_dataset(self) -> DatasetConfig:
        """Return the dataset with relative paths resolved against the data folder."""
        paths = {name: located(getattr(self.dataset, name)) for name in DATA_PATHS}
        return self.dataset.model_copy(update=paths)

    def determining(self) -> dict[str, Any]:
        """Return the settings that determine the trained weights, as plain values for JSON."""
        without_effect = {
            "train": {"num_workers", "save_every_minutes", "out_dir"},
            "split": {"split_value"},
        }
        return self.model_dump(mode="json", exclude=without_effect)


def read_config(path: str | Path, settings: Iterable[str] = ()) -> TrainConfig:
    """Read the configuration of a training; see `dhs.config.file.read_config_file`."""
    return read_config_file(path, TrainConfig, settings)
