"""Sections of existing scripts: objects that can be assigned to, and empty values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dhs.data import DatasetConfig, LensDataset, SplitConfig
from dhs.preprocess.spec import PreprocessSpec
from dhs.train import train
from dhs.train.config import TrainConfig
from tests.dhs.data.data_cases import SETTINGS, change
from tests.dhs.data.data_cases import pack as pack
from tests.dhs.data.data_cases import whole as whole
from tests.dhs.train.training_runs import CUTOUTS

TRAINING: dict[str, Any] = {
    "dataset": {"parquet_path": "a"},
    "train": {"arch": "resnet18", "out_dir": "out", "epochs": 1, "lr": 0.1},
}
MAY_BE_NONE = (
    "parquet_path",
    "manifest_path",
    "sample_weight_col",
    "crop_size",
    "annulus_r_in",
    "annulus_r_out",
    "data_origin",
)


def test_none_is_an_empty_value() -> None:
    given: dict[str, Any] = dict.fromkeys(MAY_BE_NONE) | {"parquet_path": "a"}
    assert DatasetConfig(**given) == DatasetConfig(parquet_path="a")
    wrong: dict[str, Any] = {"parquet_path": "a", "label_col": None}
    with pytest.raises(ValueError, match="label_col"):
        DatasetConfig(**wrong)


@pytest.mark.parametrize(
    ("crop_size", "spec"),
    [(0, PreprocessSpec(crop=True)), (-1, PreprocessSpec()), (48, PreprocessSpec(crop_size=48))],
)
def test_sizes_of_crops(crop_size: int, spec: PreprocessSpec) -> None:
    found = DatasetConfig(parquet_path="a", crop=crop_size != 48, crop_size=crop_size).spec()
    assert found == spec
    with pytest.raises(ValueError, match="crop_size"):
        DatasetConfig(parquet_path="a", crop_size=-2)


@pytest.mark.parametrize(
    ("section", "key", "value"), [("train", "lr", 0.5), ("augment", "hflip", False)]
)
def test_sections_of_a_training_can_be_assigned_to(section: str, key: str, value: Any) -> None:
    config = TrainConfig.model_validate(TRAINING)
    setattr(getattr(config, section), key, value)
    checked = config.checked()
    assert getattr(getattr(checked, section), key) == value
    assert checked == TrainConfig.model_validate(
        TRAINING | {section: TRAINING.get(section, {}) | {key: value}}
    )
    assert getattr(getattr(TrainConfig.model_validate(TRAINING), section), key) != value
    fresh = type(getattr(config, section)).model_validate(
        getattr(config, section).model_dump() | {key: value}
    )
    setattr(config, section, fresh)
    assert getattr(config.checked(), section) == fresh


@pytest.mark.parametrize(
    ("section", "key", "value", "said"),
    [
        ("train", "lr", -1.0, "TrainConfig is not valid: train.lr: "),
        (
            "train",
            "effective_batch",
            65,
            "TrainConfig is not valid: train: effective_batch=65 must",
        ),
        ("train", "out_dir", "s3://b/out", "train.out_dir: s3://b/out is an address"),
        ("augment", "core_radius", 0.0, "TrainConfig is not valid: augment.core_radius: "),
        ("train", "unweighted_loss", False, "TrainConfig is not valid: train.unweighted_loss is"),
    ],
)
def test_a_wrong_assignment_is_refused_where_it_is_used(
    section: str, key: str, value: Any, said: str
) -> None:
    config = TrainConfig.model_validate(TRAINING)
    setattr(getattr(config, section), key, value)
    with pytest.raises(ValueError, match="is not valid") as error:
        train(config, "test")
    assert said in str(error.value)


def test_a_fault_of_a_whole_object_speaks_of_no_file() -> None:
    config = DatasetConfig(parquet_path="a")
    config.mode = "file_manifest"
    with pytest.raises(ValueError, match="needs") as error:
        config.checked()
    assert str(error.value) == (
        "DatasetConfig is not valid: mode file_manifest needs manifest_path."
    )


def test_sections_can_be_assigned_to(whole: Path) -> None:
    config = DatasetConfig(parquet_path="elsewhere")
    config.parquet_path = str(whole)
    config.crop = False
    # One radius at a time: the pair is checked where it is used.
    config.annulus_r_in = 10.4
    config.annulus_r_out = 14.4
    changed: Any = config
    changed.sample_weight_col = None
    split = SplitConfig()
    split.split_value = "val"
    data = LensDataset(config, split_config=split)
    assert len(data) == CUTOUTS // 2
    assert (data.split, data.weights) == ("val", None)
    assert config.spec() == PreprocessSpec(annulus_r_in=10.4, annulus_r_out=14.4)


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("annulus_r_out", 0.0, "give both radii"),
        ("seed", -1, "seed"),
        ("mode", "files", "mode"),
        ("crop", "maybe", "crop"),
    ],
)
def test_an_assigned_value_is_checked_where_it_is_used(
    whole: Path, name: str, value: Any, named: str
) -> None:
    config = DatasetConfig(parquet_path=str(whole), **SETTINGS)
    setattr(config, name, value)
    with pytest.raises(ValueError, match=rf"DatasetConfig is not valid: .*{named}"):
        LensDataset(config, "train")


def test_a_name_that_is_not_a_field_cannot_be_assigned() -> None:
    split: Any = SplitConfig()
    with pytest.raises(ValueError, match="splitvalue"):
        split.splitvalue = "train"
    split.train_fraction = 2.0
    with pytest.raises(ValueError, match=r"SplitConfig is not valid: train_fraction"):
        LensDataset(DatasetConfig(parquet_path="a"), "train", split)


def test_changes_do_not_reach_other_configurations() -> None:
    sections: dict[str, Any] = {
        "dataset": {"parquet_path": "a"},
        "train": {"arch": "resnet18", "out_dir": "b", "epochs": 1, "lr": 1},
    }
    first, second = (TrainConfig.model_validate(sections) for _ in range(2))
    first.split.seed = 7
    assert (second.split.seed, SplitConfig().seed) == (42, 42)


@pytest.mark.parametrize("has_column", [True, False])
def test_the_split_may_be_in_its_section(pack: Path, has_column: bool) -> None:
    if not has_column:
        change(pack, drop=("split",))
    config = DatasetConfig(parquet_path=str(pack), **SETTINGS)
    for split in ("train", "val"):
        by_section = LensDataset(config, split_config=SplitConfig(split_value=split))
        assert np.array_equal(by_section.ids, LensDataset(config, split).ids)
    with pytest.raises(ValueError, match=r"split='train' contradicts split_value='val'"):
        LensDataset(config, "train", SplitConfig(split_value="val"))
    wrong: Any = "validation"
    with pytest.raises(ValueError, match="split_value"):
        SplitConfig(split_value=wrong)


def test_a_section_without_a_split_records_what_it_did_before() -> None:
    # Grids and trainings compare these records when they resume.
    assert SplitConfig().model_dump() == {"train_fraction": 0.7, "seed": 42, "split_col": "split"}
    assert SplitConfig(split_value="val").model_dump(mode="json")["split_value"] == "val"
