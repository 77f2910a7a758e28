"""Regression tests of fuzzing: files that were once read or rejected in the wrong way."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import warnings
import zipfile
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from astropy.io import fits
from safetensors.torch import save

from dhs import checkpoint
from dhs.checkpoint import CheckpointError
from dhs.checkpoint.published import read_old
from dhs.config.file import parse_yaml, read_yaml
from dhs.pack import open_pack
from dhs.pack.source import read_source
from dhs.simulate.config import read_survey_config
from dhs.train.config import read_config
from fastnorm.io import CutoutError, read_cutouts
from fastnorm.io.numpy_files import load_mask
from fastnorm.text import MOST_LETTERS
from tests import ROOT
from tests.dhs.model.model_cases import write
from tests.fastnorm.io.test_sizes import card
from tests.faults.fuzz.test_fuzz_checkpoint import HEADER, TENSORS, file_of
from tests.faults.fuzz.test_fuzz_fits import FILES
from tests.faults.fuzz.test_fuzz_manifest import COLUMNS, PACK, STACK, as_parquet
from tests.faults.fuzz.watch import watched

PIXELS = np.random.default_rng(0).normal(size=(3, 8, 9)).astype(np.float32)


def reason(path: Path) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(CutoutError) as caught:
            list(read_cutouts(path))
    assert caught.value.reason.isprintable()
    return caught.value.reason


@pytest.fixture
def npz(tmp_path: Path) -> Path:
    np.savez(tmp_path / "a.npz", cutout=PIXELS.transpose(1, 2, 0), mask=np.zeros((8, 9), bool))
    return tmp_path / "a.npz"


def test_npz_behind_other_bytes(npz: Path) -> None:
    npz.write_bytes(b"\0" + npz.read_bytes())
    assert "does not begin with PK" in reason(npz)


def test_npy_that_ends_like_an_archive(npz: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "mask.npy", np.zeros((8, 9), bool))
    with (tmp_path / "mask.npy").open("ab") as stream:
        stream.write(npz.read_bytes())
    with pytest.raises(CutoutError, match="bytes in total, but there are"):
        load_mask(tmp_path / "mask.npy")


@pytest.mark.parametrize("name", ["cutout.npy", "cutout"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_npz_with_an_array_twice(npz: Path, name: str) -> None:
    with zipfile.ZipFile(npz, "a") as archive:
        archive.writestr(name, b"other")
    assert "has 'cutout' more than once" in reason(npz)


def test_reasons_are_one_printable_line_and_the_same_every_time(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("\x1b[31mred\n\u202e" + "x" * 5000, b"")
    assert r"\x1b[31mred" in reason(tmp_path / "a.npz")
    assert len(reason(tmp_path / "a.npz")) < MOST_LETTERS + 50
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x01\0\x04\0name")
    assert "malformed" in reason(tmp_path / "a.npy")
    assert "0x" not in reason(tmp_path / "a.npy")


def as_fits(*units: Any) -> bytes:
    stream = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), *units]).writeto(stream)
    return stream.getvalue()


def test_headers_that_astropy_stumbles_over(tmp_path: Path) -> None:
    content = as_fits(fits.CompImageHDU(PIXELS, compression_type="GZIP_1", quantize_level=0))
    (tmp_path / "a.fits").write_bytes(card(content, "TTYPE1", 0))
    assert "AssertionError" in reason(tmp_path / "a.fits")
    (tmp_path / "a.fits").write_bytes(card(content, "ZTILE1", 0))
    assert "not all positive integers" in reason(tmp_path / "a.fits")
    # A header that continues with another header in the middle of a card.
    (tmp_path / "a.fits").write_bytes(FILES["griz"][:643] + FILES["hcompress"][643:])
    assert "is damaged" in reason(tmp_path / "a.fits")


@pytest.mark.parametrize("name", ["a.fits", "a.fits.gz"])
def test_a_small_fits_takes_little_memory(tmp_path: Path, name: str) -> None:
    fits.PrimaryHDU(PIXELS).writeto(tmp_path / name)
    list(read_cutouts(tmp_path / name))
    with watched(0):
        assert len(list(read_cutouts(tmp_path / name))) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"a: 1\na: 2\n", "a key appears twice"),
        (b"a: 2001-13-45\n", "month must be in 1..12"),
        (b"a: " + b"9" * 5000, "a number of 5,000 digits"),
        (b"a: \xff\n", "can't decode byte 0xff"),
        (b"a: " + b"[" * 400, "nested too deeply"),
        (b"a: !!int x\n", "invalid literal"),
        (b"a: &a [*a]\n", r"references \(\*\) are not allowed"),
        (b"a: !!python/object/apply:os.system [touch x]\n", "could not determine a constructor"),
    ],
)
def test_yaml_that_is_none_of_ours(tmp_path: Path, text: bytes, said: str) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(text)
    readers: tuple[Callable[[Path], object], ...] = (read_yaml, read_config, read_survey_config)
    for read in readers:
        with pytest.raises(ValueError, match=said) as caught:
            read(path)
        assert str(path) in str(caught.value)
        assert str(caught.value).isprintable()


def test_settings_are_quoted_printably() -> None:
    assert parse_yaml("1e-4") == "1e-4"
    config = ROOT / "configs" / "demo_grid.yaml"
    for setting in ("a\x1b[31m", "checkpoint.a\x1b=1", "seed=\x1b"):
        with pytest.raises(ValueError, match="--set") as caught:
            read_config(config, [setting])
        assert str(caught.value).isprintable()


def refused(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        checkpoint.read(path)
    assert str(caught.value).isprintable()
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"metrics": {"val_auc": "x"}}, "metrics.val_auc='x' is not a number"),
        ({"metrics": []}, "metrics is a list"),
        ({"tensors": {"w": {"dtype": "f", "shape": {}}}}, "tensor w is"),
        ({"deprecated": 1}, "deprecated is a int"),
        ({"architecture": HEADER["architecture"] | {"size": "1"}}, "size='1' is not an integer"),
        ({"architecture": HEADER["architecture"] | {"size": 10**6}}, "size=1000000 is above 4096"),
        ({"architecture": HEADER["architecture"] | {"in_ch": 0}}, "must be at least 1"),
        (
            {"architecture": HEADER["architecture"] | {"kwargs": {"pretrained": True}}},
            "kwargs has pretrained, which is not an option of a network",
        ),
        ({"data": {"data_origin": "x", "mask_bits": "\x1b"}}, "incomplete or invalid"),
    ],
)
def test_headers_that_could_not_be_shown_later(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    assert said in refused(tmp_path / "a.safetensors", file_of(json.dumps(HEADER | change)))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (json.dumps(HEADER | {"metrics": {"val_auc": float("nan")}}), "is not finite"),
        (json.dumps(HEADER)[:-1] + ', "created": "twice"}', "a key occurs twice"),
        ("[" * 100_000, "nested too deeply"),
        ("[" * 9000 + "]" * 9000, "nested too deeply"),
        ('{"format_version": "\x1b"}'.replace("\x1b", "\\u001b"), "of format"),
    ],
)
def test_json_of_headers(tmp_path: Path, text: str, said: str) -> None:
    assert said in refused(tmp_path / "a.safetensors", file_of(text))


def test_a_name_of_a_tensor_that_commands_the_terminal(tmp_path: Path) -> None:
    content = save(TENSORS | {"\x1b[31m": torch.zeros(1)}, {"dhs": json.dumps(HEADER)})
    assert "does not belong" in refused(tmp_path / "a.safetensors", content)


def test_old_files_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    half = {"mode": "raw_robust", "annulus_r_in": 32.5}
    write(path, preprocess_spec=half, dataset={})
    with pytest.raises(CheckpointError, match=r"a\.pt: its preprocessing .* give both radii"):
        read_old(path)
    torch.save({"model": {1: torch.zeros(1)}}, path)
    with pytest.raises(CheckpointError, match="no state dict"):
        read_old(path)
    # torch warns about this pickle protocol.
    path.write_bytes(pickle.dumps({"model": {}}, protocol=4))
    with pytest.raises(CheckpointError, match=str(path)):
        read_old(path)
    # torch seeks to a position before the start of the file.
    whole = (write(path)).read_bytes()[:4744]
    path.write_bytes(whole[:820] * 4 + whole)
    with pytest.raises(CheckpointError, match=r"is damaged or not a \.pt file"):
        read_old(path)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"cutout_path,\xff\na.npz,1\n", "damaged or not a .csv file"),
        ("a.csv", b"cutout_path,label\na\x1b[31m.npz,7\n", r"a\x1b[31m.npz (7.0)"),
        ("a.parquet", as_parquet(COLUMNS, "[" * 100_000), "are not valid JSON"),
        ("a.parquet", b"PAR1" + b"\x0f" * 40 + b"\x28\0\0\0PAR1", "damaged"),
    ],
)
def test_manifests(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=str(tmp_path / name)) as caught:
        read_source(tmp_path / name, "simulated")
    assert said in str(caught.value)
    assert str(caught.value).replace("\n", "").isprintable()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    np.save(folder / "shard-00000.npy", STACK[:4])
    np.save(folder / "shard-00001.npy", STACK[4:])
    (folder / "manifest.parquet").write_bytes(as_parquet(PACK))
    return folder


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ra": ["x"] * 6}, "ra is of type string; it must be a number"),
        ({"galaxy_id": [["a"]] * 6}, "galaxy_id is of type list"),
        ({"split": [b"train"] * 6}, "split is of type binary; it must be text"),
        ({"shard": [1] * 6}, "shard is of type int64"),
        ({"label": [Decimal(1)] * 6}, "label is of type decimal"),
    ],
)
def test_columns_of_a_pack(whole: Path, tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    pack = shutil.copytree(whole, tmp_path / "pack")
    (pack / "manifest.parquet").write_bytes(as_parquet(PACK | changes))
    with pytest.raises(ValueError, match=str(pack)) as caught:
        open_pack(pack)
    assert said in str(caught.value)


def test_a_shard_whose_header_does_not_end(whole: Path, tmp_path: Path) -> None:
    pack = shutil.copytree(whole, tmp_path / "pack")
    content = bytearray((pack / "shard-00000.npy").read_bytes())
    content[8] ^= 64
    (pack / "shard-00000.npy").write_bytes(content)
    with pytest.raises(ValueError, match=r"shard-00000\.npy"):
        open_pack(pack)
