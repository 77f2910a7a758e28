"""The ``dhs grid`` commands: plan, run with figures, and comparison of two annuli."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from pyarrow import parquet
from typer.testing import Result

from dhs.cli import app
from dhs.preprocess.spec import PreprocessSpec
from dhs.selection.grid_result import GridResult
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


@pytest.mark.slow
def test_the_plan_is_printed_before_anything_is_written(home: Path) -> None:
    words = ("--psfdepth-unit", "mag", "--workers", 1)
    result = invoke(app, "grid", "plan", home / "new.yaml", *words)
    assert result.exit_code == 0
    shown = " ".join(result.stdout.split())
    parts = ("injections │ 80", "shards │ 15", "(10.4, 14.4) px", " s to ")
    # Cells are named by their ranges: not every host has the seeing and depth of a centre.
    for part in ("23.5-24.5 mag", '1.05-1.35"', *parts):
        assert part in shown
    for part in ("- start │", "- injecting and scoring │", "- tables and pictures │"):
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


@pytest.fixture(scope="module")
def assumed(home: Path) -> Result:
    """Run a grid on hosts of unknown seeing and depth."""
    pack = write_hosts(home / "bare")
    table = parquet.read_table(pack / "manifest.parquet")
    table = table.drop_columns(["psfsize_r", "psfdepth_r"])
    parquet.write_table(table, pack / "manifest.parquet")
    settings = [f"hosts.parquet_path={pack}", "hosts.psf_fwhm=1.2", "hosts.depth_5sig=24"]
    settings += (f"out_dir={home / 'assumed'}", "thresholds=[0.1,0.2,0.5]")
    words = [word for setting in settings for word in ("--set", setting)]
    result: Result = invoke(app, "grid", home / "new.yaml", "--workers", 1, *words)
    assert result.exit_code == 0, result.output
    return result


def test_assumed_seeing_and_depth_are_said_and_recorded(home: Path, assumed: Result) -> None:
    assert "every host has the PSF FWHM 1.2 arcsec (hosts.psf_fwhm)" in message(assumed)
    assert "every host has the 5-sigma depth 24 mag (hosts.depth_5sig)" in message(assumed)
    metadata = json.loads((home / "assumed" / "grid.json").read_text())
    assert metadata["hosts"]["assumed"] == {"psf_fwhm": 1.2, "depth_5sig": 24.0}
    assert metadata["config"]["hosts"]["psf_fwhm"] == 1.2


def test_completeness_is_printed_by_einstein_radius(home: Path, assumed: Result) -> None:
    lines = assumed.stdout.splitlines()
    assert all(len(line) <= 80 for line in lines if "─" in line or "│" in line)
    grid = GridResult(home / "assumed")
    table = pd.read_csv(home / "assumed" / "selection_function.csv")
    is_pooled = table["source_mag_bin"] == "all"
    rows = [[part.strip() for part in line.split("│")] for line in lines]
    assert any("score > 0.1" in line and "score > 0.5" in line for line in lines)
    assert any("FPR 0.25" in row for row in rows)
    assert "FPR=2.5e-01" not in assumed.output
    said = " ".join(assumed.stdout.split())
    assert "pooled over magnitude; every host with PSF FWHM 1.2 arcsec and 5-sigma depth 24" in said
    for radius in (0.8, 1.6):
        # Four thresholds take two tables.
        shown = [text for row in rows if row[1:2] == [f"{radius:g}"] for text in row[2:-1]]
        assert len(shown) == 4
        for number, threshold in enumerate(grid.thresholds):
            here = table[
                is_pooled
                & (table["theta_e"] == radius)
                & np.isclose(table["threshold"], threshold.threshold)
            ]
            share = here["n_detected"].sum() / here["n_injections"].sum()
            found = grid.completeness(threshold, ("theta_e",))
            at = list(grid.centres["theta_e"]).index(radius)
            ends = f"{found.low[at]:.3f}-{found.high[at]:.3f}"
            assert shown[number] == f"{share:.3f} ({ends})"


def test_wrong_settings_are_named(home: Path) -> None:
    result = run(home, "new", "--set", "batchsize=8")
    assert result.exit_code == 2
    assert "batchsize is not a known key (nearest: batch_size)" in message(result)
    result = run(home, "new", "--set", "batch_size=8")
    assert result.exit_code == 2
    assert "different configuration (stored against new: batch_size 4 against 8)" in message(result)
