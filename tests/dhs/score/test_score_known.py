"""A table of scores carries the positions, labels and addresses that its input knows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import pytest
from astropy.io import fits, votable
from astropy.table import Table
from pyarrow import parquet

from dhs.cli import app
from dhs.score import score
from dhs.score.table import read_table
from tests.command_line import invoke, message
from tests.dhs.score.score_cases import CUTOUTS, images_of, save, save_all
from tests.dhs.score.score_cases import model as model
from tests.dhs.score.score_cases import pack as pack

RA, DEC = np.linspace(10, 11, CUTOUTS), np.linspace(-1, 0.5, CUTOUTS)


def add_columns(pack: Path, **columns: Any) -> Path:
    """Add columns to the manifest of a pack."""
    table = parquet.read_table(pack / "manifest.parquet")
    for name, values in columns.items():
        if name in table.column_names:
            table = table.drop_columns(name)
        table = table.append_column(name, pyarrow.array(values))
    parquet.write_table(table, pack / "manifest.parquet")
    return pack


@pytest.fixture
def sky_pack(pack: Path, tmp_path: Path) -> Path:
    """Copy the pack, with positions; the last one is not known."""
    copy = tmp_path / "pack"
    copy.mkdir()
    for file in pack.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    files = [f"galaxy-{k:03d}.npz" for k in range(CUTOUTS)]
    return add_columns(copy, ra=[*RA[:-1], None], dec=[*DEC[:-1], None], cutout_path=files)


def scored(model: Path, data: Path, out: Path) -> pd.DataFrame:
    score(model, [data], out, batch_size=8)
    return pd.read_parquet(out).set_index("galaxy_id")


def test_a_pack_gives_row_position_and_label(model: Path, sky_pack: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.parquet"
    rows = scored(model, sky_pack, out)
    assert rows.index.tolist() == [f"galaxy-{k:03d}" for k in range(CUTOUTS)]
    assert rows["number"].tolist() == list(range(CUTOUTS))
    assert set(rows["path"]) == {str(sky_pack)}
    assert rows["ra"].tolist()[:-1] == RA.tolist()[:-1]
    assert rows["dec"].tolist()[:-1] == DEC.tolist()[:-1]
    assert rows.iloc[-1][["ra", "dec"]].isna().all()
    assert rows["label"].tolist() == [k % 2 for k in range(CUTOUTS)]
    known = read_table(out).known
    np.testing.assert_array_equal(known["dec"], [*DEC[:-1], np.nan])


def test_files_give_their_own_position_and_a_stack_its_rows(
    model: Path, pack: Path, tmp_path: Path
) -> None:
    folder = save_all(tmp_path / "cutouts", images_of(pack)[:2])
    image = images_of(pack)[2].transpose(1, 2, 0)
    np.savez(folder / "placed.npz", cutout=image, meta_ra=10.25, meta_dec=-0.5)
    stack = images_of(pack)[3:6].copy()
    stack[1, :, :, :] = np.nan
    np.save(folder / "stack.npy", stack)
    rows = scored(model, folder, tmp_path / "scores.parquet")
    assert rows.loc["placed", ["ra", "dec"]].tolist() == [10.25, -0.5]
    assert rows.loc["galaxy-000", ["ra", "dec", "label", "number"]].isna().all()
    assert rows.loc["stack[000002]", "number"] == 2
    assert rows.loc["stack[000002]", "path"] == str(folder / "stack.npy")


def test_a_manifest_gives_its_columns_and_files_fill_the_gaps(
    model: Path, pack: Path, tmp_path: Path
) -> None:
    save(tmp_path / "a.npz", images_of(pack)[0])
    image = images_of(pack)[1].transpose(1, 2, 0)
    np.savez(tmp_path / "b.npz", cutout=image, meta_ra=5.0, meta_dec=6.0)
    (tmp_path / "m.csv").write_text("cutout_path,ra,dec,label\na.npz,1.5,2.5,1\nb.npz,,,\n")
    rows = scored(model, tmp_path / "m.csv", tmp_path / "scores.parquet")
    assert rows.loc["a", ["ra", "dec", "label"]].tolist() == [1.5, 2.5, 1]
    assert rows.loc["b", ["ra", "dec"]].tolist() == [5.0, 6.0]
    assert pd.isna(rows.loc["b", "label"])
    assert rows["number"].isna().all()


def test_columns_that_are_none_are_said_and_do_not_stop_the_scores(
    model: Path, pack: Path, tmp_path: Path
) -> None:
    save(tmp_path / "a.npz", images_of(pack)[0])
    (tmp_path / "m.csv").write_text("cutout_path,ra,dec,label\na.npz,00:01:02,95,lens\n")
    out = tmp_path / "scores.parquet"
    result = invoke(app, "score", model, tmp_path / "m.csv", "--out", out)
    assert result.exit_code == 0
    for name, value, allowed in [
        ("ra", "00:01:02", "degrees"),
        ("dec", "95", "degrees"),
        ("label", "lens", "0 or 1"),
    ]:
        assert f"m.csv: 1 value of {name} is not {allowed}" in message(result), name
        assert f"the first '{value}' in row 0" in message(result)
    assert pd.read_parquet(out)[["ra", "dec", "label"]].isna().all(axis=None)


def test_another_label_is_another_table(model: Path, sky_pack: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.parquet"
    scored(model, sky_pack, out)
    add_columns(sky_pack, label=np.ones(CUTOUTS, np.int8))
    assert scored(model, sky_pack, out)["label"].tolist() == [1] * CUTOUTS


def test_an_older_table_is_read(model: Path, sky_pack: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.parquet"
    scored(model, sky_pack, out)
    table = parquet.read_table(out).drop_columns(["number", "ra", "dec", "label"])
    parquet.write_table(table, out)
    assert read_table(out).known == {}
    parquet.write_table(table.append_column("ra", [["00:01:02"] * CUTOUTS]), out)
    with pytest.raises(ValueError, match=r"scores.parquet: the column ra is string, not a number"):
        read_table(out)


@pytest.mark.parametrize("suffix", [".csv", ".fits", ".vot"])
def test_other_formats_lie_beside_the_table(
    model: Path, sky_pack: Path, tmp_path: Path, suffix: str
) -> None:
    out = tmp_path / f"scores{suffix}"
    for state in ("scored", "already scored with these settings"):
        out.unlink(missing_ok=True)
        result = invoke(app, "score", model, sky_pack, "--out", out)
        assert result.exit_code == 0
        said = " ".join(result.stdout.split())
        assert f"{CUTOUTS} cutouts {state}, in" in said
        assert "scores.parquet" in said
        assert out.name in said
    table = read_table(out.with_suffix(".parquet"))
    if suffix == ".csv":
        rows = pd.read_csv(out)
    else:
        found = Table.read(out)
        assert str(found["ra"].unit) == "deg"
        rows = found.to_pandas()
    # The copy is a list of candidates, the highest first; the table is in the order of the input.
    assert table.known["number"].tolist() == list(range(CUTOUTS))
    order = np.argsort(-table.logits, kind="stable")
    assert order.tolist() != list(range(CUTOUTS))
    assert rows.columns[0] == "rank"
    assert rows["rank"].tolist() == list(range(1, CUTOUTS + 1))
    assert rows["galaxy_id"].astype(str).tolist() == table.ids[order].tolist()
    np.testing.assert_array_equal(rows["score"], table.scores[order])
    np.testing.assert_array_equal(rows["logit"].astype(np.float32), table.logits[order])
    np.testing.assert_array_equal(rows["ra"], table.known["ra"][order])
    assert rows["label"].tolist() == [k % 2 for k in order]
    assert rows["file"].astype(str).tolist() == [f"galaxy-{k:03d}.npz" for k in order]
    if suffix == ".fits":
        assert json.loads(fits.getheader(out, 1)["DHS"]) == table.metadata
    if suffix == ".vot":
        infos = {info.name: info.value for info in votable.parse(out).infos}
        assert json.loads(infos["dhs"]) == table.metadata


@pytest.mark.parametrize("suffix", [".fits", ".vot"])
def test_what_is_not_known_stays_so(model: Path, pack: Path, tmp_path: Path, suffix: str) -> None:
    folder = save_all(tmp_path / "cutouts", images_of(pack)[:2])
    (folder / "galaxy-001.npz").rename(folder / "été.npz")
    score(model, [folder], tmp_path / f"scores{suffix}")
    rows = Table.read(tmp_path / f"scores{suffix}")
    for name in ("number", "label"):
        assert rows[name].mask.all(), name
    names = ["galaxy-000", r"\xe9t\xe9" if suffix == ".fits" else "été"]
    assert sorted(str(name) for name in rows["galaxy_id"]) == sorted(names)


def test_evaluations_ask_for_the_parquet_beside(
    model: Path, sky_pack: Path, tmp_path: Path
) -> None:
    score(model, [sky_pack], tmp_path / "scores.fits")
    with pytest.raises(ValueError, match=r"scores.fits is .*give .*scores.parquet"):
        read_table(tmp_path / "scores.fits")
    score(model, [sky_pack], tmp_path / "scores.csv")
    with pytest.raises(ValueError, match=r"scores.csv is a copy .*give .*scores.parquet"):
        read_table(tmp_path / "scores.csv")


def test_a_parquet_of_another_kind_beside_is_kept(
    model: Path, sky_pack: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.parquet").write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"mine.parquet.* is not a table of scores"):
        score(model, [sky_pack], tmp_path / "mine.csv")
    assert (tmp_path / "mine.parquet").read_bytes() == b"mine"
    result = invoke(app, "score", model, sky_pack, "--out", tmp_path / "scores.txt")
    assert result.exit_code == 2
    assert "must end in .parquet, .csv, .fits or .vot" in message(result)


def test_the_highest_are_printed_with_position_label_and_flat_bands(
    model: Path, sky_pack: Path, tmp_path: Path
) -> None:
    out = tmp_path / "scores.parquet"
    given = ("score", model, sky_pack, "--out", out, "--show", CUTOUTS)
    lines = [line for line in invoke(app, *given).stdout.splitlines() if line[:1] in "│┃"]
    cells = [line.replace("┃", "│").strip("│").split("│") for line in lines]
    head, *rows = [[cell.strip() for cell in row] for row in cells]
    assert head == ["id", "score", "ra", "dec", "label"]
    table = read_table(out)
    for row, k in zip(rows, np.argsort(-table.logits, kind="stable"), strict=True):
        place = ["", ""] if k == CUTOUTS - 1 else [f"{RA[k]:.5f}", f"{DEC[k]:.5f}"]
        assert [row[0], *row[2:]] == [f"galaxy-{k:03d}", *place, str(k % 2)]
    # Files without positions and labels have neither column; NaN and zeros are marked.
    images = images_of(sky_pack)[:3].copy()
    images[1, 0], images[2, :2] = np.nan, 0
    folder = save_all(tmp_path / "cutouts", images)
    result = invoke(app, "score", model, folder, "--out", tmp_path / "flat.parquet")
    lines = [line for line in result.stdout.splitlines() if line[:1] in "│┃"]
    cells = [line.replace("┃", "│").strip("│").split("│") for line in lines]
    assert [cell.strip() for cell in cells[0]] == ["id", "score", "flat or NaN bands"]
    flat = {row[0].strip(): row[2].strip() for row in cells[1:]}
    assert flat == {"galaxy-000": "", "galaxy-001": "1 of 3", "galaxy-002": "2 of 3"}


def test_an_older_pack_without_file_names_is_scored(
    model: Path, sky_pack: Path, tmp_path: Path
) -> None:
    table = parquet.read_table(sky_pack / "manifest.parquet").drop_columns("cutout_path")
    parquet.write_table(table, sky_pack / "manifest.parquet")
    score(model, [sky_pack], tmp_path / "scores.csv")
    assert read_table(tmp_path / "scores.parquet").files is None
    rows = pd.read_csv(tmp_path / "scores.csv")
    assert "file" not in rows
    assert rows["rank"].tolist() == list(range(1, CUTOUTS + 1))


def test_pictures_of_a_csv_ask_for_the_parquet(model: Path, sky_pack: Path, tmp_path: Path) -> None:
    score(model, [sky_pack], tmp_path / "early.csv")
    result = invoke(app, "show", tmp_path / "early.csv", "--out", tmp_path / "p.png")
    assert result.exit_code == 2
    assert f"give {tmp_path / 'early.parquet'}" in message(result)
    assert "provenance" not in message(result)
