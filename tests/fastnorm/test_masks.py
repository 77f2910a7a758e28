"""Tests of masks of FITS files in packs, trainings, scores and grids."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from astropy.io import fits
from numpy.typing import NDArray
from typer.testing import CliRunner

from dhs import checkpoint
from dhs.checkpoint import CheckpointError
from dhs.cli import app
from dhs.data import DatasetConfig, LensDataset
from dhs.model import LensFinder
from dhs.pack import open_pack, write_pack
from dhs.preprocess.spec import PreprocessSpec
from dhs.realism.samples import Draw
from dhs.score import score
from dhs.score.table import read_table
from dhs.selection.engine import Engine
from dhs.selection.images import InjectedRows
from dhs.selection.run import run_grid
from dhs.train import train
from dhs.train.config import read_config
from fastnorm.io import read_cutouts
from fastnorm.io.maskbits import MaskBits
from tests.dhs.score.score_cases import SPEC
from tests.dhs.selection import grid_runs
from tests.dhs.train.training_runs import SIDE, bytes_of
from tests.fastnorm.io.fits_cases import legacy_units

N = 40
GALAXY = "dr10:GALAXY"
WIDTH = {"start": 1.2, "stop": 1.2, "step": 0.3}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write FITS files and a manifest; ALLMASK_R marks 15 rows of r, and GALAXY others in all."""
    folder, rng = tmp_path_factory.mktemp("files"), np.random.default_rng(0)
    for k in range(N):
        pixels = rng.normal(0, 1, (3, SIDE, SIDE)).astype(np.float32)
        pixels[:, 20:24, 8:12] += 3 * (k % 2)
        # Bad pixels are brighter than the sky, so that the statistics depend on the mask.
        pixels[1, :15] += 50
        pixels[:, 18:] += 20
        maskbits = np.zeros((SIDE, SIDE), np.int16)
        maskbits[:15] |= 1 << 6
        maskbits[18:] |= 1 << 12
        units = [fits.PrimaryHDU(pixels), fits.ImageHDU(maskbits, name="MASKBITS")]
        units.append(fits.ImageHDU(np.ones_like(pixels), name="INVVAR"))
        fits.HDUList(units).writeto(folder / f"c{k:02d}.fits")
    table = pd.DataFrame({"cutout_path": [f"c{k:02d}.fits" for k in range(N)]})
    table["label"] = np.arange(N) % 2
    table["split"] = np.where(np.arange(N) % 4 < 2, "train", "val")
    table["psfsize_r"], table["psfdepth_r"] = 1.2, grid_runs.INVERSE_VARIANCE
    table.to_csv(folder / "manifest.csv", index=False)
    return folder


def bad(mask_bits: str = "") -> NDArray[np.bool_]:
    """Return the bad pixels of every cutout, by default or by GALAXY."""
    mask = np.zeros((3, SIDE, SIDE), bool)
    if mask_bits == GALAXY:
        mask[:, 18:] = True
    else:
        mask[1, :15] = True
    return mask


@pytest.fixture(scope="module", params=["", GALAXY], ids=["default", "galaxy"])
def packed(request: pytest.FixtureRequest, files: Path) -> tuple[Path, str]:
    out = files / f"pack-{len(request.param)}"
    command = ["pack", str(files / "manifest.csv"), "--out", str(out), "--data-origin", "made-up"]
    command += ["--mask-bits", request.param] if request.param else []
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    return out, request.param


def trained(pack: Path, out: Path, **dataset: Any) -> Path:
    changes = {"dataset.parquet_path": str(pack), "train.out_dir": str(out)}
    changes |= {f"dataset.{name}": value for name, value in dataset.items()}
    text = """
dataset: {parquet_path: x, crop: false, annulus_r_in: 10.4, annulus_r_out: 14.4}
train: {arch: bottlenecked_resnet, base_ch: 2, epochs: 1, batch_size: 6, lr: 0.01, device: cpu,
  out_dir: x}
"""
    path = out.parent / f"{out.name}.yaml"
    path.write_text(text)
    config = read_config(path, [f"{key}={json.dumps(value)}" for key, value in changes.items()])
    train(config, "test")
    return out / "best.safetensors"


@pytest.fixture(scope="module")
def model(packed: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(packed[0], tmp_path_factory.mktemp("training") / "out")


def normalised(pixels: NDArray[np.float32], mask: NDArray[np.bool_]) -> torch.Tensor:
    """Normalise a cutout for the network, with NumPy only."""
    y, x = np.indices((SIDE, SIDE)) - SIDE // 2
    ring = (np.hypot(y, x) >= 10.4) & (np.hypot(y, x) < 14.4)
    planes = []
    for plane, masked in zip(pixels, mask, strict=True):
        good = plane[ring & ~masked]
        median = np.median(good)
        scale = np.float32(np.float64(np.median(np.abs(good - median))) + 1e-8)
        planes.append(np.clip((plane - median) / scale, -10, 10))
    return torch.from_numpy(np.stack(planes))


def test_a_pack_has_the_masks_of_its_files(packed: tuple[Path, str]) -> None:
    out, chosen = packed
    pack = open_pack(out)
    assert pack.masks is not None
    assert np.array_equal(pack.masks[0], np.broadcast_to(bad(chosen), (N, 3, SIDE, SIDE)))
    assert pack.metadata["mask_bits"] == (chosen or None)
    other = MaskBits.parse("dr10" if chosen else GALAXY)
    with pytest.raises(ValueError, match="contains a pack with different settings: mask_bits is"):
        write_pack(out.parent / "manifest.csv", out, data_origin="made-up", mask_bits=other)


def test_a_model_keeps_the_bits_and_scores_files_as_it_scores_a_pack(
    packed: tuple[Path, str], model: Path, tmp_path: Path
) -> None:
    out, chosen = packed
    finder, loaded = checkpoint.load(model)
    assert str(loaded.mask_bits) == (chosen or str(MaskBits()))
    score(model, [out], tmp_path / "pack.parquet", batch_size=4)
    score(model, [out.parent / "manifest.csv"], tmp_path / "listed.parquet", batch_size=4)
    score(model, sorted(out.parent.glob("*.fits")), tmp_path / "files.parquet", batch_size=4)
    tables = [read_table(tmp_path / f"{name}.parquet") for name in ("pack", "listed", "files")]
    for table in tables:
        assert np.array_equal(table.logits, tables[0].logits)
        assert table.metadata["mask_bits"] == str(loaded.mask_bits)
    with fits.open(out.parent / "c03.fits") as units:
        seen = normalised(units[0].data.astype(np.float32), bad(chosen))
        blind = normalised(units[0].data.astype(np.float32), np.zeros((3, SIDE, SIDE), bool))
    with torch.no_grad():
        expected, wrong = finder.backbone(torch.stack([seen, blind])).flatten().tolist()
    assert tables[0].logits[3] == pytest.approx(expected, abs=1e-5)
    assert abs(expected - wrong) > 1e-4


@pytest.mark.slow
def test_masks_count_in_a_training(packed: tuple[Path, str], model: Path, tmp_path: Path) -> None:
    out, chosen = packed
    if chosen:
        pytest.skip("files are read with the default bits")
    manifest = out.parent / "manifest.csv"
    of_files = {"mode": "file_manifest", "manifest_path": str(manifest), "data_origin": "made-up"}
    again = bytes_of(trained(out, tmp_path / "files", **of_files).parent)
    first = bytes_of(model.parent)
    assert {name: again[name] for name in first} == first
    for path in out.parent.glob("*.fits"):
        with fits.open(path) as units:
            units[0].writeto(tmp_path / path.name)
    (tmp_path / "manifest.csv").write_bytes(manifest.read_bytes())
    of_files["manifest_path"] = str(tmp_path / "manifest.csv")
    blind = bytes_of(trained(out, tmp_path / "blind", **of_files).parent)
    assert any(blind[name] != first[name] for name in first)


def test_a_change_of_masks_is_a_change_of_the_data(packed: tuple[Path, str]) -> None:
    out, chosen = packed
    config = DatasetConfig(parquet_path=str(out), crop=False, annulus_r_in=10.4, annulus_r_out=14.4)
    data = LensDataset(config, None)
    assert str(data.mask_bits) == (chosen or str(MaskBits()))
    manifest = pd.read_parquet(out / "manifest.parquet")
    changed = manifest.assign(mask_sha256="0" * 64)
    data.table = manifest
    assert data._fingerprint() == data.fingerprint
    data.table = changed
    assert data._fingerprint() != data.fingerprint


def save_model(path: Path, mask_bits: str, spec: PreprocessSpec = SPEC, seed: int = 1) -> Path:
    torch.manual_seed(seed)
    finder = LensFinder(spec, "bottlenecked_resnet", size=SIDE, base_ch=2)
    data = {"data_origin": "made-up", "mask_bits": mask_bits}
    checkpoint.save(path, finder, config={}, metrics={}, data=data)
    return path


def test_masks_of_other_bits_are_not_mixed(packed: tuple[Path, str], tmp_path: Path) -> None:
    out, chosen = packed
    other = save_model(tmp_path / "other.safetensors", "dr10:BRIGHT")
    said = rf"has masks from the MASKBITS {chosen or 'dr10:BRIGHT,SATUR.*'}, but the .*"
    with pytest.raises(ValueError, match=said + "--mask-bits 'dr10:BRIGHT'"):
        score(other, [out], tmp_path / "a.parquet")
    usual = save_model(tmp_path / "usual.safetensors", "", seed=2)
    with pytest.raises(ValueError, match="members of an ensemble must use the same"):
        score([other, usual], [out.parent / "manifest.csv"], tmp_path / "a.parquet")
    config = grid_runs.grid(out, other, tmp_path / "grid", psf_fwhm=WIDTH)
    with pytest.raises(ValueError, match="the checkpoint was trained with dr10:BRIGHT"):
        Engine(config)


def test_bits_that_are_none_make_a_checkpoint_that_is_none(tmp_path: Path) -> None:
    path = save_model(tmp_path / "a.safetensors", "dr99")
    with pytest.raises(CheckpointError, match=r"a\.safetensors .*release='dr99' is not known"):
        checkpoint.read(path)
    good = checkpoint.read(save_model(tmp_path / "b.safetensors", "dr9"))
    assert good.mask_bits == MaskBits("dr9")
    assert replace(good, data={"data_origin": "x"}).mask_bits == MaskBits()


def test_samples_of_files_and_packs_have_their_masks(
    packed: tuple[Path, str], tmp_path: Path
) -> None:
    out, chosen = packed
    loaded = checkpoint.read(save_model(tmp_path / "a.safetensors", chosen))
    draw = Draw(loaded, "label", N, np.random.default_rng(0))
    for paths in ([out], sorted(out.parent.glob("*.fits"))):
        images, mask = draw.of(paths, None).rows.read(np.array([2, 0]))
        assert images.shape == (2, 3, SIDE, SIDE)
        assert mask is not None
        assert np.array_equal(mask.numpy(), np.stack([bad(chosen)] * 2))
    other = checkpoint.read(save_model(tmp_path / "b.safetensors", "dr10:BRIGHT"))
    with pytest.raises(ValueError, match="the checkpoint was trained with dr10:BRIGHT"):
        Draw(other, "label", N, np.random.default_rng(0)).of([out], None)


def test_injections_made_again_have_the_masks_of_their_hosts(
    packed: tuple[Path, str], tmp_path: Path
) -> None:
    out, chosen = packed
    loaded = save_model(tmp_path / "a.safetensors", chosen)
    config = grid_runs.grid(
        out, loaded, tmp_path / "grid", psf_fwhm=WIDTH, fpr_targets=[], injections_per_cell=4
    )
    run_grid(config)
    images, mask = InjectedRows(tmp_path / "grid", [0, 3]).read(np.array([1, 0]))
    assert mask is not None
    assert np.array_equal(mask.numpy(), np.stack([bad(chosen)] * 2))
    with fits.open(out.parent / "c00.fits") as units:
        assert images.shape[1:] == units[0].data.shape


@pytest.mark.parametrize("keys", [("CD1_1", "CD2_2"), ("CDELT1", "CDELT2")])
def test_pixels_of_another_size_are_refused(
    tmp_path: Path, model_of_full_size: Path, keys: tuple[str, str]
) -> None:
    for name, arcsec in (("right", 0.262), ("wrong", 0.4)):
        units = legacy_units()
        header = units[0].header
        for key in ("CDELT1", "CDELT2", "PC1_1", "PC2_2"):
            header.pop(key, None)
        header[keys[0]], header[keys[1]] = -arcsec / 3600, arcsec / 3600
        units.writeto(tmp_path / f"{name}.fits")
    (cutout,) = read_cutouts(tmp_path / "wrong.fits")
    assert cutout.pixel_scale == pytest.approx(0.4)
    said = "has pixels of 0.4 arcsec (WCS); expected 0.262 arcsec"
    (tmp_path / "manifest.csv").write_text("cutout_path,label\nright.fits,1\nwrong.fits,0\n")
    loaded = write_pack(tmp_path / "manifest.csv", tmp_path / "pack", data_origin="made-up")
    assert [item.reason.startswith(said) for item in loaded.rejected] == [True]
    files = sorted(tmp_path.glob("*.fits"))
    scored = score(model_of_full_size, files, tmp_path / "scores.parquet", batch_size=2)
    assert [item.reason.startswith(said) for item in scored.rejected] == [True]
    checkpoint_made = checkpoint.read(model_of_full_size)
    sample = Draw(checkpoint_made, "label", 9, np.random.default_rng(0)).of(files, None)
    assert [item.reason.startswith(said) for item in sample.rejected] == [True]
    command = ["inject", *map(str, files), "--theta-e", "1.5", "--r-mag", "22", "--json"]
    drawn = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "a.png")])
    assert drawn.exit_code == 1, drawn.output
    assert [item["reason"][: len(said)] for item in json.loads(drawn.stdout)["rejected"]] == [said]


@pytest.fixture(scope="module")
def model_of_full_size(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "a.safetensors"
    torch.manual_seed(1)
    spec = PreprocessSpec(annulus_r_in=32.5, annulus_r_out=45)
    finder = LensFinder(spec, "bottlenecked_resnet", size=101, base_ch=2)
    checkpoint.save(path, finder, config={}, metrics={}, data={"data_origin": "made-up"})
    return path
