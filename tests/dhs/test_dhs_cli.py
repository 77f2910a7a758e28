"""The command ``dhs``, from its arguments to its files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pyarrow import parquet
from typer.testing import Result

import fastnorm
from dhs import cli
from dhs.injection.cutouts import CutoutInjector, summary
from dhs.injection.figure import injection_figure
from dhs.simulate.images import simulate_cutouts
from fastnorm.io import Cutout
from tests import ROOT, SHARED
from tests.command_line import invoke, message

REAL = SHARED / "data" / "dr10_cutouts"
PNG = b"\x89PNG\r\n\x1a\n"
ARC = ("--theta-e", 1.5, "--r-mag", 22)


def run(*arguments: object) -> Result:
    return invoke(cli.app, *arguments)


def save(path: Path, pixels: NDArray[np.float32]) -> None:
    np.savez(path, cutout=pixels.transpose(1, 2, 0), meta_galaxy_id=path.stem)


@pytest.fixture(scope="module")
def galaxies() -> NDArray[np.float32]:
    return simulate_cutouts(range(4), 1, 0.0).images


@pytest.fixture
def hosts(tmp_path: Path, galaxies: NDArray[np.float32]) -> Path:
    """Write two good cutouts and four that cannot be used."""
    folder = tmp_path / "hosts"
    folder.mkdir()
    save(folder / "a.npz", galaxies[0])
    with_holes = galaxies[1].copy()
    with_holes[1, 60:62, 10:15] = np.nan
    save(folder / "b-holes.npz", with_holes)
    (folder / "c-damaged.npz").write_bytes(b"PK no zip")
    save(folder / "d-small.npz", galaxies[2][:, 45:56, 45:56])
    np.savez(folder / "e-other.npz", image=np.zeros(3))
    save(folder / "f.npz", galaxies[3])
    return folder


def test_simulate(tmp_path: Path) -> None:
    out = tmp_path / "survey"
    arguments = ["simulate", "--out", out, "--n", 6, "--seed", 2, "--lens-fraction", 1]
    arguments += ["--workers", 1]
    result = run(*arguments, "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert report.pop("seconds") > 0
    bright = report.pop("bright")
    assert report.pop("limit") == 6 - bright
    assert report == {
        "out": str(out),
        "shards": ["shard-00000.npy"],
        "cutouts": 6,
        "simulated": 6,
        "was_complete": False,
    }
    assert "6 of 6" in result.stderr
    assert "cutouts/s" in result.stderr
    assert (out / "picture.png").read_bytes().startswith(PNG)
    said = json.loads(parquet.read_schema(out / "manifest.parquet").metadata[b"dhs"])
    assert (said["seed"], said["lens_fraction"], said["n"]) == (2, 1.0, 6)
    assert said["cutouts_per_shard"] == 1000
    again = run(*arguments)
    assert again.exit_code == 0
    assert "is already complete with these settings: 6 cutouts" in again.stdout
    other = run("simulate", "--out", out, "--n", 6, "--seed", 3)
    assert other.exit_code == 2
    assert "seed is 2 in the folder and 3 in this run" in message(other)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--n", 0], "n=0 is not allowed"),
        (["--lens-fraction", 1.5], "lens_fraction=1.5 is not allowed"),
        (["--seed", -1], "seed=-1 is not allowed"),
        (["--workers", 0], "workers=0 is not allowed"),
        (["--config", "none.yaml"], "none.yaml"),
        (["--n", "many"], "--n"),
    ],
)
def test_simulate_refuses_before_any_work(
    tmp_path: Path, options: list[object], reason: str
) -> None:
    result = run("simulate", "--out", tmp_path / "survey", "--n", 5, *options)
    assert result.exit_code == 2
    assert reason in message(result)
    assert result.stdout == ""
    assert os.listdir(tmp_path) == []


def test_simulate_with_an_own_config(tmp_path: Path) -> None:
    text = (ROOT / "configs" / "simulated_survey.yaml").read_text()
    config = tmp_path / "my.yaml"
    config.write_text(text.replace("late_fraction: 0.25", "late_fraction: 1.0"))
    out = tmp_path / "survey"
    assert run("simulate", "--out", out, "--n", 4, "--config", config).exit_code == 0
    kinds = parquet.read_table(out / "manifest.parquet")["host_type"].to_pylist()
    assert kinds == ["late"] * 4
    config.write_text(text + "moons: {}\n")
    refused = run("simulate", "--out", tmp_path / "new", "--n", 4, "--config", config)
    assert refused.exit_code == 2
    assert "moons is not a known key (allowed: observation" in message(refused)
    assert not (tmp_path / "new").exists()


def test_simulate_where_no_folder_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "survey"):
        result = run("simulate", "--out", out, "--n", 4)
        assert result.exit_code == 2
        assert "file" in message(result)


def test_interrupt_is_said_and_leaves_no_half_file(tmp_path: Path) -> None:
    out = tmp_path / "survey"
    arguments = [sys.executable, "-m", "dhs.cli", "simulate", "--out", str(out), "--n", "900"]
    with subprocess.Popen(
        [*arguments, "--workers", "1"],
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background makes them ignore SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        deadline = time.monotonic() + 60
        while not list(out.glob(".shard-*")) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "interrupted; run the same command again to resume" in said
    assert "Traceback" not in said
    assert os.listdir(out) == ["parts"]


def test_inject_names_bad_hosts_and_draws_the_others(hosts: Path) -> None:
    out = hosts.parent / "picture.png"
    result = run("inject", "--hosts", hosts, "--hosts", hosts / "no*", *ARC, "--out", out, "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert report["out"] == str(out)
    assert report["written"] == 2
    assert [item["id"] for item in report["drawn"]] == ["a", "f"]
    for item in report["drawn"]:
        assert item["theta_e_arcsec"] == 1.5
        assert item["magnification"] > 2
        assert all(item[f"arc_snr_{band}"] > 5 for band in "grz")
    reasons = {Path(item["path"]).name: item["reason"] for item in report["rejected"]}
    assert sorted(reasons) == ["b-holes.npz", "c-damaged.npz", "d-small.npz", "e-other.npz", "no*"]
    assert (
        "10 of its pixels are NaN or infinite, the first in band r at row 60"
        in (reasons["b-holes.npz"])
    )
    assert "damaged" in reasons["c-damaged.npz"]
    assert "has 11 x 11 pixels; it must have at least 32 per side" in reasons["d-small.npz"]
    assert "no array 'cutout'" in reasons["e-other.npz"]
    assert out.read_bytes().startswith(PNG)
    text = run("inject", "--hosts", hosts, *ARC, "--out", out)
    assert "2 injections drawn in" in text.stdout
    assert "4 rejected" in text.stderr


def test_inject_takes_paths_as_a_shell_expands_them(hosts: Path) -> None:
    out = hosts.parent / "picture.png"
    files = [hosts / "a.npz", hosts / "f.npz"]
    for arguments in (["--hosts", *files], files):
        result = run("inject", *arguments, *ARC, "--out", out, "--json")
        assert result.exit_code == 0
        assert json.loads(result.stdout)["written"] == 2
    one = run("inject", *files, *ARC, "--out", out, "--limit", 1, "--json")
    assert [item["id"] for item in json.loads(one.stdout)["drawn"]] == ["a"]


def test_nothing_to_inject_into_writes_nothing(hosts: Path) -> None:
    out = hosts.parent / "picture.png"
    assert run("inject", hosts / "c-damaged.npz", *ARC, "--out", out).exit_code == 1
    assert os.listdir(hosts.parent) == ["hosts"]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--theta-e", 0], "theta_e=0 is not allowed: it must be a finite number in (0, 10]"),
        (["--theta-e", "nan"], "theta_e=nan is not allowed"),
        (["--r-mag", 5], "r_mag=5 is not allowed: it must be a finite number in [10, 30]"),
        (["--psf-fwhm", -1], "psf_fwhm=-1 is not allowed"),
        (["--seed", -1], "seed=-1 is not allowed"),
        (["--backend", "abacus"], "backend='abacus' is not known"),
        (["--limit", 0], "--limit"),
        (["--out", "picture.jpg"], "must end in .png, .pdf or .svg"),
        (["--out", "none/picture.png"], "does not exist"),
    ],
)
def test_wrong_options_of_inject(
    hosts: Path, monkeypatch: pytest.MonkeyPatch, options: list[object], reason: str
) -> None:
    monkeypatch.chdir(hosts.parent)
    result = run("inject", "--hosts", hosts, *ARC, "--out", "picture.png", *options)
    assert result.exit_code == 2
    assert reason in message(result)
    assert os.listdir(hosts.parent) == ["hosts"]


def test_inject_needs_hosts(tmp_path: Path) -> None:
    result = run("inject", *ARC, "--out", tmp_path / "p.png")
    assert result.exit_code == 2
    assert "no hosts: give --hosts" in message(result)


@pytest.mark.skipif(not REAL.is_dir(), reason="shared/ has no real cutouts")
def test_inject_into_real_cutouts(tmp_path: Path) -> None:
    out = tmp_path / "picture.png"
    result = run("inject", "--hosts", REAL, *ARC, "--out", out, "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert (report["written"], report["rejected"]) == (4, [])
    assert out.stat().st_size > 100_000
    # A magnified arc of r = 22 is bright at the depth of DR10.
    assert all(item["arc_snr_r"] > 10 for item in report["drawn"])


def test_an_injection_depends_on_seed_and_host_alone(galaxies: NDArray[np.float32]) -> None:
    cutouts = [Cutout(f"h{i}", image, None, None, Path("x")) for i, image in enumerate(galaxies)]
    many = [CutoutInjector(1.5, 22).inject(cutout) for cutout in cutouts]
    alone = CutoutInjector(1.5, 22).inject(cutouts[2])
    assert np.array_equal(alone.stamp, many[2].stamp)
    assert np.array_equal(alone.stamp, cutouts[2].pixels + alone.arc)
    other = CutoutInjector(1.5, 22, seed=2).inject(cutouts[2])
    assert not np.array_equal(other.arc, alone.arc)
    assert not np.array_equal(many[1].arc, alone.arc)
    for item in many:
        assert item.row["flux_in_r"] == pytest.approx(10**0.2)
        assert item.row["theta_e_arcsec"] == 1.5
        # The light is about one Einstein radius from the centre.
        rows, columns = np.mgrid[:101, :101] - 50.0
        radius = np.average(np.hypot(rows, columns), weights=np.clip(item.arc[1], 0, None)) * 0.262
        assert 1.0 < radius < 2.6


def test_rows_of_the_picture(galaxies: NDArray[np.float32]) -> None:
    blank = Cutout("$blank_{", np.zeros((3, 60, 61), np.float32), None, None, Path("x"))
    injected = [
        CutoutInjector(1.2, 21).inject(cutout)
        for cutout in (Cutout("a", galaxies[0], None, None, Path("x")), blank)
    ]
    figure = injection_figure(injected, "title")
    assert len(figure.axes) == 6
    pictures: list[Any] = [np.asarray(axes.images[0].get_array()) for axes in figure.axes]
    assert {axes.images[0].origin for axes in figure.axes} == {"lower"}
    # Host and sum have the same stretch: far from the arc they are identical.
    assert np.array_equal(pictures[0][:20], pictures[2][:20])
    assert not np.array_equal(pictures[0], pictures[2])
    assert pictures[1].max() > 150
    assert not pictures[1][:20].any()
    captions = [text.get_text() for text in figure.texts]
    assert any(text.startswith('a    θ_E 1.20"    magnified ') for text in captions)
    assert any("no noise in r" in text for text in captions)
    assert summary(injected[1])["arc_snr_r"] is None
    with pytest.raises(ValueError, match="injected is empty"):
        injection_figure([], "title")


def test_a_picture_cannot_replace_a_host(hosts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = hosts / "a.png"
    (hosts / "a.npz").rename(out)
    before = out.read_bytes()
    result = run("inject", out, *ARC, "--out", out)
    assert result.exit_code == 2
    assert "is among the hosts" in message(result)
    assert out.read_bytes() == before


def test_version_and_help() -> None:
    assert run("--version").stdout == f"dhs {fastnorm.__version__}\n"
    for command in ("simulate", "inject"):
        assert command in run("--help").stdout
        assert run(command, "--help").exit_code == 0


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom dhs.cli import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'numba', 'torch', 'scipy', 'astropy', 'pandas', 'pyarrow', 'matplotlib'}\n"
        "print(heavy & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.endswith("set()\n")


@pytest.mark.parametrize(
    ("module", "status", "said"),
    [
        ("fastnorm", 0, "Usage: fastnorm"),
        ("fastnorm.cli.main", 0, "Usage: fastnorm"),
        ("dhs", 0, "Usage: dhs"),
        ("dhs.commands.score", 1, "This module runs as dhs score"),
        ("dhs.score", 1, "cannot be directly executed"),
    ],
)
def test_modules_that_look_like_commands(module: str, status: int, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == status
    assert said in done.stdout + done.stderr


def test_no_module_of_commands_is_silent() -> None:
    modules = [module for module in vars(cli).values() if isinstance(module, ModuleType)]
    commands = [module for module in modules if module.__name__.startswith("dhs.commands.")]
    assert len(commands) > 10
    for module in commands:
        assert '__name__ == "__main__"' in Path(str(module.__file__)).read_text(), module
