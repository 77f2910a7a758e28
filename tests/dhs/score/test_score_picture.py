"""``dhs show`` draws the cutouts with the highest scores, and marks masked pixels."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from pyarrow import parquet

from dhs.cli import app
from dhs.score import score
from dhs.score.picture import best_figure, read_best
from dhs.score.table import ScoreTable, read_table
from fastnorm.figure import colour_picture
from tests.command_line import invoke, message
from tests.dhs.data.data_cases import add_masks
from tests.dhs.score.score_cases import images_of, save_all
from tests.dhs.score.score_cases import model as model
from tests.dhs.score.score_cases import pack as pack
from tests.dhs.score.test_score_known import add_columns
from tests.dhs.score.test_score_known import sky_pack as sky_pack
from tests.dhs.train.training_runs import CUTOUTS, write_pack


@pytest.fixture
def masked_pack(tmp_path: Path) -> Path:
    data = write_pack(tmp_path / "masked")
    add_masks(data)
    ra, dec = np.linspace(10, 11, CUTOUTS), np.linspace(-1, 0.5, CUTOUTS)
    return add_columns(data, ra=[*ra[:-1], None], dec=[*dec[:-1], None])


@pytest.fixture
def table(model: Path, masked_pack: Path, tmp_path: Path) -> ScoreTable:
    score(model, [masked_pack], tmp_path / "scores.parquet")
    return read_table(tmp_path / "scores.parquet")


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.texts]


def test_the_best_are_drawn_in_order_with_score_id_and_position(
    table: ScoreTable, masked_pack: Path
) -> None:
    shown = read_best(table, 5)
    assert shown.rejected == []
    order = np.argsort(-table.logits, kind="stable")[:5]
    assert [item.row for item in shown.cutouts] == order.tolist()
    figure = best_figure(table, shown.cutouts)
    masks = np.concatenate([np.load(path) for path in sorted(masked_pack.glob("mask-*.npy"))])
    assert len(figure.axes) == 5
    for axes, row in zip(figure.axes, order, strict=True):
        picture, *marks = (np.asarray(image.get_array()) for image in axes.get_images())
        np.testing.assert_array_equal(picture, colour_picture(images_of(masked_pack)[row]))
        np.testing.assert_array_equal(marks[0][..., 3] > 0, masks[row].any(axis=0))
    first, caption = order[0], next(text for text in texts(figure) if text.startswith("1  "))
    assert f"{table.scores[first]:.4f}" in caption
    assert table.ids[first] in caption
    assert f"{table.known['ra'][first]:.5f}" in caption
    assert f"{abs(table.known['dec'][first]):.5f}" in caption
    assert texts(figure)[0].startswith(f"Highest scores of {CUTOUTS} cutouts")
    assert any("masked" in text for text in texts(figure))


def test_what_is_not_known_is_said(table: ScoreTable) -> None:
    figure = best_figure(table, read_best(table, CUTOUTS).cutouts)
    unplaced = next(text for text in texts(figure) if "galaxy-095" in text)
    assert "position not known" in unplaced


@pytest.mark.parametrize("kind", ["files", "stack", "manifest", "older"])
def test_every_kind_of_input_is_found_again(
    model: Path, sky_pack: Path, tmp_path: Path, kind: str
) -> None:
    images = images_of(sky_pack)
    folder = save_all(tmp_path / "cutouts", images[:6])
    mask = np.zeros((33, 33), bool)
    mask[2:9] = True
    np.save(tmp_path / "mask.npy", mask)
    np.save(tmp_path / "stack.npy", images[:6])
    names = [f"cutouts/galaxy-{k:03d}.npz" for k in range(6)]
    listed = pd.DataFrame({"cutout_path": names, "galaxy_id": list("abcdef")})
    listed.assign(mask_path="mask.npy").to_csv(tmp_path / "m.csv")
    data = {"files": folder, "stack": tmp_path / "stack.npy", "manifest": tmp_path / "m.csv"}
    out = tmp_path / "scores.parquet"
    score(model, [data.get(kind, sky_pack)], out)
    if kind == "older":
        old = parquet.read_table(out).drop_columns(["number", "ra", "dec", "label"])
        record = json.loads(old.schema.metadata[b"dhs"])
        assert record.pop("input")["path"] == str(sky_pack)
        parquet.write_table(old.replace_schema_metadata({"dhs": json.dumps(record)}), out)
    found = read_best(read_table(out), 3)
    assert found.rejected == []
    for item in found.cutouts:
        np.testing.assert_array_equal(item.pixels, images[item.row])
        if kind == "manifest":
            assert item.mask is not None
            assert (item.mask[0] == mask).all()


def test_the_command_writes_a_picture_and_names_what_is_gone(
    model: Path, sky_pack: Path, tmp_path: Path
) -> None:
    folder = save_all(tmp_path / "cutouts", images_of(sky_pack)[:6])
    scores, out = tmp_path / "scores.parquet", tmp_path / "picture.png"
    score(model, [folder], scores)
    best = Path(read_table(scores).paths[np.argmax(read_table(scores).logits)])
    best.unlink()
    read = read_best(read_table(scores), 3)
    assert [item.rank for item in read.cutouts] == [2, 3]
    figure = best_figure(read_table(scores), read.cutouts)
    assert any(text.startswith("3  ") for text in texts(figure))
    result = invoke(app, "show", scores, "--top", 3, "--out", out, "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert (report["written"], report["out"]) == (2, str(out))
    assert [item["path"] for item in report["rejected"]] == [str(best)]
    assert imread(out).shape[1] > 300
    assert invoke(app, "show", scores, "--top", 1, "--out", tmp_path / "no.png").exit_code == 1
    assert not (tmp_path / "no.png").exists()


def test_a_pack_that_is_gone_or_is_another_one_is_an_error(
    table: ScoreTable, masked_pack: Path, tmp_path: Path
) -> None:
    manifest = parquet.read_table(masked_pack / "manifest.parquet")
    ids = [f"other-{k}" for k in range(CUTOUTS)]
    at = manifest.column_names.index("galaxy_id")
    parquet.write_table(
        manifest.set_column(at, "galaxy_id", [ids]), masked_pack / "manifest.parquet"
    )
    assert "has no cutout galaxy-" in read_best(table, 1).rejected[0].reason
    shutil.rmtree(masked_pack)
    result = invoke(app, "show", table.path, "--out", tmp_path / "picture.png")
    assert result.exit_code == 2
    assert "does not exist; run dhs show in the folder where dhs score ran" in message(result)
    with pytest.raises(ValueError, match="top"):
        read_best(table, 0)


def changed(table: ScoreTable, **columns: Any) -> ScoreTable:
    return dataclasses.replace(table, **columns)


def sizes(figure: Figure) -> list[float]:
    return [float(axes.get_position().width * figure.get_figwidth()) for axes in figure.axes]


def test_few_cutouts_are_larger_and_leave_no_empty_columns(table: ScoreTable) -> None:
    widths = {}
    for count in (1, 3, 8, 50):
        figure = best_figure(table, read_best(table, count).cutouts)
        widths[count] = max(sizes(figure))
        right = max(axes.get_position().x1 for axes in figure.axes) * figure.get_figwidth()
        if count > 1:
            assert right > 0.97 * figure.get_figwidth()
        assert len(set(np.round(sizes(figure), 6))) == 1
    assert widths[1] > widths[3] > widths[8] == widths[50]


@pytest.mark.parametrize("count", [3, 50])
def test_captions_overlap_neither_each_other_nor_the_next_row(
    table: ScoreTable, count: int
) -> None:
    ids = np.array([f"DESI-J{k:04d}.5678-12.3456_a_long_name_{'m' * 30}_{k}" for k in range(96)])
    found = read_best(table, count)
    flat = np.ones(len(table), np.int8)
    figure = best_figure(changed(table, ids=ids, flat_bands=flat), found.cutouts)
    figure.draw_without_rendering()
    captions = [text for text in figure.texts if "DESI" in text.get_text()]
    assert len(captions) == count
    boxes = [text.get_window_extent() for text in captions]
    panels = [axes.get_window_extent() for axes in figure.axes]
    assert all(box.x1 <= panel.x1 for box, panel in zip(boxes, panels, strict=True))
    boxes += panels
    whole = figure.bbox
    for k, box in enumerate(boxes):
        assert whole.x0 <= box.x0
        assert box.x1 <= whole.x1
        assert whole.y0 <= box.y0
        for other in boxes[k + 1 :]:
            apart = box.x1 <= other.x0 or other.x1 <= box.x0
            assert apart or box.y1 <= other.y0 or other.y1 <= box.y0
    # Both ends of an id stay.
    first = table.ids.tolist().index(table.ids[found.cutouts[0].row])
    said = captions[0].get_text().replace("\n", "")
    assert f"DESI-J{first:04d}.5678" in said
    assert f"m_{first}" in said
    assert "flat band" in said


def test_scores_that_differ_look_different(table: ScoreTable) -> None:
    order = np.argsort(-table.logits, kind="stable")
    scores = np.zeros(len(table))
    scores[order] = 0.5 - np.arange(len(table)) * 2e-6
    shown = read_best(table, 4).cutouts
    words = [
        text.split()[1] for text in texts(best_figure(changed(table, scores=scores), shown))[-4:]
    ]
    assert words == ["0.500000", "0.499998", "0.499996", "0.499994"]
    scores[:] = 0.5
    figure = best_figure(changed(table, scores=scores), shown)
    assert [text.split()[1] for text in texts(figure)[-4:]] == ["0.5000"] * 4


def test_labels_are_named_and_unknown_ones_left_out(table: ScoreTable) -> None:
    labels = np.full(len(table), np.nan)
    shown = read_best(table, 3).cutouts
    labels[[item.row for item in shown[:2]]] = 1, 0
    figure = best_figure(changed(table, known=table.known | {"label": labels}), shown)
    lines = [text.splitlines()[0].split("  ")[2:] for text in texts(figure)[-3:]]
    assert lines == [["lens"], ["non-lens"], []]


def test_positions_that_no_cutout_has_are_named_once(table: ScoreTable) -> None:
    figure = best_figure(changed(table, known={}), read_best(table, 8).cutouts)
    said = "\n".join(texts(figure))
    assert said.count("positions not known") == 1
    assert "position not known" not in said
