"""The ``dhs grid`` commands: plan, run with figures, and comparison of two annuli."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from dhs.cli import app
from dhs.preprocess.spec import PreprocessSpec
from tests.command_line import invoke, message
from tests.dhs.model.model_cases import one_thread  # noqa: F401
from tests.dhs.selection.grid_runs import grid, write_hosts, write_model

PICTURES = ["completeness.png", "maps.png", "scores.png", "gallery.png"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("grid")
    write_hosts(folder / "pack", psfdepth_r=24.0)
    for name, radii in (("new", (10.4, 14.4)), ("old", (8.0, 12.0))):
        spec = PreprocessSpec(annulus_r_in=radii[0], annulus_r_out=radii[1])
        model = write_model(folder / f"{name}.safetensors", spec)
        settings = grid(folder / "pack", model, folder / name, source_mag_bins=(20.0, 21.0, 22.0))
        text = yaml.safe_dump(settings.model_dump(mode="json"))
        (folder / f"{name}.yaml").write_text(text)
    return folder


def run(home: Path, name: str, *more: str) -> Any:
    options = ("--psfdepth-unit", "mag", "--workers", "1", *more)
    return invoke(app, "grid", home / f"{name}.yaml", *options)


def test_a_unit_that_nobody_declares_is_asked_for(home: Path) -> None:
    result = invoke(app, "grid", "plan", home / "new.yaml")
    assert result.exit_code == 2
    assert "--psfdepth-unit mag" in message(result)
    assert not (home / "new").exists()


def test_the_plan_is_printed_before_anything_is_written(home: Path) -> None:
    result = invoke(app, "grid", "plan", home / "new.yaml", "--psfdepth-unit", "mag")
    assert result.exit_code == 0
    shown = " ".join(result.stdout.split())
    for part in ("24 mag", '1.2"', "injections │ 80", "shards │ 15", "(10.4, 14.4) px"):
        assert part in shown
    assert not (home / "new").exists()


def test_two_annuli_are_run_and_compared(home: Path) -> None:
    for name in ("new", "old"):
        result = run(home, name)
        assert result.exit_code == 0, result.output
        assert "80 injections in 4 cells" in result.stdout
        said = " ".join(result.output.split())
        assert "cell (false_positives.csv)" in said
        assert "the threshold is set by 10 false positives" in said
        assert "4 cells have fewer than 30 hosts" in said
        for picture in PICTURES:
            assert f"picture: {home / name / picture}" in result.stdout.replace("\n", "")
            assert (home / name / picture).stat().st_size > 10_000
    report = json.loads(run(home, "new", "--json").stdout)
    assert (report["scored"], report["injections"], report["failed"]) == (0, 80, 0)
    compared = invoke(app, "grid", "compare", home / "old", home / "new", "--out", home / "both")
    assert compared.exit_code == 0, compared.output
    metadata = json.loads((home / "both" / "comparison.json").read_text())
    assert any("annulus_r_in" in line for line in metadata["preprocessing_differs"])
    table = pd.read_csv(home / "both" / "comparison.csv")
    assert len(table)


def test_fixed_thresholds_need_no_negatives_scored(home: Path) -> None:
    out = home / "fixed"
    settings = ("fpr_targets=[]", f"out_dir={out}", "injections_per_cell=1")
    result = run(home, "new", *(word for setting in settings for word in ("--set", setting)))
    assert result.exit_code == 0, result.output
    assert not (out / "negatives.parquet").exists()
    assert all((out / picture).exists() for picture in PICTURES)


def test_wrong_settings_are_named(home: Path) -> None:
    result = run(home, "new", "--set", "batchsize=8")
    assert result.exit_code == 2
    assert "batchsize is not a known key (nearest: batch_size)" in message(result)
    result = run(home, "new", "--set", "batch_size=8")
    assert result.exit_code == 2
    assert "different configuration (stored against new: batch_size 4 against 8)" in message(result)
