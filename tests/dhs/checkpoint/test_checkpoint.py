"""Checkpoints: round trips, damaged files and deprecation marks."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import fastnorm
from dhs.checkpoint import (
    CheckpointError,
    DeprecatedCheckpointError,
    DeprecatedCheckpointWarning,
    NoCheckpointError,
    PreprocessSpec,
)
from dhs.checkpoint import file as checkpoint
from dhs.preprocess.spec import SpecMismatchError
from tests.dhs.model.model_cases import CORRECTED, LEGACY, save, small
from tests.dhs.model.model_cases import one_thread as one_thread

CROPPED = PreprocessSpec(crop=True)
REASON = "the annulus lies inside the galaxy"


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the header of a checkpoint and leave its tensors."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["dhs"])
    change(header)
    save_file(load_file(path), path, metadata={"dhs": json.dumps(header)})


@pytest.mark.parametrize(
    "spec", [CORRECTED, CROPPED, PreprocessSpec("residual_radial_profile", clip_range=4)]
)
def test_a_model_comes_back(tmp_path: Path, spec: PreprocessSpec) -> None:
    model = small(spec)
    # Statistics that differ from those of a fresh model.
    images = torch.randn(4, 3, 101, 101, generator=torch.Generator().manual_seed(1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fastnorm.AnnulusWarning)
        model.train()(images)
        path = tmp_path / "a.safetensors"
        saved = save(path, model)
        assert model.training
        again, loaded = checkpoint.load(path, expect_spec=spec, expect_arch="bottlenecked_resnet")
        assert not again.training
        with torch.inference_mode():
            assert torch.equal(again(images), model.eval()(images))
    assert loaded == saved == checkpoint.read(path)
    assert again.spec == spec
    assert again.architecture == model.architecture
    for name, value in model.state_dict().items():
        assert again.state_dict()[name].dtype == value.dtype
        assert torch.equal(again.state_dict()[name], value)
    assert all(parameter.requires_grad for parameter in again.parameters())
    assert os.listdir(tmp_path) == ["a.safetensors"]


def test_what_it_says_of_itself(tmp_path: Path) -> None:
    saved = save(tmp_path / "a.safetensors", extra={"note": ["x", True]})
    assert saved.config == {"train": {"lr": 5e-4, "betas": [0.9, 0.999]}, "out": "checkpoints"}
    assert saved.metrics == {"val_auc": 0.75, "epoch": 3, "recall": None}
    assert saved.data == {"data_origin": "simulated", "fingerprint": "ab" * 32, "n_train": 700}
    assert saved.extra == {"note": ["x", True]}
    assert set(saved.versions) == {"python", "dhs", "torch", "timm", "numpy", "safetensors"}
    assert saved.versions["torch"] == torch.__version__
    assert saved.created.endswith("+00:00")
    assert saved.data_origin == "simulated"
    assert (saved.arch, saved.size) == ("bottlenecked_resnet", 101)
    assert saved.status == "corrected, on the sky"
    assert (saved.deprecated, saved.deprecated_at, saved.imported_from) == (None, None, None)
    state = small().state_dict()
    assert saved.tensors["preprocess.normalize._extra_state"] == {"dtype": "float64", "shape": [5]}
    assert saved.tensors["backbone.stem.1.num_batches_tracked"] == {"dtype": "int64", "shape": []}
    assert set(saved.tensors) == set(state)
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        header = json.loads(file.metadata()["dhs"])
    assert header["format_version"] == 1
    assert header["spec"] == CORRECTED.to_dict()
    assert header["spec_fingerprint"] == CORRECTED.fingerprint


def test_a_checkpoint_with_the_radii_alone_loads(tmp_path: Path) -> None:
    """Check files whose layer did not yet keep clip, eps and the policy on NaN."""
    path, name = tmp_path / "a.safetensors", "preprocess.normalize._extra_state"
    save(path)
    for radii, words in (((32.5, 45.0), None), ((20.0, 32.0), "contradicts itself")):
        tensors = load_file(path) | {name: torch.tensor(radii, dtype=torch.float64)}
        with safe_open(path, framework="pt") as file:
            header = json.loads(file.metadata()["dhs"])
        header["weights_sha256"] = checkpoint.weights_sha256(tensors)
        header["tensors"] = header["tensors"] | {name: {"dtype": "float64", "shape": [2]}}
        save_file(tensors, path, metadata={"dhs": json.dumps(header)})
        if words is None:
            checkpoint.load(path)
        else:
            with pytest.raises(CheckpointError, match=words):
                checkpoint.load(path)


def test_the_hash_of_the_weights_is_of_their_names_kinds_and_bytes() -> None:
    tensors = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.tensor(7)}
    digest = hashlib.sha256(b'["a", "int64", []]' + (7).to_bytes(8, "little"))
    digest.update(b'["b", "float32", [2, 3]]' + np.arange(6, dtype="<f4").tobytes())
    assert checkpoint.weights_sha256(tensors) == digest.hexdigest()
    # The order in the file and in memory does not matter.
    transposed = {"a": tensors["a"], "b": tensors["b"].T.contiguous().T}
    assert checkpoint.weights_sha256(transposed) == digest.hexdigest()
    for other in (
        tensors | {"b": tensors["b"].reshape(3, 2)},
        tensors | {"b": tensors["b"].view(torch.int32)},
        tensors | {"b": tensors["b"] + 1},
        {"c": tensors["b"], "a": tensors["a"]},
    ):
        assert checkpoint.weights_sha256(other) != digest.hexdigest()


def test_the_fingerprint_is_of_weights_preprocessing_and_architecture(tmp_path: Path) -> None:
    first = save(tmp_path / "a.safetensors")
    same = save(tmp_path / "b.safetensors", config={}, metrics={})
    assert first.fingerprint == same.fingerprint
    assert len(first.fingerprint) == 64
    other_spec = save(tmp_path / "c.safetensors", small(replace(CORRECTED, pixel_scale=0.168)))
    other_size = save(tmp_path / "d.safetensors", small(size=111))
    model = small()
    with torch.no_grad():
        next(model.backbone.parameters())[0, 0, 0, 0] += 1
    other_weights = save(tmp_path / "e.safetensors", model)
    assert other_size.weights_sha256 == other_spec.weights_sha256 == first.weights_sha256
    every = {item.fingerprint for item in (first, other_spec, other_size, other_weights)}
    assert len(every) == 4


def test_half_precision_stays_what_it_is(tmp_path: Path) -> None:
    model = small()
    model.backbone.half()
    save(tmp_path / "a.safetensors", model)
    again, _ = checkpoint.load(tmp_path / "a.safetensors", dtype=torch.float16)
    assert again.preprocess.normalize.dtype == torch.float16
    for name, value in again.state_dict().items():
        assert torch.equal(value, model.state_dict()[name])
        assert value.dtype == model.state_dict()[name].dtype


def test_layouts_and_wrappers_do_not_show(tmp_path: Path) -> None:
    plain = save(tmp_path / "a.safetensors")
    model = small().to(memory_format=torch.channels_last)
    compiled: Any = torch.compile(model.backbone)
    model.backbone = compiled
    assert any("_orig_mod" in name for name in model.state_dict())
    other = save(tmp_path / "b.safetensors", model)
    assert other.fingerprint == plain.fingerprint
    assert checkpoint.load(tmp_path / "b.safetensors")[1].tensors == plain.tensors


def test_a_loaded_model_does_not_follow_its_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save(path)
    model, _ = checkpoint.load(path)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    size = path.stat().st_size
    with path.open("r+b") as stream:
        stream.seek(size // 2)
        stream.write(bytes(size // 2))
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize(
    ("changes", "kind", "reason"),
    [
        ({"metrics": {"val": {"auc": float("nan")}}}, ValueError, r"metrics\.val\.auc=nan is not"),
        ({"metrics": {"auc": [1.0, np.inf]}}, ValueError, r"metrics\.auc\[1\]=inf is not finite"),
        ({"config": {"lr": torch.tensor(1.0)}}, TypeError, r"config\.lr is a Tensor"),
        ({"data": {"n_train": 3}}, ValueError, "data_origin=None; state where the cutouts come"),
        ({"data": {"data_origin": " "}}, ValueError, "data_origin=' '"),
        ({"data": {"data_origin": 10}}, ValueError, "data_origin=10"),
        ({"model": torch.nn.Linear(1, 1)}, TypeError, "model is a Linear; give the LensFinder"),
        ({"path": "a.pt"}, ValueError, r"must end in \.safetensors"),
        ({"path": "none/a.safetensors"}, OSError, "No such file .*a.safetensors"),
    ],
)
def test_what_cannot_be_saved(
    tmp_path: Path, changes: dict[str, Any], kind: type[Exception], reason: str
) -> None:
    path = tmp_path / changes.pop("path", "a.safetensors")
    with pytest.raises(kind, match=reason):
        save(path, **changes)
    assert os.listdir(tmp_path) == []


def test_an_interrupted_save_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.safetensors"
    save(path)
    before = path.read_bytes()

    def half(tensors: Any, temporary: Path, metadata: Any) -> None:
        temporary.write_bytes(before[: len(before) // 2])
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save_file", half)
    with pytest.raises(KeyboardInterrupt):
        save(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.safetensors"]


def test_another_preprocessing_or_architecture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save(path, small(LEGACY))
    with pytest.raises(SpecMismatchError) as caught:
        checkpoint.load(path, expect_spec=CORRECTED)
    assert str(path) in str(caught.value)
    assert "annulus_r_in 20.0 against 32.5" in str(caught.value)
    with pytest.raises(ValueError, match="'bottlenecked_resnet', expected 'resnet18'"):
        checkpoint.load(path, expect_arch="resnet18")


@pytest.mark.parametrize("keep", [0, 5, 200, -1000, -1])
def test_truncated(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "a.safetensors"
    save(path)
    path.write_bytes(path.read_bytes()[:keep])
    for door in (checkpoint.read, checkpoint.load, lambda p: checkpoint.deprecate(p, "x")):
        with pytest.raises(CheckpointError, match=r"a\.safetensors is truncated, damaged or not"):
            door(path)


def test_one_flipped_bit_of_the_weights(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save(path)
    content = bytearray(path.read_bytes())
    content[-7] ^= 1
    path.write_bytes(content)
    assert checkpoint.read(path).arch == "bottlenecked_resnet"
    with pytest.raises(CheckpointError, match="its weights do not match their checksum"):
        checkpoint.load(path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda h: h.update(format_version=2), "format 2, but .* Install the version that"),
        (lambda h: h.pop("format_version"), "is a checkpoint of format None"),
        (lambda h: h.pop("metrics"), "incomplete or invalid header: KeyError: 'metrics'"),
        (lambda h: h.update(spec=None), "incomplete or invalid header"),
        (lambda h: h["spec"].update(rotation=3), "unknown keys rotation"),
        (lambda h: h["spec"].update(clip_range=5.0), "does not match its fingerprint"),
        (lambda h: h["spec"].update(definition_version=2), "Use the version of dhs that wrote"),
        (lambda h: h["architecture"].pop("size"), "architecture="),
        (lambda h: h["data"].update(data_origin=""), "data_origin=''"),
        (lambda h: h["tensors"].popitem(), "its tensors do not match its header: .* belong"),
        (
            lambda h: h["tensors"]["backbone.classifier.bias"].update(shape=[2]),
            r"backbone\.classifier\.bias has shape \(1,\), not \(2,\)",
        ),
        (lambda h: h["tensors"].update(x={"dtype": "int64", "shape": []}), "x is missing"),
    ],
)
def test_a_wrong_header(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], reason: str
) -> None:
    path = tmp_path / "a.safetensors"
    save(path)
    rewrite(path, change)
    with pytest.raises(CheckpointError, match=reason) as caught:
        checkpoint.load(path)
    assert str(path) in str(caught.value)


def test_another_annulus_in_the_header_than_in_the_weights(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save(path)
    legacy = {"spec": LEGACY.to_dict(), "spec_fingerprint": LEGACY.fingerprint}
    rewrite(path, lambda header: header.update(legacy))
    with pytest.raises(CheckpointError, match=r"contradicts itself: .* annulus \(32\.5, 45\.0\)"):
        checkpoint.load(path)


def test_an_architecture_that_this_version_builds_otherwise(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save(path)
    rewrite(path, lambda header: header["architecture"]["kwargs"].update(base_ch=3))
    with pytest.raises(CheckpointError, match="does not fit bottlenecked_resnet as this version"):
        checkpoint.load(path)


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"w": torch.zeros(3)}, path)
    with pytest.raises(NoCheckpointError, match="is not a checkpoint: it has tensors"):
        checkpoint.load(path)
    # The state of a training has such a header.
    save_file({"w": torch.zeros(3)}, path, metadata={"dhs": '{"progress": 3}'})
    with pytest.raises(NoCheckpointError, match="give a checkpoint that dhs wrote"):
        checkpoint.load(path)
    for text, reason in (("{", "is not JSON"), ("[]", "not a JSON object")):
        save_file({"w": torch.zeros(3)}, path, metadata={"dhs": text})
        with pytest.raises(CheckpointError, match=reason):
            checkpoint.load(path)
    for absent in (tmp_path, tmp_path / "none.safetensors"):
        with pytest.raises(FileNotFoundError, match="is not a file"):
            checkpoint.load(absent)
    torch.save({"model": {}}, tmp_path / "old.pt")
    with pytest.raises(CheckpointError, match=r"old \.pt file, use `dhs checkpoint import`"):
        checkpoint.load(tmp_path / "old.pt")


def test_deprecate(tmp_path: Path) -> None:
    path, link = tmp_path / "a.safetensors", tmp_path / "best.safetensors"
    saved = save(path, small(LEGACY))
    tensors = path.read_bytes()[-1000:]
    link.symlink_to(path.name)
    marked = checkpoint.deprecate(link, f" {REASON}\n")
    assert link.is_symlink()
    assert path.read_bytes()[-1000:] == tensors
    loaded = checkpoint.read(path)
    assert loaded.deprecated == marked.deprecated == REASON
    assert loaded.deprecated_at is not None
    assert loaded.fingerprint == marked.fingerprint == saved.fingerprint
    assert loaded.status == "legacy, inside the galaxy; deprecated"
    for _ in range(2):
        with pytest.warns(DeprecatedCheckpointWarning) as caught:
            checkpoint.load(path)
        assert str(caught[0].message) == f"{path} is deprecated: {REASON}"
        assert caught[0].filename == __file__
    with pytest.raises(DeprecatedCheckpointError, match="or --allow-deprecated") as refused:
        checkpoint.load(path, allow_deprecated=False)
    assert REASON in str(refused.value)
    assert checkpoint.deprecate(path, REASON) == loaded
    with pytest.raises(ValueError, match="is already deprecated: the annulus lies"):
        checkpoint.deprecate(path, "another")
    with pytest.raises(ValueError, match="reason is empty"):
        checkpoint.deprecate(path, " ")
