"""``dhs show`` of a pack or manifest, which have no scores, and of chosen ids of a table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

import dhs.figures
from dhs.cli import app
from dhs.score import score
from dhs.score.rows import rows_figure, shown_rows
from dhs.score.table import read_table
from fastnorm.figure import colour_picture
from tests.command_line import invoke, message
from tests.dhs.score.score_cases import CUTOUTS, images_of, save_all
from tests.dhs.score.score_cases import model as model
from tests.dhs.score.score_cases import pack as pack
from tests.dhs.score.test_score_known import DEC, RA, add_columns
from tests.dhs.score.test_score_known import sky_pack as sky_pack

MINUS = "\N{MINUS SIGN}"


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    kept: list[Figure] = []
    write = dhs.figures.save

    def keep(figure: Figure, path: Path, *options: Any) -> None:
        kept.append(figure)
        write(figure, path, *options)

    monkeypatch.setattr(dhs.figures, "save", keep)
    return kept


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def pictures(figure: Figure) -> list[Any]:
    return [np.asarray(axes.get_images()[0].get_array()) for axes in figure.axes]


def test_rows_of_a_pack_have_id_position_and_label(
    sky_pack: Path, tmp_path: Path, drawn: list[Figure]
) -> None:
    out = tmp_path / "p.png"
    result = invoke(app, "show", sky_pack, "--limit", 3, "--out", out, "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert report["shown"] == [
        {"id": f"galaxy-{k:03d}", "row": k, "label": k % 2} for k in range(3)
    ]
    assert (report["written"], report["out"]) == (3, str(out))
    assert imread(out).shape[1] > 300
    (figure,) = drawn
    for picture, image in zip(pictures(figure), images_of(sky_pack)[:3], strict=True):
        np.testing.assert_array_equal(picture, colour_picture(image))
    captions = texts(figure)[-3:]
    for k, caption in enumerate(captions):
        assert caption.splitlines() == [
            f"row {k}  {'lens' if k % 2 else 'non-lens'}",
            f"galaxy-{k:03d}",
            f"{RA[k]:.5f}  {DEC[k]:+.5f}".replace("-", MINUS),
        ]
    assert texts(figure)[0] == f"3 of {CUTOUTS} cutouts: {sky_pack.name}"
    assert "origin of the cutouts: made-up" in " ".join(texts(figure)).replace("\n", " ")


def test_ids_are_drawn_in_the_order_given(sky_pack: Path, drawn: list[Figure]) -> None:
    out = sky_pack.parent / "p.png"
    ids = ["--ids", "galaxy-019", "--ids", "galaxy-004"]
    result = invoke(app, "show", sky_pack, *ids, "--out", out, "--json")
    assert [item["row"] for item in json.loads(result.stdout)["shown"]] == [19, 4]
    unplaced, _ = texts(drawn[0])[-2:]
    assert "position not known" in unplaced


@pytest.mark.parametrize("kind", ["manifest", "csv", "pack's manifest"])
def test_manifests_are_drawn(sky_pack: Path, tmp_path: Path, kind: str) -> None:
    images = images_of(sky_pack)
    save_all(tmp_path / "cutouts", images[:6])
    mask = np.zeros((33, 33), bool)
    mask[2:9] = True
    np.save(tmp_path / "mask.npy", mask)
    names = [f"cutouts/galaxy-{k:03d}.npz" for k in range(6)]
    frame = pd.DataFrame({"cutout_path": names, "mask_path": "mask.npy"})
    path = {
        "manifest": tmp_path / "m.parquet",
        "csv": tmp_path / "m.csv",
        "pack's manifest": sky_pack / "manifest.parquet",
    }[kind]
    if kind == "manifest":
        frame.to_parquet(path)
    elif kind == "csv":
        frame.to_csv(path, index=False)
    found = shown_rows(path, limit=2)
    assert [item.id for item in found.rows] == ["galaxy-000", "galaxy-001"]
    assert found.rejected == []
    for item in found.rows:
        np.testing.assert_array_equal(item.pixels, images[item.row])
        if kind != "pack's manifest":
            assert item.mask is not None
            assert (item.mask[0] == mask).all()
            assert np.isnan(item.label)


def test_positions_of_files_are_used(tmp_path: Path) -> None:
    image = np.random.default_rng(0).normal(size=(33, 33, 3)).astype(np.float32)
    np.savez(tmp_path / "a.npz", cutout=image, meta_ra=12.5, meta_dec=-3.25)
    pd.DataFrame({"cutout_path": ["a.npz", "gone.npz"]}).to_csv(tmp_path / "m.csv", index=False)
    found = shown_rows(tmp_path / "m.csv")
    assert (found.rows[0].ra, found.rows[0].dec) == (12.5, -3.25)
    assert [item.path.name for item in found.rejected] == ["gone.npz"]
    result = invoke(app, "show", tmp_path / "m.csv", "--out", tmp_path / "p.png")
    assert result.exit_code == 1
    assert "1 of 2 cutouts drawn" in result.stdout


def test_rows_without_positions_say_so_once(pack: Path) -> None:
    figure = rows_figure(shown_rows(pack, limit=4))
    said = " ".join(texts(figure))
    assert said.count("positions not known") == 1
    assert "position not known" not in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{pack}", "--top", 3], "--top 3: {pack} has no scores, as it is no table of dhs score"),
        (["{pack}", "--ids", "a", "--ids", "galaxy-001"], "has no cutout 'a'"),
        (["{pack}", "--ids", "galaxy-001", "--ids", "galaxy-001"], "is given twice"),
        (["{pack}", "--ids", "galaxy-0001"], "did you mean galaxy-001"),
        (["{pack}", "--ids", "galaxy-001", "--limit", 1], "exclude each other"),
        (["{scores}", "--limit", 3], "--limit 3: {scores} is a table of scores"),
        (["{scores}", "--ids", "b"], "has no cutout 'b'"),
        (["{scores}", "--ids", "galaxy-001", "--top", 3], "exclude each other"),
        (["{scores}x.parquet"], "does not exist"),
        (["{pack}/shard-00000.npy"], "expected .parquet or .csv"),
    ],
)
def test_wrong_arguments(
    model: Path, sky_pack: Path, tmp_path: Path, arguments: list[object], words: str
) -> None:
    scores = tmp_path / "scores.parquet"
    score(model, [sky_pack], scores)
    names = {"pack": sky_pack, "scores": scores}
    given = [str(word).format(**names) for word in arguments]
    result = invoke(app, "show", *given, "--out", tmp_path / "p.png")
    assert result.exit_code == 2
    assert words.format(**names) in message(result)
    assert not (tmp_path / "p.png").exists()


def test_ids_of_a_table_keep_their_rank(
    model: Path, sky_pack: Path, tmp_path: Path, drawn: list[Figure]
) -> None:
    scores = tmp_path / "scores.parquet"
    score(model, [sky_pack], scores)
    table = read_table(scores)
    order = np.argsort(-table.logits, kind="stable")
    ids = [table.ids[order[6]], table.ids[order[2]]]
    result = invoke(
        app, "show", scores, "--ids", ids[0], "--ids", ids[1], "--out", tmp_path / "p.png", "--json"
    )
    assert [item["id"] for item in json.loads(result.stdout)["shown"]] == ids
    captions = texts(drawn[0])[-2:]
    assert [caption.split()[0] for caption in captions] == ["7", "3"]


def test_a_pack_of_columns_that_are_not_allowed_notes_them(sky_pack: Path) -> None:
    add_columns(sky_pack, label=[7] * CUTOUTS)
    result = invoke(app, "show", sky_pack, "--out", sky_pack.parent / "p.png")
    assert result.exit_code == 0
    assert "20 values of label are not 0 or 1" in message(result)
