"""Progress of long commands in a log, and of pictures; what was not drawn is said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

import fastnorm.terminal
from dhs.cli import app as dhs_app
from fastnorm.cli import app as fastnorm_app
from fastnorm.figure import draw_comparison
from fastnorm.io import Cutout
from fastnorm.pictures import save_picture
from fastnorm.terminal import counting
from tests.command_line import invoke, message
from tests.fastnorm.cli.test_cli import make_pixels, run

MOST = 5


class Clock:
    """A clock that stands still until it is set."""

    now = 100.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(fastnorm.terminal, "time", clock)
    return clock


def test_a_log_has_a_line_every_half_minute(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    with counting("training", "cutouts") as show:
        for done in range(0, 1001, 10):  # one second each
            clock.now += 1
            show(done, 1000)
            if done == 250:
                assert capsys.readouterr().err == ""
            if done == 300:
                assert capsys.readouterr().err == "training: 290 of 1,000 cutouts, 10 cutouts/s\n"
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("training: ")]
    assert len(lines) == 2


def test_short_work_is_silent(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with counting("drawing", "cutouts", after=2.0) as show:
        show(0, 4)
        clock.now += 1.9
        show(4, 4)
    assert capsys.readouterr().err == ""
    with counting("drawing", "cutouts", after=2.0) as show:
        show(0, 4)
        clock.now += 2.1
        show(2, 4)
    assert "2 of 4" in capsys.readouterr().err


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "cutouts"
    folder.mkdir()
    pixels = np.nan_to_num(make_pixels())
    for k in range(MOST):
        np.savez(folder / f"{k}.npz", cutout=np.ascontiguousarray(pixels.transpose(1, 2, 0)))
    np.save(folder / "stack.npy", np.stack([pixels] * 3))
    return folder


ARC = ("inject", "--theta-e", 1.5, "--r-mag", 22, "--hosts")


@pytest.mark.parametrize("command", ["show", "inject"])
@pytest.mark.parametrize(
    ("limit", "left", "said"),
    [
        (
            2,
            MOST + 1,
            f"note: {MOST + 1} more cutouts were not drawn; --limit {MOST + 3} draws all.",
        ),
        (MOST + 1, 2, f"note: 2 more cutouts were not drawn; --limit {MOST + 3} draws all."),
        (MOST + 2, 1, f"note: 1 more cutout was not drawn; --limit {MOST + 3} draws all."),
        (MOST + 3, 0, ""),
    ],
)
def test_what_is_not_drawn_is_said(
    folder: Path, tmp_path: Path, command: str, limit: int, left: int, said: str
) -> None:
    app, options = (fastnorm_app, ("show",)) if command == "show" else (dhs_app, ARC)
    arguments = (*options, folder, "--limit", limit, "--out", tmp_path / "picture.svg")
    assert json.loads(invoke(app, *arguments, "--json").stdout)["not_drawn"] == left
    if limit == 2 or not left:
        printed = message(invoke(app, *arguments))
        assert printed.endswith(said)
        assert bool(said) == ("not drawn" in printed)


def test_a_rejected_file_is_not_one_that_was_not_drawn(folder: Path, tmp_path: Path) -> None:
    (folder / "1.npz").write_bytes(b"PK no zip")
    result = run("show", folder, "--out", tmp_path / "a.png", "--limit", 2, "--json")
    assert json.loads(result.stdout)["not_drawn"] == MOST


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_saving_tells_its_progress_and_writes_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    def figure() -> Figure:
        made = Figure()
        for axes in made.subplots(2, 2).flat:
            axes.plot([1, 2])
        return made

    told: list[tuple[int, int]] = []
    save_picture(figure(), tmp_path / f"told{suffix}", progress=lambda *n: told.append(n))
    save_picture(figure(), tmp_path / f"silent{suffix}")
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    contents = [(tmp_path / f"{name}{suffix}").read_bytes() for name in ("told", "silent")]
    assert contents[0] == contents[1]


def test_a_comparison_tells_its_progress(tmp_path: Path) -> None:
    cutouts = [Cutout(str(k), make_pixels(), None, None, Path("a")) for k in range(4)]
    told: list[tuple[int, int]] = []
    draw_comparison(cutouts, tmp_path / "a.png", progress=lambda *n: told.append(n))
    assert told[0] == (0, 4)
    assert told[-1] == (4, 4)
    assert told == sorted(told)
    assert {done for done, _ in told} == set(range(5))
