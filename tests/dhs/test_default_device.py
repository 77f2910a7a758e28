"""Reading, scoring, training and injecting do not use the device of `torch.set_default_device`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dhs import checkpoint
from dhs.checkpoint.published import import_old
from dhs.injection.noise import Noise as ArcNoise
from dhs.injection.tensors import inject_tensors
from dhs.model.batch_size import choose_batch_size
from dhs.model.features import features_of
from dhs.realism.run import gather
from dhs.score import score
from dhs.score.table import read_table
from tests.dhs.data.data_cases import CPU, add_masks, batches_of, of_files, opened
from tests.dhs.data.data_cases import files as files
from tests.dhs.data.data_cases import pack as pack
from tests.dhs.data.data_cases import pixels as pixels
from tests.dhs.data.data_cases import whole as whole
from tests.dhs.injection.injection_draws import draws
from tests.dhs.model.model_cases import weights, write
from tests.dhs.realism.realism_cases import Noise
from tests.dhs.score.score_cases import write_model
from tests.dhs.train.training_runs import SIDE, bytes_of, run
from tests.elsewhere import elsewhere as elsewhere

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "model.safetensors")


def test_cutouts_masks_and_batches_are_read(pack: Path, files: Path) -> None:
    masks = np.concatenate(add_masks(pack))
    data = opened(pack)
    images, mask = data.read([3, 90])
    assert mask is not None
    assert images.device == mask.device == CPU
    assert np.array_equal(mask.numpy(), masks[[3, 90]])
    everything, bad = data.resident(CPU)
    assert bad is not None
    assert np.array_equal(bad.numpy(), masks)
    assert torch.equal(everything[[3, 90]], images)
    batch = next(iter(batches_of(data)[0]))
    assert torch.equal(batch.images, everything[torch.from_numpy(batch.positions)])
    assert of_files(files).read([0])[0].device == CPU


def test_a_checkpoint_is_loaded_and_scores(model: Path, whole: Path, tmp_path: Path) -> None:
    found, _ = checkpoint.load(model)
    assert {value.device.type for value in found.state_dict().values()} == {"cpu"}
    features = features_of(found, Noise(5), 4, CPU)
    assert choose_batch_size([found], SIDE, CPU) > 0
    score(model, [whole], tmp_path / "found.parquet", batch_size=8)
    torch.set_default_device(None)
    plain, _ = checkpoint.load(model)
    assert np.array_equal(features, features_of(plain, Noise(5), 4, CPU))
    score(model, [whole], tmp_path / "plain.parquet", batch_size=8)
    tables = [read_table(tmp_path / f"{name}.parquet").logits for name in ("found", "plain")]
    assert np.array_equal(tables[0], tables[1])


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["efficientnet_v2_s", "resnet18"])
def test_a_network_of_timm_is_rebuilt(arch: str, tmp_path: Path) -> None:
    torch.set_default_device(None)
    from dhs.model import LensFinder
    from dhs.preprocess.spec import PreprocessSpec

    made = LensFinder(PreprocessSpec(annulus_r_in=10.4, annulus_r_out=14.4), arch, size=SIDE)
    path = tmp_path / "model.safetensors"
    checkpoint.save(path, made, config={}, metrics={}, data={"data_origin": "simulated"})
    torch.set_default_device("meta")
    found, _ = checkpoint.load(path)
    images = Noise(1).images
    with torch.inference_mode():
        assert torch.equal(found(images), made.eval()(images))


def test_an_old_file_is_imported(tmp_path: Path) -> None:
    torch.set_default_device(None)
    old = write(tmp_path / "old.pt")
    torch.set_default_device("meta")
    import_old(old, tmp_path / "made.safetensors")
    found, _ = checkpoint.load(tmp_path / "made.safetensors")
    torch.set_default_device(None)
    assert all(torch.equal(found.backbone.state_dict()[name], x) for name, x in weights().items())


def test_a_default_dtype_does_not_change_what_is_read(whole: Path, model: Path) -> None:
    torch.set_default_device(None)
    expected = opened(whole).read([3, 90])[0]
    logits = checkpoint.load(model)[0](expected)
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(opened(whole).read([3, 90])[0], expected)
        assert torch.equal(opened(whole).resident(CPU)[0][[3, 90]], expected)
        assert torch.equal(checkpoint.load(model)[0](expected), logits)
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_realism_check_reads_files_with_and_without_masks(
    model: Path, pixels: np.ndarray, tmp_path: Path
) -> None:
    for k, name in enumerate("abcd"):
        cutout = pixels[k].transpose(1, 2, 0)
        masks = {"mask": cutout > 2} if name == "b" else {}
        np.savez(tmp_path / f"{name}.npz", cutout=cutout, **masks)
    gathered = gather(model, [tmp_path / "a.npz", tmp_path / "b.npz"], [tmp_path / "[cd].npz"])
    assert gathered.real.shape == gathered.injected.shape
    assert np.isfinite(gathered.real).all()


def test_arcs_are_added_to_tensors() -> None:
    lens, source = draws(2, 20)
    hosts = torch.from_numpy(np.random.default_rng(1).normal(0, 1, (2, 3, 101, 101)))
    options: dict[str, Any] = {"noise": ArcNoise(), "seed": 1, "ids": np.arange(2)}
    found = inject_tensors(hosts.float(), lens, source, np.full((2, 3), 1.3), **options)
    torch.set_default_device(None)
    expected = inject_tensors(hosts.float(), lens, source, np.full((2, 3), 1.3), **options)
    assert torch.equal(found.stamps, expected.stamps)


@pytest.mark.slow
def test_a_training_is_the_same(whole: Path, tmp_path: Path) -> None:
    run(whole, tmp_path / "found", epochs=1)
    torch.set_default_device(None)
    run(whole, tmp_path / "plain", epochs=1)
    assert bytes_of(tmp_path / "found") == bytes_of(tmp_path / "plain")
