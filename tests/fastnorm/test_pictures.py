"""Pictures in three formats: what they contain, the same bytes twice, and whole or absent."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure

from fastnorm.pictures import PICTURE_SUFFIXES, remove_other_formats, save_picture

SVG = "{http://www.w3.org/2000/svg}"
START = {".png": b"\x89PNG\r\n\x1a\n", ".pdf": b"%PDF-", ".svg": b"<?xml"}


def figure() -> Figure:
    drawn = Figure(figsize=(3, 2))
    one, two = drawn.subplots(1, 2)
    one.imshow(np.random.default_rng(1).normal(size=(40, 40)), interpolation="nearest")
    two.bar([1, 2], [3, 4], hatch="//")
    two.set_title("Einstein radius")
    return drawn


@pytest.mark.parametrize("suffix", PICTURE_SUFFIXES)
def test_the_file_is_what_its_name_says(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"picture{suffix}"
    save_picture(figure(), path, dpi=100)
    assert path.read_bytes().startswith(START[suffix])
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


def test_svg_has_text_and_a_raster_image(tmp_path: Path) -> None:
    path = tmp_path / "picture.svg"
    save_picture(figure(), path, dpi=100)
    root = ElementTree.parse(path).getroot()
    assert root.tag == f"{SVG}svg"
    words = ["".join(item.itertext()).strip() for item in root.iter(f"{SVG}text")]
    assert "Einstein radius" in words
    assert sum(1 for _ in root.iter(f"{SVG}image")) == 1
    assert b"date" not in path.read_bytes()


def test_pdf_has_embedded_fonts_an_image_and_no_date(tmp_path: Path) -> None:
    path = tmp_path / "picture.pdf"
    save_picture(figure(), path, dpi=100)
    content = path.read_bytes()
    assert b"/FontFile2" in content
    assert b"/Subtype /Image" in content
    assert b"/CreationDate" not in content
    assert content.rstrip().endswith(b"%%EOF")


@pytest.mark.parametrize("suffix", PICTURE_SUFFIXES)
def test_two_processes_write_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"other{suffix}"
    lines = (
        "from pathlib import Path; from tests.fastnorm.test_pictures import figure;"
        f"from fastnorm.pictures import save_picture; save_picture(figure(), Path({str(path)!r}))"
    )
    subprocess.run([sys.executable, "-c", lines], check=True, timeout=120)
    save_picture(figure(), tmp_path / f"this{suffix}")
    first, second = (
        hashlib.sha256((tmp_path / f"{name}{suffix}").read_bytes()).hexdigest()
        for name in ("this", "other")
    )
    assert first == second


@pytest.mark.parametrize("name", ["picture.jpg", "picture", "picture.PNG.gz"])
def test_other_formats_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"\.png, \.pdf or \.svg"):
        save_picture(figure(), tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_the_older_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "picture.svg"
    path.write_text("older")

    def fail(self: Figure, file: Path, **options: object) -> None:
        Path(file).write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(OSError, match="No space"):
        save_picture(figure(), path)
    assert path.read_text() == "older"
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


def test_pictures_of_an_earlier_run_in_another_format_go(tmp_path: Path) -> None:
    for name in ("roc.png", "roc.pdf", "roc.svg", "roc.json", "scores.png"):
        (tmp_path / name).write_text(name)
    remove_other_formats(tmp_path / "roc.pdf")
    assert sorted(item.name for item in tmp_path.iterdir()) == ["roc.json", "roc.pdf", "scores.png"]
