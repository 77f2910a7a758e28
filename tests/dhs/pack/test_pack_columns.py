"""Tables whose columns have the names of another survey: labels, ids, and files after a pattern."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import pytest
from pyarrow import parquet

from dhs.cli import app
from dhs.pack import open_pack, write_pack
from tests.command_line import invoke, message

TARGETS = ["0039627", "0039628", "39633123456789012"]
LABELS = [1, 0, 0]
PATTERN = "cutouts/{TARGETID}.npy"
OPTIONS = ("--label-col", "IS_LENS", "--id-col", "TARGETID", "--path-pattern", PATTERN)
TEXT = "\n".join(f"{TARGETS[k]},{k + 0.3},{k - 1.0},{LABELS[k]}" for k in range(3))


@pytest.fixture
def table(tmp_path: Path) -> Path:
    (tmp_path / "cutouts").mkdir()
    for k, name in enumerate(TARGETS):
        pixels = np.random.default_rng(k).normal(0, 0.01, (3, 101, 101)).astype(np.float32)
        np.save(tmp_path / "cutouts" / f"{name}.npy", pixels)
    path = tmp_path / "candidates.csv"
    path.write_text(f"TARGETID,RA,DEC,IS_LENS\n{TEXT}\n")
    return path


def test_a_table_of_another_survey_is_packed(table: Path) -> None:
    out = table.parent / "pack"
    result = invoke(app, "pack", table, *OPTIONS, "--data-origin", "made-up", "--out", out)
    assert result.exit_code == 0, message(result)
    packed = open_pack(out)
    # Leading zeros and long integers stay as they are written.
    assert packed.table["galaxy_id"].tolist() == TARGETS
    assert packed.table["label"].tolist() == packed.table["IS_LENS"].tolist() == LABELS
    assert packed.table["cutout_path"].tolist() == [f"cutouts/{name}.npy" for name in TARGETS]
    assert packed.table["ra"].tolist() == [0.3, 1.3, 2.3]
    assert packed.metadata["positions"] == "manifest"
    given = {"label_col": "IS_LENS", "id_col": "TARGETID", "path_pattern": PATTERN}
    assert packed.metadata["columns"] == given
    assert invoke(app, "pack", "verify", out).exit_code == 0
    again = invoke(app, "pack", table, *OPTIONS, "--data-origin", "made-up", "--out", out)
    assert "already complete" in again.output


def test_other_columns_are_another_pack(table: Path) -> None:
    frame = pd.read_csv(table, dtype={"TARGETID": str}).assign(VI=[0, 1, 0])
    frame.to_csv(table, index=False)
    made = ("pack", table, "--out", table.parent / "pack", "--data-origin", "made-up")
    assert invoke(app, *made, *OPTIONS).exit_code == 0
    result = invoke(app, *made, "--label-col", "VI", *OPTIONS[2:])
    assert result.exit_code == 2
    assert "columns.label_col is IS_LENS in the folder and VI in this run" in message(result)
    assert "give --overwrite to replace" in message(result)
    assert "overwrite=True" not in message(result)
    with pytest.raises(ValueError, match="give overwrite=True to replace this one") as error:
        write_pack(
            table,
            table.parent / "pack",
            data_origin="made-up",
            label_col="VI",
            id_col="TARGETID",
            path_pattern=PATTERN,
        )
    assert "--overwrite" not in str(error.value)


def test_columns_that_lack_name_the_options(table: Path) -> None:
    result = invoke(app, "pack", table, "--data-origin", "made-up", "--out", table.parent / "pack")
    assert result.exit_code == 2
    said = message(result)
    assert "no column cutout_path, label; its columns are TARGETID, RA, DEC, IS_LENS." in said
    assert "--path-pattern 'cutouts/{NAME}.fits'" in said
    assert "--label-col NAME" in said
    assert "--id-col NAME" in said
    assert "path_pattern" not in said


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("cutouts/{NOPE}.npy", "no column 'NOPE'"),
        ("cutouts/{TARGETID:>9}.npy", "no column 'TARGETID:>9'"),
        ("cutouts/{TARGETID.__class__}.npy", "no column 'TARGETID.__class__'"),
        ("cutouts/{}.npy", "no column ''"),
        ("cutouts/{TARGETID.npy", "a brace without its partner"),
        ("cutouts/TARGETID}.npy", "a brace without its partner"),
        ("cutouts/one.npy", "names no column"),
        ("../{TARGETID}.npy", "leads out of the manifest's folder"),
        ("{TARGETID}/../../x{TARGETID}.npy", "leads out of the manifest's folder"),
        ("s3://bucket/{TARGETID}.npy", "address"),
        ("cutouts/{RA}.npy", "'RA' is of type double"),
    ],
)
def test_patterns_hold_columns_and_stay_inside(table: Path, pattern: str, reason: str) -> None:
    # A Parquet file has types of its own; in a CSV, such a column is read as text.
    path = table.with_suffix(".parquet")
    frame = pd.read_csv(table, dtype={"TARGETID": str})
    frame.to_parquet(path)
    for command in ("pack", "depth"):
        out = table.parent / f"out-{command}.parquet"
        given = ("--data-origin", "made-up") if command == "pack" else ()
        options = ("--path-pattern", pattern, "--label-col", "IS_LENS", *given, "--out", out)
        result = invoke(app, command, path, *options)
        assert result.exit_code == 2, command
        assert reason in message(result), command
        assert not out.exists()


def test_values_lead_nowhere_else(table: Path) -> None:
    for value in ("../../etc/passwd", ""):
        columns = {"TARGETID": [value, *TARGETS[1:]], "IS_LENS": LABELS}
        path = table.parent / "bad.parquet"
        parquet.write_table(pyarrow.table(columns), path)
        for pattern in ("{TARGETID}.npy", "{TARGETID}/x.npy"):
            with pytest.raises(ValueError, match=r"leads out of the|'TARGETID' is empty in 1 row"):
                write_pack(
                    path,
                    table.parent / "pack",
                    data_origin="made-up",
                    path_pattern=pattern,
                    label_col="IS_LENS",
                )


def test_a_column_that_is_there_is_not_replaced(table: Path) -> None:
    frame = pd.read_csv(table, dtype={"TARGETID": str})
    frame.assign(label=[0, 0, 0]).to_csv(table, index=False)
    result = invoke(
        app, "pack", table, *OPTIONS, "--data-origin", "made-up", "--out", table.parent / "pack"
    )
    assert result.exit_code == 2
    assert "has a column label already, and it differs from 'IS_LENS'" in message(result)
    assert "--label-col" in message(result)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_depths_come_first_and_the_same_options_pack_the_result(table: Path, suffix: str) -> None:
    measured = table.parent / f"measured{suffix}"
    result = invoke(app, "depth", table, *OPTIONS, "--psf-fwhm", "1.3", "--out", measured)
    assert result.exit_code == 0, message(result)
    for k, options in enumerate([OPTIONS, ()]):
        out = table.parent / f"pack-{k}"
        result = invoke(app, "pack", measured, *options, "--data-origin", "made", "--out", out)
        assert result.exit_code == 0, message(result)
        assert open_pack(out).table["label"].tolist() == LABELS
        assert [int(name) for name in open_pack(out).table["galaxy_id"]] == list(map(int, TARGETS))
