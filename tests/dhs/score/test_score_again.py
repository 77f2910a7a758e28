"""A table of scores that is there already: updated, refused in words, or replaced on request."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dhs.cli import app
from dhs.score import score
from dhs.score.table import read_table
from tests.command_line import invoke, message
from tests.dhs.model.model_cases import one_thread as one_thread
from tests.dhs.score.score_cases import CUTOUTS, images_of, save, save_all, write_model
from tests.dhs.score.score_cases import model as model
from tests.dhs.score.score_cases import pack as pack


@pytest.fixture
def files(pack: Path, tmp_path: Path) -> Path:
    return save_all(tmp_path / "files", images_of(pack)[:4])


def scored(*arguments: Any) -> Any:
    return invoke(app, "score", *arguments)


@pytest.mark.parametrize("change", ["weights", "name", "ensemble", "pack", "files"])
def test_a_table_of_another_run_is_refused_in_words(
    model: Path, pack: Path, files: Path, tmp_path: Path, change: str
) -> None:
    own, out = tmp_path / "best.safetensors", tmp_path / "scores.parquet"
    own.write_bytes(model.read_bytes())
    data, more = [pack], []
    if change == "files":
        data = [files]
    score(own, data, out)
    before = out.read_bytes()
    if change == "weights":
        write_model(own, seed=2)
        expected = "the weights of best.safetensors changed"
    elif change == "name":
        own = write_model(tmp_path / "other.safetensors", seed=2)
        expected = "scored with best.safetensors, and this run uses other.safetensors"
    elif change == "ensemble":
        more = ["--ensemble", write_model(tmp_path / "other.safetensors", seed=2)]
        expected = "and this run uses best.safetensors, other.safetensors"
    elif change == "pack":
        data = [files]
        expected = f"of {pack}, and this run is of files"
    else:
        data = [save(tmp_path / "new.npz", images_of(pack)[5]), files / "galaxy-001.npz"]
        expected = "3 of its 4 files are not among those of this run, the first"
    result = scored(own, *data, *more, "--out", out)
    assert result.exit_code == 2
    assert expected in message(result)
    assert "--overwrite" in message(result)
    assert not re.search("[0-9a-f]{16}", message(result).replace(str(tmp_path), ""))
    assert out.read_bytes() == before
    assert scored(own, *data, *more, "--out", out, "--overwrite").exit_code == 0
    fresh = tmp_path / "fresh.parquet"
    assert scored(own, *data, *more, "--out", fresh).exit_code == 0
    assert out.read_bytes() == fresh.read_bytes()


def test_a_mended_or_an_added_file_needs_no_permission(
    model: Path, pack: Path, files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, broken = tmp_path / "scores.parquet", files / "galaxy-002.npz"
    broken.write_bytes(b"PK")
    assert scored(model, files, "--out", out).exit_code == 1
    save(broken, images_of(pack)[2])
    monkeypatch.chdir(tmp_path)
    assert scored(model, "files", "--out", "scores.parquet").exit_code == 0
    save(files / "galaxy-009.npz", images_of(pack)[9])
    assert scored(model, files, "--out", out).exit_code == 0
    assert len(read_table(out)) == 5
    score(model, [files], tmp_path / "fresh.parquet")
    assert out.read_bytes() == (tmp_path / "fresh.parquet").read_bytes()


@pytest.mark.parametrize("name", ["scores.parquet", "scores.csv"])
@pytest.mark.parametrize("options", [[], ["--overwrite"]])
def test_other_files_are_never_replaced(
    model: Path, pack: Path, tmp_path: Path, name: str, options: list[str]
) -> None:
    out = tmp_path / name
    out.write_text("mine")
    result = scored(model, pack, "--out", out, *options)
    assert result.exit_code == 2
    assert "give another name, or delete it" in message(result)
    assert out.read_text() == "mine"


def test_a_copy_is_replaced_with_its_table(model: Path, pack: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.csv"
    score(model, [pack], out)
    other = write_model(tmp_path / "other.safetensors", seed=2)
    before = out.read_bytes()
    with pytest.raises(ValueError, match=r"scores\.parquet has the scores of another run"):
        score(other, [pack], out)
    assert out.read_bytes() == before
    score(other, [pack], out, overwrite=True)
    assert out.read_bytes() != before
    assert len(read_table(out.with_suffix(".parquet"))) == CUTOUTS


def test_the_origin_of_plain_files_is_recorded(model: Path, files: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.parquet"
    assert scored(model, files, "--out", out).exit_code == 0
    assert read_table(out).metadata["data_origin"] is None
    assert scored(model, files, "--out", out, "--data-origin", "ls-dr10").exit_code == 0
    assert read_table(out).metadata["data_origin"] == "ls-dr10"
    empty = scored(model, files, "--out", out, "--data-origin", " ")
    assert empty.exit_code == 2
    assert "data_origin is empty" in message(empty)


def test_the_origin_of_a_pack_is_not_contradicted(model: Path, pack: Path, tmp_path: Path) -> None:
    out = tmp_path / "scores.parquet"
    plain = score(model, [pack], tmp_path / "plain.parquet").metadata["data_origin"]
    assert plain == "made-up"
    assert score(model, [pack], out, data_origin="made-up").metadata["data_origin"] == "made-up"
    assert out.read_bytes() == (tmp_path / "plain.parquet").read_bytes()
    with pytest.raises(ValueError, match=r"data_origin='other' contradicts .*pack.*'made-up'"):
        score(model, [pack], tmp_path / "other.parquet", data_origin="other")
    # A CSV has no metadata, so its origin is not known.
    listed = tmp_path / "list.csv"
    np.savez(tmp_path / "one.npz", cutout=images_of(pack)[0].transpose(1, 2, 0))
    listed.write_text("cutout_path\none.npz\n")
    found = score(model, [listed], tmp_path / "listed.parquet", data_origin="other")
    assert found.metadata["data_origin"] == "other"


def printed(result: Any) -> list[list[str]]:
    """Return the cells of the table of the highest scores, without its head."""
    lines = [line for line in result.stdout.splitlines() if line.startswith("│")]
    return [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]


@pytest.mark.parametrize("bias", [0.0, 30.0])
def test_scores_that_differ_look_different(
    pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bias: float
) -> None:
    model = write_model(tmp_path / "model.safetensors", bias=bias)
    out = tmp_path / "scores.parquet"
    result = scored(model, pack, "--out", out)
    rows, table = printed(result), read_table(out)
    order = np.argsort(-table.logits, kind="stable")[:10]
    logits = table.logits[order]
    assert len(rows) == 10
    different = len(np.unique(logits))
    assert different > 5
    wide = 2 if bias else 1
    assert len({tuple(row[1 : 1 + wide]) for row in rows}) == different
    # At 30, all scores are 1 to 12 digits, and only logits tell them apart.
    assert [row[1] for row in rows][:1] == (["1.000000"] if bias else [rows[0][1]])
    # The last column is the label.
    assert {len(row) for row in rows} == {2 + wide}
    values = [float(row[wide]) for row in rows]
    assert values == pytest.approx(logits if bias else table.scores[order], abs=1e-3)
    # The JSON has all digits.
    listed = json.loads(scored(model, pack, "--out", out, "--json").stdout)["highest"]
    assert [item["score"] for item in listed] == table.scores[order].tolist()
    assert [item["logit"] for item in listed] == pytest.approx(logits.tolist())
