"""Values of configurations and files that libraries misread are errors of one line."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from astropy.io import fits
from pyarrow import parquet

from dhs.config.file import parse_yaml, read_yaml
from dhs.manifest.table import read_manifest
from dhs.model.finder import build_model
from dhs.selection.images import InjectedRows
from fastnorm.io import CutoutError, read_cutouts

NETWORKS: list[tuple[str, dict[str, Any], str]] = [
    ("bottlenecked_resnet", {"base_ch": -3}, "base_ch=-3 is not allowed"),
    ("bottlenecked_resnet", {"base_ch": 0}, "base_ch=0 is not allowed"),
    ("bottlenecked_resnet", {"base_ch": 2.5}, "base_ch=2.5 is not an integer"),
    ("bottlenecked_resnet", {"base_ch": True}, "base_ch=True is not an integer"),
    ("bottlenecked_resnet", {"in_ch": -1}, "in_ch=-1 is not allowed"),
    ("bottlenecked_resnet", {"in_ch": 0}, "in_ch=0 is not allowed"),
    ("bottlenecked_resnet", {"drop_rate": "0"}, "drop_rate='0' is not a number"),
    ("resnet18", {"drop_rate": "a"}, "drop_rate='a' is not a number"),
    ("resnet18", {"drop_rate": -1}, "drop_rate=-1 is not allowed"),
    ("resnet18", {"drop_path_rate": True}, "drop_path_rate=True is not a number"),
    ("resnet18", {"drop_path_rate": float("nan")}, "drop_path_rate=nan is not allowed"),
    ("resnet18", {"act_layer": "nosuch"}, "resnet18 cannot be built with .* KeyError: 'nosuch'"),
    ("resnet18", {"output_stride": 7}, "resnet18 cannot be built with .* AssertionError"),
    ("resnet18", {"base_ch": 3}, "resnet18 cannot be built with .* TypeError"),
    ("resnet18", {"num_classes": 5}, "num_classes=5 is not an option"),
    ("resnet18", {"features_only": True}, "features_only=True is not an option"),
    ("resnet18", {"pretrained_cfg": 3}, "pretrained_cfg=3 is not an option"),
    ("vit_tiny_patch16_224", {"img_size": "a"}, "cannot be built with .* TypeError"),
    ("vit_tiny_patch16_224", {"patch_size": 0}, "cannot be built with .*Error"),
]


@pytest.mark.parametrize(("arch", "options", "said"), NETWORKS)
def test_options_of_networks(arch: str, options: dict[str, Any], said: str) -> None:
    with pytest.raises((TypeError, ValueError), match=said) as error:
        build_model(arch, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "value",
    [
        ":".join(["1"] * 300) + ".5",
        "12:30:45",
        "-1:30",
        "12:30:45.5",
        "[1, 2:30]",
        "{a: 190:20:30}",
    ],
)
def test_numbers_of_base_60_are_refused(value: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"ra: {value}\n")
    with pytest.raises(ValueError, match="is a number of base 60 in YAML") as error:
        read_yaml(tmp_path / "a.yaml")
    assert "\n" not in str(error.value)
    assert "line 1, column" in str(error.value)


@pytest.mark.parametrize("value", ["010", "-07", "0o10_", "1" * 5000, "1.0e+400"])
def test_other_numbers_that_are_not_what_they_look_like(value: str) -> None:
    if value.startswith("0o"):
        assert parse_yaml(value) == value
        return
    with pytest.raises(ValueError, match=r"in YAML|a number of 5,000 digits|too large"):
        parse_yaml(f"a: {value}")


def test_texts_and_other_numbers_of_yaml() -> None:
    text = "a: '12:30'\nb: 0\nc: 0.5\nd: -1_000\ne: 0x10\nf: .inf\ng: a:b\nh: 00:11:22:33:44:ff\n"
    assert parse_yaml(text) == {
        "a": "12:30", "b": 0, "c": 0.5, "d": -1000, "e": 16, "f": float("inf"), "g": "a:b",
        "h": "00:11:22:33:44:ff",
    }  # fmt: skip


@pytest.mark.parametrize("zone", ["Mars/Olympus", "+99:99", "\u00e9"])
def test_an_unknown_time_zone(tmp_path: Path, zone: str) -> None:
    now = pyarrow.array([datetime.datetime(2026, 1, 1)], pyarrow.timestamp("us", zone))
    parquet.write_table(pyarrow.table({"label": [1], "night": now}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"a.parquet: the column night has the time zone") as error:
        read_manifest(tmp_path / "a.parquet")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("zone", ["Europe/Paris", "UTC", "+02:00"])
def test_known_time_zones(tmp_path: Path, zone: str) -> None:
    now = pyarrow.array([datetime.datetime(2026, 1, 1)], pyarrow.timestamp("us", zone))
    parquet.write_table(pyarrow.table({"night": now}), tmp_path / "a.parquet")
    table, _ = read_manifest(tmp_path / "a.parquet")
    assert len(table) == 1


@pytest.mark.parametrize("config", [{"hosts": 3, "nosuch": 1}, 3, None])
def test_a_grid_with_an_invalid_configuration(tmp_path: Path, config: object) -> None:
    (tmp_path / "grid.json").write_text(json.dumps({"config": config}))
    with pytest.raises(ValueError, match=r"grid.json (is not valid|has no config)") as error:
        InjectedRows(tmp_path, [0])
    assert "\n" not in str(error.value)
    assert "http" not in str(error.value)


PIXELS = np.random.default_rng(0).normal(size=(3, 101, 101)).astype(np.float32)


def said_of(path: Path) -> str:
    with pytest.raises(CutoutError) as error:
        list(read_cutouts(path))
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("INVVAR", np.ones_like(PIXELS)),
        ("MASKBITS", np.zeros((101, 101), np.int16)),
        ("MASK", np.zeros(PIXELS.shape, np.uint8)),
    ],
)
def test_two_units_of_one_name(tmp_path: Path, name: str, content: Any) -> None:
    path = tmp_path / "a.fits"
    units = [fits.PrimaryHDU(PIXELS), fits.ImageHDU(content, name=name)]
    fits.HDUList(units).writeto(path)
    assert len(list(read_cutouts(path))) == 1
    fits.HDUList([*units, fits.ImageHDU(content, name=name.lower())]).writeto(path, overwrite=True)
    assert f"{path}: has {name} 2 times (HDUs 1 and 2)" in said_of(path)


def test_plio_on_floats(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    mask = fits.CompImageHDU(np.zeros((101, 101), np.int16), name="MASKBITS")
    image = fits.CompImageHDU(PIXELS, compression_type="GZIP_1", quantize_level=0)
    fits.HDUList([fits.PrimaryHDU(), image, mask]).writeto(path)
    assert np.array_equal(next(read_cutouts(path)).pixels, PIXELS)
    content = path.read_bytes()
    assert content.count(b"'GZIP_1  '") == 1
    path.write_bytes(content.replace(b"'GZIP_1  '", b"'PLIO_1  '"))
    assert "HDU 1: ZCMPTYPE is PLIO_1, which cannot hold" in said_of(path)


def test_plio_on_integers(tmp_path: Path) -> None:
    path = tmp_path / "a.fits"
    bits = np.zeros((101, 101), np.int16)
    bits[50, 50] = 2
    mask = fits.CompImageHDU(bits, name="MASKBITS", compression_type="PLIO_1")
    fits.HDUList([fits.PrimaryHDU(PIXELS), mask]).writeto(path)
    cutout = next(read_cutouts(path))
    assert cutout.mask is not None
    assert cutout.mask[:, 50, 50].all()
