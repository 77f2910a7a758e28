"""Tests of the command line, from input files to output files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray
from pyarrow import parquet
from typer.testing import Result

import fastnorm
from fastnorm import io
from fastnorm.annulus import Annulus
from fastnorm.cli import main as cli
from fastnorm.figure import comparison_figure, draw_comparison
from fastnorm.io.maskbits import MaskBits
from fastnorm.reference import normalize_plane
from tests import SHARED
from tests.command_line import invoke

REAL = SHARED / "data" / "dr10_cutouts"
PLANE = (70, 71)
PNG = b"\x89PNG\r\n\x1a\n"


def make_pixels(seed: int = 0, plane: tuple[int, int] = PLANE) -> NDArray[np.float32]:
    """Draw an exponential disc with a noisy sky and a few NaN."""
    height, width = plane
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    radius = np.hypot(rows - height // 2, columns - width // 2)
    pixels = 0.1 * np.exp(-radius / 8) + 0.002 * rng.normal(size=(3, height, width))
    pixels.ravel()[rng.integers(0, pixels.size, 20)] = np.nan
    result: NDArray[np.float32] = pixels.astype(np.float32)
    return result


def save(path: Path, pixels: NDArray[np.float32], **meta: Any) -> Path:
    if path.suffix == ".npz":
        np.savez(path, cutout=pixels.transpose(1, 2, 0), **meta)
    elif path.suffix == ".npy":
        np.save(path, pixels)
    else:
        fits.PrimaryHDU(pixels).writeto(path)
    return path


def run(*arguments: object) -> Result:
    return invoke(cli.app, *arguments)


def expected(pixels: NDArray[np.float32], annulus: Annulus, is_raw: bool) -> list[Any]:
    options: dict[str, Any] = {} if is_raw else {"clip": 10.0, "nan_to_zero": True}
    return [normalize_plane(plane, annulus, **options) for plane in pixels]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Write five cutouts to three files of different kinds."""
    folder = tmp_path / "cutouts"
    folder.mkdir()
    meta = {"meta_galaxy_id": "lens", "meta_ra": 1.5, "meta_dec": -2.5}
    save(folder / "a.npz", make_pixels(0), **meta)
    save(folder / "b.fits", make_pixels(1))
    save(folder / "c.npy", np.stack([make_pixels(seed) for seed in (2, 3, 4)]))
    return folder


@pytest.mark.parametrize("is_raw", [False, True])
@pytest.mark.parametrize("batch", [2, 256])
@pytest.mark.parametrize("backend", ["numba", "reference"])
def test_stack_and_table_equal_the_reference(
    folder: Path, monkeypatch: pytest.MonkeyPatch, is_raw: bool, batch: int, backend: str
) -> None:
    monkeypatch.setattr(cli, "BATCH", batch)
    out = folder.parent / "stack.npy"
    options = ["--raw"] if is_raw else []
    result = run("normalize", folder, "--out", out, "--backend", backend, "--threads", 1, *options)
    assert result.exit_code == 0
    annulus = Annulus.default(*PLANE)
    written = np.load(out, allow_pickle=False)
    table = parquet.read_table(out.with_suffix(".parquet"))
    assert written.shape == (5, 3, *PLANE)
    rows = table.to_pylist()
    assert len(rows) == 15
    ids = ["lens", "b", "c[000000]", "c[000001]", "c[000002]"]
    for seed in range(5):
        pixels = make_pixels(seed)
        planes = expected(pixels, annulus, is_raw)
        assert written[seed].tobytes() == np.stack([plane[0] for plane in planes]).tobytes()
        for band, (_, median, mad) in enumerate(planes):
            row = rows[3 * seed + band]
            assert (row["row"], row["id"], row["band"]) == (seed, ids[seed], "grz"[band])
            assert (row["ra"], row["dec"]) == ((1.5, -2.5) if seed == 0 else (None, None))
            assert (np.float32(row["median"]), np.float32(row["mad"])) == (median, mad)
            assert row["nan_count"] == np.isnan(pixels[band]).sum() > 0
            assert row["path"] == str(folder / ("a.npz", "b.fits", "c.npy")[min(seed, 2)])
    assert json.loads(table.schema.metadata[b"fastnorm"]) == {
        "annulus_r_in": annulus.r_in,
        "annulus_r_out": annulus.r_out,
        "eps": 1e-8,
        "clip": None if is_raw else 10.0,
        "nan_to_zero": not is_raw,
        "mask_bits": str(MaskBits()),
        "mode": "raw" if is_raw else "raw_robust",
        "definition_version": 1,
        "fastnorm_version": fastnorm.__version__,
        "bands": ["g", "r", "z"],
        "flux_unit": "nanomaggy",
    }
    assert sorted(os.listdir(folder.parent)) == ["cutouts", "stack.npy", "stack.parquet"]


def test_json_and_a_pattern(folder: Path) -> None:
    out = folder.parent / "stack.npy"
    result = run("normalize", folder / "*.np?", "--out", out, "--annulus", 20, 33, "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert report.pop("seconds") > 0
    assert report == {
        "out": str(out),
        "table": str(out.with_suffix(".parquet")),
        "shape": [4, 3, *PLANE],
        "annulus": [20.0, 33.0],
        "mask_bits": str(MaskBits()),
        "written": 4,
        "flat_bands": [],
        "rejected": [],
    }
    planes = expected(make_pixels(0), Annulus(20, 33), False)
    assert np.array_equal(np.load(out)[0], np.stack([plane[0] for plane in planes]))


def test_infinite_sky_becomes_zero(tmp_path: Path) -> None:
    pixels = make_pixels()
    pixels[1] = np.inf
    save(tmp_path / "a.npz", pixels)
    assert run("normalize", tmp_path / "a.npz", "--out", tmp_path / "s.npy").exit_code == 0
    assert not np.load(tmp_path / "s.npy")[0, 1].any()


def test_clip_is_used(folder: Path) -> None:
    out = folder.parent / "stack.npy"
    run("normalize", folder, "--out", out, "--clip", 2.5)
    assert np.abs(np.load(out)).max() == 2.5
    run("normalize", folder, "--out", out, "--clip", "inf")
    assert np.load(out).max() > 10
    metadata = parquet.read_schema(out.with_suffix(".parquet")).metadata[b"fastnorm"]
    assert json.loads(metadata)["clip"] is None


def test_bad_files_are_named_and_the_others_written(folder: Path) -> None:
    (folder / "d.npz").write_bytes(b"PK not a zip")
    np.savez(folder / "e.npz", image=np.zeros(3))
    save(folder / "f.fits", make_pixels(5))
    os.truncate(folder / "f.fits", 9000)
    save(folder / "g.npz", make_pixels(6, (64, 64)))
    save(folder / "h.npz", make_pixels(7))
    out = folder.parent / "stack.npy"
    missing, empty = folder.parent / "*.fit", folder.parent / "empty"
    empty.mkdir()
    result = run("normalize", folder, missing, empty, "--out", out, "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert report["written"] == 6
    assert len(np.load(out)) == 6
    reasons = {Path(item["path"]).name: item["reason"] for item in report["rejected"]}
    assert "damaged" in reasons["d.npz"]
    assert "has no array 'cutout'" in reasons["e.npz"]
    assert "truncated" in reasons["f.fits"]
    assert "(3, 64, 64)" in reasons["g.npz"]
    assert f"(3, {PLANE[0]}, {PLANE[1]})" in reasons["g.npz"]
    assert "matches no file" in reasons["*.fit"]
    assert "the folder has no file" in reasons["empty"]
    assert len(reasons) == 6
    text = run("normalize", folder, "--out", out)
    assert text.exit_code == 1
    assert "6 cutouts" in text.stdout
    assert "4 rejected" in text.stderr


def test_another_shape_is_named_once_a_file(folder: Path) -> None:
    save(folder / "d.npy", np.stack([make_pixels(5, (64, 64))] * 3))
    result = run("normalize", folder, "--out", folder.parent / "stack.npy", "--json")
    assert [Path(item["path"]).name for item in json.loads(result.stdout)["rejected"]] == ["d.npy"]


def test_nothing_readable_writes_nothing(tmp_path: Path) -> None:
    result = run("normalize", tmp_path / "none.npz", "--out", tmp_path / "s.npy", "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert (report["written"], report["out"], report["shape"]) == (0, None, None)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--annulus", 33, 20], "r_in=33.0 is not below r_out=20.0"),
        (["--annulus", -1, 20], "r_in=-1.0 must be finite and not negative"),
        (["--annulus", 33, 33.1], "its statistics need at least 100"),
        (["--clip", 0], "clip=0.0 is out of range"),
        (["--clip", "nan"], "clip=nan is out of range"),
        (["--raw", "--clip", 10], "--clip 10 and --raw exclude each other"),
        (["--backend", "abacus"], "backend='abacus' is not known"),
        (["--threads", 0], "count=0 must be at least 1"),
        (["--annulus", "wide", 3], "--annulus"),
    ],
)
def test_wrong_values(folder: Path, options: list[object], message: str) -> None:
    result = run("normalize", folder, "--out", folder.parent / "s.npy", *options)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert result.stdout == ""
    assert os.listdir(folder.parent) == ["cutouts"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("s.txt", "must end in .npy"),
        ("none/s.npy", "does not exist"),
        ("d.npy", "is a folder"),
        ("cutouts/c.npy", "is one of the input files"),
    ],
)
def test_wrong_out(folder: Path, name: str, message: str) -> None:
    (folder.parent / "d.npy").mkdir()
    before = (folder / "c.npy").read_bytes()
    result = run("normalize", folder, "--out", folder.parent / name)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert (folder / "c.npy").read_bytes() == before


def test_unwritable_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    result = run("normalize", folder, "--out", folder.parent / "s.npy")
    assert result.exit_code == 2
    assert "is not writable" in result.stderr


def test_full_disk_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    result = run("normalize", folder, "--out", folder.parent / "s.npy")
    assert result.exit_code == 2
    assert "No space left on device" in result.stderr
    assert os.listdir(folder.parent) == ["cutouts"]


def test_missing_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    result = run("normalize", folder, "--out", folder.parent / "s.npy")
    assert result.exit_code == 2
    assert "pip install '.[cli]' in a checkout" in result.stderr
    assert os.listdir(folder.parent) == ["cutouts"]


def test_annulus_warning_is_shown_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr(cli, "BATCH", 1)
    result = run("normalize", folder, "--out", folder.parent / "s.npy", "--annulus", 10, 20)
    assert result.exit_code == 0
    assert result.stderr.count("warning: the annulus (r_in, r_out) = (10.0, 20.0) ends at") == 1
    quiet = run("normalize", folder, "--out", folder.parent / "s.npy")
    assert "warning" not in quiet.stderr
    assert not recwarn.list


def test_names_of_any_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Keep the table from folding long names.
    monkeypatch.setenv("COLUMNS", "400")
    inner = tmp_path / "[red]cutouts"
    inner.mkdir()
    save(inner / "a.npz", make_pixels())
    strange = os.fsdecode(os.fsencode(inner) + b"/\xff[bold].npz")
    (inner / "a.npz").rename(strange)
    (inner / "[blue]bad.npz").write_bytes(b"")
    result = run("normalize", inner, "--out", tmp_path / "s.npy")
    assert result.exit_code == 1
    assert "[blue]bad.npz" in result.stderr
    (_, name, _) = parquet.read_table(tmp_path / "s.parquet")["id"].to_pylist()
    assert name == "\\udcff[bold]"


@pytest.mark.parametrize("as_json", [False, True])
def test_show(folder: Path, as_json: bool) -> None:
    save(folder / "d.npz", make_pixels(5, (30, 30)))
    out = folder.parent / "picture.png"
    result = run("show", folder, "--out", out, *(["--json"] if as_json else []))
    assert result.exit_code == 1
    assert out.read_bytes().startswith(PNG)
    assert out.stat().st_size > 100_000
    assert "warning" not in result.stderr
    if as_json:
        report = json.loads(result.stdout)
        assert report["drawn"] == ["lens", "b", "c[000000]", "c[000001]", "c[000002]"]
        assert "(20.0, 32.0) holds" in report["rejected"][0]["reason"]
    assert sorted(os.listdir(folder.parent)) == ["cutouts", "picture.png"]


def test_show_stops_at_the_limit(folder: Path) -> None:
    out = folder.parent / "picture.png"
    result = run("show", folder, "--out", out, "--limit", 2, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["drawn"] == ["lens", "b"]


def test_show_of_nothing(tmp_path: Path) -> None:
    result = run("show", tmp_path / "none.npz", "--out", tmp_path / "p.png")
    assert result.exit_code == 1
    assert os.listdir(tmp_path) == []
    assert run("show", tmp_path, "--out", tmp_path / "p.jpg").exit_code == 2


def test_rows_of_the_picture(tmp_path: Path) -> None:
    blank = np.zeros((3, 101, 101), np.float32)
    flat = make_pixels(3)
    flat[1] = np.nan
    pixels = [make_pixels(0), make_pixels(1, (101, 101)), blank, flat]
    cutouts = [
        io.Cutout(f"${i}_{{", image, 10.0, -20.0, tmp_path) for i, image in enumerate(pixels)
    ]
    figure = comparison_figure(cutouts)
    assert len(figure.axes) == 5 * len(cutouts)
    images = [axes.images[0] for axes in figure.axes if axes.images and axes.get_title()]
    assert len(images) == 3 * len(cutouts)
    assert {image.origin for image in images} == {"lower"}
    draw_comparison(cutouts, tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes().startswith(PNG)
    with pytest.raises(ValueError, match="cutouts is empty"):
        comparison_figure([])


@pytest.mark.skipif(not REAL.is_dir(), reason=f"no real cutouts at {REAL.name}")
def test_real_cutouts(tmp_path: Path) -> None:
    result = run("normalize", REAL, "--out", tmp_path / "s.npy", "--annulus", 20, 32, "--json")
    assert result.exit_code == 0
    written = np.load(tmp_path / "s.npy")
    files = sorted(REAL.glob("*.npz"))
    assert len(written) == len(files) == 4
    for path, stack in zip(files, written, strict=True):
        with np.load(path, allow_pickle=False) as archive:
            pixels = archive["cutout"].transpose(2, 0, 1)
        planes = expected(pixels, Annulus(20, 32), False)
        assert stack.tobytes() == np.stack([plane[0] for plane in planes]).tobytes()


def test_backends() -> None:
    listed = json.loads(run("backends", "--json").stdout)
    assert [backend["name"] for backend in listed] == [b.name for b in fastnorm.backends()]
    text = run("backends")
    assert text.exit_code == 0
    for backend in fastnorm.backends():
        assert backend.name in text.stdout


def test_version_and_help() -> None:
    assert run("--version").stdout == f"fastnorm {fastnorm.__version__}\n"
    assert "normalize" in run("--help").stdout
    for command in ("normalize", "show", "backends"):
        assert run(command, "--help").exit_code == 0


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom fastnorm.cli import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
        "print({'numba', 'torch', 'astropy', 'pyarrow', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.endswith("set()\n")


def test_memory_does_not_grow(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    normalise = cli._normalise

    def watched(batch: list[io.Cutout], job: Any) -> Any:
        sizes.append(len(batch))
        return normalise(batch, job)

    monkeypatch.setattr(cli, "_normalise", watched)
    monkeypatch.setattr(cli, "BATCH_BYTES", 12 * PLANE[0] * PLANE[1] * 2)
    run("normalize", folder, "--out", folder.parent / "s.npy")
    assert sizes == [1, 2, 2, 1]  # one to try the values
