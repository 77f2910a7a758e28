"""Commands that write pictures do so as PNG, PDF and SVG, and open them if asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from dhs.cli import app
from dhs.score import score
from dhs.selection.compare import compare_grids, write_comparison
from dhs.selection.figure import draw_grid
from dhs.simulate.images import simulate_cutouts
from fastnorm.cli import app as fastnorm_app
from fastnorm.pictures import PICTURE_SUFFIXES
from tests.command_line import invoke, message, record_opened
from tests.dhs.evaluate import evaluate_cases as evaluations
from tests.dhs.score.score_cases import model as model
from tests.dhs.score.score_cases import pack as pack
from tests.dhs.score.score_cases import save
from tests.dhs.selection.grid_cases import Axes, FakeImages, write_grid

ARC = ("--theta-e", 1.5, "--r-mag", 22)


def check(path: Path) -> None:
    """Assert that a file is what its suffix says."""
    if path.suffix == ".svg":
        assert ElementTree.parse(path).getroot().tag.endswith("}svg")
    else:
        start = {".png": b"\x89PNG\r\n\x1a\n", ".pdf": b"%PDF-"}[path.suffix]
        assert path.read_bytes().startswith(start)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Path:
    (pixels,) = simulate_cutouts(range(1), 1).images
    return save(tmp_path_factory.mktemp("host") / "host.npz", pixels)


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory, model: Path, pack: Path) -> Path:
    path = tmp_path_factory.mktemp("scores") / "scores.parquet"
    score(model, [pack], path)
    return path


@pytest.fixture(params=["inject", "dhs show", "fastnorm show"])
def command(request: pytest.FixtureRequest, host: Path, scores: Path) -> tuple[Any, ...]:
    """Return the program and the words of a command that writes a picture to --out."""
    if request.param == "inject":
        return app, "inject", "--hosts", host, *ARC
    if request.param == "dhs show":
        return app, "show", scores, "--top", 2
    return fastnorm_app, "show", host


def test_out_may_be_any_of_three(command: tuple[Any, ...], tmp_path: Path) -> None:
    for suffix in PICTURE_SUFFIXES:
        content = []
        for name in ("one", "two"):
            out = tmp_path / f"{name}{suffix}"
            result = invoke(*command, "--out", out)
            assert result.exit_code == 0, result.stderr
            check(out)
            content.append(out.read_bytes())
        assert content[0] == content[1]


def test_other_suffixes_name_the_three(command: tuple[Any, ...], tmp_path: Path) -> None:
    result = invoke(*command, "--out", tmp_path / "picture.jpg")
    assert result.exit_code == 2
    assert "must end in .png, .pdf or .svg" in message(result)


def test_open_opens_the_picture(
    command: tuple[Any, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = record_opened(monkeypatch)
    monkeypatch.setenv("DISPLAY", ":0")
    out = tmp_path / "picture.png"
    assert invoke(*command, "--out", out).exit_code == 0
    assert opened == []
    assert invoke(*command, "--out", out, "--open").exit_code == 0
    assert opened == [out.as_uri()]
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    result = invoke(*command, "--out", out, "--open", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["opened"] is False
    assert "no display" in result.stderr
    assert len(opened) == 1


def test_an_evaluation_has_pictures_of_one_format(tmp_path: Path) -> None:
    table = evaluations.write_scores(tmp_path / "scores.parquet")
    truth = evaluations.write_truth(tmp_path / "truth.parquet")
    out = tmp_path / "evaluation"
    for picture_format in ("png", "svg", "pdf"):
        words = ("evaluate", table, "--truth", truth, "--out", out, "--bootstrap", 100)
        result = invoke(app, *words, "--picture-format", picture_format)
        assert result.exit_code == 0, result.stderr
        pictures = sorted(path for path in out.iterdir() if path.suffix in PICTURE_SUFFIXES)
        names = ["reliability", "roc", "scores"]
        assert [path.name for path in pictures] == [f"{name}.{picture_format}" for name in names]
        for path in pictures:
            check(path)
            assert path.name in result.stdout
    assert invoke(app, *words, "--picture-format", "jpg").exit_code == 2


@pytest.mark.slow
def test_grids_and_their_comparison_have_pictures_of_one_format(tmp_path: Path) -> None:
    axes = Axes((0.5, 1.5, 0.5), (1.3, 1.3, 0.1), (22.5, 22.5, 1.0))
    one, other = (
        write_grid(tmp_path / f"{k}", axes=axes, noise_seed=k, per_cell=60) for k in (1, 2)
    )
    draw_grid(one, FakeImages)
    for path in draw_grid(one, FakeImages, "pdf"):
        check(path)
    assert not list(one.glob("*.png"))
    assert len(list(one.glob("*.pdf"))) == 4
    compared = compare_grids(one, other, resamples=100)
    write_comparison(compared, tmp_path / "both")
    written = write_comparison(compared, tmp_path / "both", "svg")
    assert [path.name for path in written] == [
        f"comparison.{suffix}" for suffix in ("parquet", "csv", "svg", "json")
    ]
    check(tmp_path / "both" / "comparison.svg")
    assert not (tmp_path / "both" / "comparison.png").exists()
