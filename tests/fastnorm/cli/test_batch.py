"""One odd file does not end a batch: the others are written, and it is named with a reason."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from numpy.typing import NDArray

from fastnorm.cli import app
from tests.command_line import invoke

OTHERS = ("1.fits", "2.fits")


def image(side: int = 101, seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 0.02, (3, side, side)).astype(np.float32)


def save(path: str | Path, pixels: NDArray[np.float32], **header: Any) -> None:
    # astropy cannot write to a name that is not UTF-8.
    with open(os.fsencode(path), "wb") as stream:
        fits.PrimaryHDU(pixels, fits.Header(header)).writeto(stream)


def save_npz(path: Path, pixels: NDArray[np.float32], **more: Any) -> None:
    np.savez(path, cutout=pixels.transpose(1, 2, 0), **more)


def put(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def not_utf8(folder: Path) -> None:
    save(os.fsdecode(os.fsencode(folder) + b"/0\xff.fits"), image())


# The odd file comes first in the order of the folder.
GOOD: dict[str, Callable[[Path], None]] = {
    "an accent": lambda folder: save(folder / "0-é.fits", image()),
    "a line break": lambda folder: save(folder / "0\n.fits", image()),
    "a name that is not UTF-8": not_utf8,
    "infinite": lambda folder: save(folder / "0.fits", np.full_like(image(), np.inf)),
    "one value": lambda folder: save(folder / "0.fits", np.full_like(image(), 3)),
    "an accent in the header": lambda folder: put(folder / "0.fits", with_accent()),
}
BAD: dict[str, Callable[[Path], None]] = {
    "a link to itself": lambda folder: (folder / "0.fits").symlink_to(folder / "0.fits"),
    "a link to nothing": lambda folder: (folder / "0.fits").symlink_to(folder / "none"),
    "a pipe": lambda folder: os.mkfifo(folder / "0.fits"),
    "one pixel": lambda folder: save(folder / "0.fits", image(1)),
    "25 pixels": lambda folder: save(folder / "0.fits", image(5)),
    "an image that is cut": lambda folder: put(folder / "0.fits", b"SIMPLE  = T"),
}
BAD_STACKS: dict[str, Callable[[Path], None]] = BAD | {
    "a pipe of NumPy": lambda folder: os.mkfifo(folder / "0.npy"),
    "one pixel in npz": lambda folder: save_npz(folder / "0.npz", image(1)),
    "one masked pixel": lambda folder: save_npz(
        folder / "0.npz", image(1), mask=np.ones((1, 1), bool)
    ),
}


def with_accent() -> bytes:
    unit = fits.PrimaryHDU(image(), fits.Header({"OBSERVER": "Renee"}))
    header: bytes = unit.header.tostring().replace("Renee", "Ren\xe9e").encode("latin-1")
    pixels: bytes = unit.data.astype(">f4").tobytes()
    return header + pixels.ljust(-(-len(pixels) // 2880) * 2880, b"\0")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "cutouts"
    folder.mkdir()
    for seed, name in enumerate(OTHERS):
        save(folder / name, image(seed=seed))
    return folder


def report(*arguments: object) -> tuple[int, dict[str, Any]]:
    done = invoke(app, *arguments, "--json")
    return done.exit_code, json.loads(done.stdout)


def commands(folder: Path) -> list[list[Any]]:
    out = folder.parent
    given = ["--annulus", 32.5, 45]
    return [
        ["normalize-fits", folder, "--out", out / "fits"],
        ["normalize-fits", folder, "--out", out / "more-fits", *given],
        ["normalize", folder, "--out", out / "a.npy"],
        ["normalize", folder, "--out", out / "b.npy", *given],
        ["show", folder, "--out", out / "a.png"],
    ]


@pytest.mark.parametrize("name", GOOD)
@pytest.mark.filterwarnings("default::RuntimeWarning:astropy")
def test_odd_files_that_are_good(folder: Path, name: str) -> None:
    GOOD[name](folder)
    for command in commands(folder):
        status, found = report(*command)
        assert (status, found["written"], found["rejected"]) == (0, 3, []), command


@pytest.mark.parametrize("name", BAD_STACKS)
def test_odd_files_that_are_bad(folder: Path, name: str) -> None:
    BAD_STACKS[name](folder)
    for command in commands(folder):
        if name not in BAD and command[0] == "normalize-fits":
            continue
        status, found = report(*command)
        assert (status, found["written"]) == (1, 2), command
        [rejected] = found["rejected"]
        assert Path(rejected["path"]).stem == "0"
        assert rejected["reason"]


def test_the_history_is_ascii(folder: Path) -> None:
    save(folder / "0-é.fits", image())
    assert report("normalize-fits", folder, "--out", folder.parent / "out")[0] == 0
    header = fits.getheader(folder.parent / "out" / "0-é.fits")
    assert "from 0-\\xe9.fits" in str(header["HISTORY"])


def test_any_error_is_that_of_its_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fastnorm.nddata import fits_output

    real = fits_output.normalize_file

    def broken(path: Path, *more: Any, **options: Any) -> Any:
        if path.name == OTHERS[0]:
            raise ZeroDivisionError("by zero")
        return real(path, *more, **options)

    monkeypatch.setattr(fits_output, "normalize_file", broken)
    status, found = report("normalize-fits", folder, "--out", folder.parent / "out")
    assert (status, found["written"]) == (1, 1)
    assert "ZeroDivisionError: by zero" in found["rejected"][0]["reason"]


def test_an_unusual_header_is_noticed_once(folder: Path) -> None:
    (folder / "0.fits").write_bytes(with_accent())
    (folder / "3.fits").write_bytes(with_accent())
    for command in commands(folder):
        done = invoke(app, *command)
        assert done.exit_code == 0
        text = " ".join(done.stderr.split())
        assert text.count("non-ASCII characters are present") == 1, command
        assert "0.fits and 1 more file: " in text


def test_every_size_has_its_annulus_in_the_summary(folder: Path) -> None:
    save(folder / "0.fits", image(256))
    out = folder.parent / "out"
    status, found = report("normalize-fits", folder, "--out", out)
    assert status == 0
    assert found["annuli"] == [
        {"size": [101, 101], "annulus": [32.5, 45.0], "files": 2},
        {"size": [256, 256], "annulus": [83.2, 115.2], "files": 1},
    ]
    for name, radii in (("0", (83.2, 115.2)), ("1", (32.5, 45.0))):
        header = fits.getheader(out / f"{name}.fits")
        assert (header["ANNRIN"], header["ANNROUT"]) == radii
    done = invoke(app, "normalize-fits", folder, "--out", out, "--overwrite")
    text = " ".join(done.stdout.split())
    assert "2 of 101 x 101 pixels with the annulus (32.5, 45.0)" in text
    assert "1 of 256 x 256 pixels with the annulus (83.2, 115.2)" in text
    warned = " ".join(done.stderr.split())
    assert "warning: the files have 2 sizes, and each size another annulus" in warned
    given = invoke(app, "normalize-fits", folder / "1.fits", "--out", out, "--overwrite")
    assert "warning" not in given.stderr
