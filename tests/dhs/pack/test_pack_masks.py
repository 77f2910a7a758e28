"""Cutouts with and without masks in one pack: the error names a remedy, and the remedy works."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dhs.pack import open_pack
from tests.dhs.pack.pack_cases import make
from tests.fastnorm.io.fits_cases import legacy_units, save_legacy


@pytest.mark.parametrize("is_fits_first", [True, False])
def test_fits_with_masks_beside_npz_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_fits_first: bool
) -> None:
    save_legacy(tmp_path / "survey.fits")
    pixels = legacy_units(seed=1)[0].data
    np.savez(tmp_path / "mine.npz", cutout=pixels.transpose(1, 2, 0))
    names = ["survey.fits", "mine.npz"][:: 1 if is_fits_first else -1]
    manifest = tmp_path / "cutouts.csv"
    manifest.write_text("cutout_path,label\n" + "".join(f"{name},0\n" for name in names))
    [rejected] = make(manifest, "refused").rejected
    assert rejected.path.name == names[1]
    remedy = "numpy.save('good.npy', numpy.zeros((101, 101), bool))"
    assert remedy in rejected.reason
    assert "mask_path" in rejected.reason

    monkeypatch.chdir(tmp_path)
    exec(f"import numpy; {remedy}")
    rows = "".join(f"{name},0,good.npy\n" for name in names)
    manifest.write_text(f"cutout_path,label,mask_path\n{rows}")
    done = make(manifest, "pack")
    assert done.is_finished
    pack = open_pack(done.out)
    assert pack.masks is not None
    masks = dict(zip(names, (mask for shard in pack.masks for mask in shard), strict=True))
    assert not masks["mine.npz"].any()
    assert masks["survey.fits"].any()
