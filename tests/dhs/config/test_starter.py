"""``dhs init``: what it writes is read by the next commands, and nothing is overwritten."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dhs.cli import app
from dhs.config.starter import Facts, few_to_train
from dhs.pack import write_pack
from dhs.selection.config import read_grid_config
from dhs.selection.hosts import Hosts
from dhs.simulate import write_survey
from dhs.train.config import read_config
from tests.command_line import invoke, message

FILES = ["README.md", "grid.yaml", "train.yaml"]


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "my survey"
    write_survey(folder, 120, seed=3, lens_fraction=0.3, workers=1)
    return folder


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    # Nothing may depend on where the commands run, nor on DHS_DATA.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DHS_DATA", str(tmp_path / "elsewhere"))
    return tmp_path


def write_table(survey: Path, folder: Path, **columns: object) -> Path:
    """Write single cutouts of a survey, and a table that does not state their origin."""
    table = pd.read_parquet(survey / "manifest.parquet")
    stack = np.load(survey / "shard-00000.npy")
    folder.mkdir()
    paths = [f"{name}.npy" for name in table["galaxy_id"]]
    for path, pixels in zip(paths, stack, strict=True):
        np.save(folder / path, pixels)
    kept = table[["galaxy_id", "label", "split", "psfsize_r", "psfdepth_r"]]
    kept.assign(cutout_path=paths, **columns).to_csv(folder / "table.csv", index=False)
    return folder / "table.csv"


@pytest.mark.slow
def test_a_training_begins_and_a_grid_reads_its_hosts(survey: Path, here: Path) -> None:
    result = invoke(app, "init", "first", "--data", survey)
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (here / "first").iterdir()) == FILES
    train, grid = here / "first" / "train.yaml", here / "first" / "grid.yaml"
    config = read_config(train)
    assert (config.dataset.annulus_r_in, config.dataset.annulus_r_out) == (32.5, 45)
    assert config.dataset.parquet_path == str(survey)
    # A training needs at least one whole batch.
    assert config.train.batch_size == 64 < 0.8 * 120
    settings = ("train.epochs=1", "train.base_ch=2")
    words = [word for setting in settings for word in ("--set", setting)]
    trained = invoke(app, "train", train, *words)
    assert trained.exit_code == 0, trained.output
    best = here / "first" / "training" / "best.safetensors"
    assert best.is_file()
    asked = read_grid_config(grid)
    assert asked.checkpoint == str(best)
    hosts = Hosts(asked)
    assert (hosts.outside, hosts.without_seeing) == (0, 0)
    assert set(hosts.data.table["split"]) == {"val"}
    planned = invoke(app, "grid", "plan", grid, "--workers", "1", "--json")
    assert planned.exit_code == 0, planned.output
    assert json.loads(planned.stdout)["cells_with_hosts"] == 6


def test_lines_to_change_are_marked_and_the_next_commands_are_real(survey: Path) -> None:
    invoke(app, "init", "first", "--data", survey)
    for name in ("train.yaml", "grid.yaml"):
        text = Path("first", name).read_text()
        assert "# CHANGE" in text
        assert "survey: dhs simulate" not in text
    page = Path("first", "README.md").read_text()
    commands = [line for line in page.splitlines() if line.startswith("dhs ")]
    assert [shlex.split(line)[1] for line in commands] == ["train", "score", "grid"]
    assert shlex.split(commands[1])[3] == str(survey)


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_overwritten(survey: Path, name: str) -> None:
    Path("first").mkdir()
    Path("first", name).write_text("mine")
    result = invoke(app, "init", "first", "--data", survey)
    assert result.exit_code == 2
    assert f"already has {name}; nothing was written" in message(result)
    assert [path.name for path in Path("first").iterdir()] == [name]
    assert Path("first", name).read_text() == "mine"


def test_a_table_needs_its_origin_and_is_read_as_a_table(survey: Path, here: Path) -> None:
    table = write_table(survey, here / "files")
    result = invoke(app, "init", "first", "--data", table)
    assert result.exit_code == 2
    assert "does not state where its cutouts come from" in message(result)
    assert not Path("first").exists()
    result = invoke(app, "init", "first", "--data", table, "--data-origin", "legacysurvey-dr10")
    assert result.exit_code == 0, result.output
    config = read_config("first/train.yaml").dataset
    assert (config.mode, config.manifest_path) == ("file_manifest", str(table))
    assert config.data_origin == "legacysurvey-dr10"
    hosts = Hosts(read_grid_config("first/grid.yaml"))
    assert hosts.outside == 0


def test_unknown_seeing_and_depth_are_left_to_the_user(survey: Path, here: Path) -> None:
    table = write_table(survey, here / "files")
    pd.read_csv(table).drop(columns=["psfsize_r", "psfdepth_r"]).to_csv(table, index=False)
    write_pack(table, here / "pack", data_origin="legacysurvey-dr10")
    result = invoke(app, "init", "first", "--data", here / "pack")
    assert result.exit_code == 0, result.output
    assert "the data lack psfsize_r and psfdepth_r" in message(result)
    config = read_grid_config("first/grid.yaml")
    assert config.hosts.assumed() == {}
    with pytest.raises(ValueError, match="no column 'psfsize_r'"):
        Hosts(config)
    text = Path("first/grid.yaml").read_text()
    for name in ("psf_fwhm", "depth_5sig"):
        text = text.replace(f"  # {name}:", f"  {name}:")
    Path("filled.yaml").write_text(text)
    assert read_grid_config("filled.yaml").hosts.assumed() == {"psf_fwhm": 1.3, "depth_5sig": 23.6}
    assert Hosts(read_grid_config("filled.yaml")).used > 0


@pytest.mark.parametrize(
    ("lacks", "has", "line", "value"),
    [
        ("psfsize_r", "psfdepth_r", "psf_fwhm", 1.3),
        ("psfdepth_r", "psfsize_r", "depth_5sig", 23.6),
    ],
)
def test_only_what_lacks_is_named(
    survey: Path, here: Path, lacks: str, has: str, line: str, value: float
) -> None:
    table = write_table(survey, here / "files")
    pd.read_csv(table).drop(columns=[lacks]).to_csv(table, index=False)
    given = ("--data-origin", "made-up", "--psfdepth-unit", "nanomaggy^-2")
    result = invoke(app, "init", "first", "--data", table, *given)
    assert result.exit_code == 0, result.output
    said, text = message(result), Path("first/grid.yaml").read_text()
    assert f"the data lack {lacks}, which" in said
    assert f"have no {lacks}" in text
    assert has not in said
    assert has not in text
    Path("filled.yaml").write_text(text.replace(f"  # {line}:", f"  {line}:"))
    config = read_grid_config("filled.yaml")
    assert config.hosts.assumed() == {line: value}
    # The axis of what the data have contains all hosts.
    assert Hosts(config).outside == 0


def test_few_cutouts_are_counted_and_another_way_is_named(here: Path) -> None:
    write_survey(here / "few", 41, seed=3, lens_fraction=0.3, workers=1)
    table = pd.read_parquet(here / "few" / "manifest.parquet")
    train = table[table["split"] == "train"]
    result = invoke(app, "init", "mine", "--data", here / "few")
    said = message(result)
    assert f"{len(train)} cutouts for training, {train['label'].sum()} of them lenses" in said
    assert f"{41 - len(train)} for validation: too few to train on" in said
    page = " ".join(Path("mine/README.md").read_text().split())
    commands = (
        "dhs simulate --out survey --n 20000",
        "dhs init simulated --data survey",
        "dhs train simulated/train.yaml",
        "--set checkpoint=simulated/training/best.safetensors --set hosts.split=all",
    )
    for command in commands:
        assert command in said
        assert command in page
    # What the commands name is what they write.
    invoke(app, "init", "simulated", "--data", here / "few")
    assert read_config("simulated/train.yaml").train.out_dir.endswith("simulated/training")
    words = ("checkpoint=simulated/training/best.safetensors", "hosts.split=all")
    options = [word for setting in words for word in ("--set", setting)]
    planned = invoke(app, "grid", "plan", "mine/grid.yaml", *options)
    assert "simulated/training/best.safetensors" in message(planned)


def test_many_cutouts_are_enough(here: Path) -> None:
    enough = Facts("/data", training=1000, training_lenses=300, validation=400)
    assert few_to_train(enough, here) == ""
    assert "999 cutouts" in few_to_train(enough._replace(training=999), here)
    assert few_to_train(Facts(), here) == ""


def test_the_grid_says_when_all_hosts_are_right(survey: Path) -> None:
    invoke(app, "init", "first", "--data", survey)
    (line,) = [x for x in Path("first/grid.yaml").read_text().splitlines() if "  split:" in x]
    assert line.startswith("  split: val  # CHANGE: all, if the checkpoint was trained on other")


def test_without_data_the_path_is_to_be_filled_in() -> None:
    result = invoke(app, "init", "first")
    assert result.exit_code == 0
    assert "the files lack the path of your pack" in message(result)
    assert read_config("first/train.yaml").dataset.parquet_path == "YOUR_PACK"
    assert read_grid_config("first/grid.yaml").hosts.parquet_path == "YOUR_PACK"
    assert "Fill in the path of your pack first" in Path("first/README.md").read_text()


def test_a_folder_of_files_is_no_table(here: Path) -> None:
    (here / "files").mkdir()
    result = invoke(app, "init", "first", "--data", here / "files")
    assert result.exit_code == 2
    assert "a folder without a manifest.parquet; pack it first" in message(result)


def test_rates_fit_the_number_of_non_lenses(survey: Path) -> None:
    result = invoke(app, "init", "first", "--data", survey, "--json")
    report = json.loads(result.stdout)
    assert report["hosts"] < 200
    assert read_grid_config("first/grid.yaml").fpr_targets == tuple(report["fpr_targets"]) == ()
    assert "set no threshold at a false-positive rate of 0.05" in message(result)


def test_a_batch_is_not_larger_than_the_training(here: Path) -> None:
    write_survey(here / "small", 40, seed=3, lens_fraction=0.5, workers=1)
    assert invoke(app, "init", "first", "--data", here / "small").exit_code == 0
    assert read_config("first/train.yaml").train.batch_size == 16
