"""Training: it learns, stops early, and resumes with identical output."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from dhs import checkpoint
from dhs.preprocess.spec import SpecMismatchError
from dhs.train import NonFiniteLossError, train
from dhs.train.config import TrainConfig
from dhs.train.processes import Processes, processes
from dhs.train.setup import micro_batches_per_step, precision
from dhs.train.state import micro_batch_seed
from tests import ROOT
from tests.dhs.train.training_runs import bytes_of, configuration, losses, run, write_pack


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pack(tmp_path_factory.mktemp("data") / "pack")


@pytest.fixture(scope="module")
def whole(pack: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run a training without interruption."""
    out = tmp_path_factory.mktemp("whole") / "run"
    run(pack, out)
    return out


def test_it_learns_and_leaves_what_it_says(pack: Path, tmp_path: Path) -> None:
    lines: list[str] = []
    seen: list[tuple[int, int]] = []
    config = configuration(pack, tmp_path / "run", epochs=8)
    made = train(config, "a name", report=lines.append, progress=lambda *pair: seen.append(pair))
    assert made.best["val_auc"] > 0.9
    assert losses(tmp_path / "run")[-1] < 0.5 * losses(tmp_path / "run")[0]
    epochs = [line for line in lines if line.startswith("epoch ")]
    assert len(epochs) == 8
    assert epochs[0].startswith("epoch 1 of 8, loss ")
    assert len(lines) == 4 + 8  # and that 24 lenses for validation are few
    assert seen[-1] == (8 * 48, 8 * 48)
    assert made.picture.read_bytes()[:4] == b"\x89PNG"
    model, metadata = checkpoint.load(made.checkpoint)
    assert metadata.data["data_origin"] == "simulated"
    assert (metadata.data["n_train"], metadata.data["n_validation"]) == (48, 48)
    assert metadata.spec == config.dataset.spec()
    assert metadata.metrics["val_auc"] == made.best["val_auc"]
    assert metadata.config == config.model_dump(mode="json")
    again = train(config, "a name")
    assert again.was_complete
    assert again.history == made.history
    assert model(torch.zeros(1, 3, 33, 33)).shape == (1,)


def test_the_seed_and_nothing_else_decides(pack: Path, whole: Path, tmp_path: Path) -> None:
    run(pack, tmp_path / "same", num_workers=3)
    assert bytes_of(tmp_path / "same") == bytes_of(whole)


class _StopError(Exception):
    pass


@pytest.mark.parametrize("frozen", [0, 1])
def test_a_run_stopped_at_any_step_goes_on_to_the_same_bytes(
    pack: Path, tmp_path: Path, frozen: int
) -> None:
    changes: dict[str, Any] = {
        "epochs": 3,
        "batch_size": 8,
        "effective_batch": 16,
        "freeze_backbone_epochs": frozen,
        "warmup_epochs": frozen,
        "save_every_minutes": 1e-9,
    }
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    run(pack, whole, **changes)
    config, stops = configuration(pack, parts, **changes), 0
    # Each run does and saves one step, and is stopped before it saves a second one.
    while not _ends(config):
        stops += 1
    assert stops >= 3
    assert bytes_of(parts) == bytes_of(whole)
    assert np.array_equal(losses(parts), losses(whole))


def _ends(config: TrainConfig) -> bool:
    steps = 0

    def stop_at_second(done: int, total: int) -> None:
        nonlocal steps
        steps += 1
        if steps == 2:
            raise _StopError

    try:
        train(config, "test", progress=stop_at_second)
    except _StopError:
        return False
    return True


def test_a_killed_run_goes_on_to_the_same_bytes(pack: Path, whole: Path, tmp_path: Path) -> None:
    out, changes = tmp_path / "run", {"save_every_minutes": 1e-9}
    command = [sys.executable, "-m", "tests.dhs.train.training_runs", str(pack), str(out)]
    process = subprocess.Popen([*command, json.dumps(changes)], cwd=ROOT)
    try:
        deadline = time.monotonic() + 60
        while not (out / "state.safetensors").exists():
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.002)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (out / "last.safetensors").exists()
    run(pack, out)
    assert bytes_of(out) == bytes_of(whole)
    assert np.array_equal(losses(out), losses(whole))


@pytest.mark.slow
def test_two_processes_train_as_one_that_adds_up(pack: Path, tmp_path: Path) -> None:
    # Both have the same sizes: 2 processes of 8, and 2 micro-batches of 8.
    one, two, changes = tmp_path / "one", tmp_path / "two", {"effective_batch": 16}
    run(pack, one, **changes)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone"]
    arguments = ["-m", "tests.dhs.train.training_runs", str(pack), str(two), json.dumps(changes)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([*command, *arguments], cwd=ROOT, check=True, env=environment, timeout=120)
    assert losses(two) == pytest.approx(losses(one), rel=1e-5)
    ours, theirs = load_file(one / "last.safetensors"), load_file(two / "last.safetensors")
    for name, value in ours.items():
        if "running" not in name and value.is_floating_point():
            torch.testing.assert_close(theirs[name], value, rtol=1e-3, atol=1e-5)


def test_a_frozen_backbone_keeps_weights_and_statistics(pack: Path, tmp_path: Path) -> None:
    run(pack, tmp_path / "run", epochs=1, freeze_backbone_epochs=1)
    run(pack, tmp_path / "start", epochs=1, lr=1e-30, freeze_backbone_epochs=1)
    start, end = (load_file(tmp_path / name / "last.safetensors") for name in ("start", "run"))
    changed = {name for name, value in end.items() if not torch.equal(value, start[name])}
    assert changed == {"backbone.classifier.weight", "backbone.classifier.bias"}


def test_weights_of_samples_count_where_they_are_asked_for(pack: Path, tmp_path: Path) -> None:
    plain = configuration(pack, tmp_path / "plain", epochs=1)
    train(plain, "test")
    section = plain.dataset.model_copy(update={"sample_weight_col": "sample_weight"})
    for name, unweighted in (("ignored", True), ("used", False)):
        options = plain.train.model_copy(
            update={"unweighted_loss": unweighted, "out_dir": str(tmp_path / name)}
        )
        train(plain.model_copy(update={"dataset": section, "train": options}), "test")
    assert losses(tmp_path / "ignored")[0] == losses(tmp_path / "plain")[0]
    assert losses(tmp_path / "used")[0] != losses(tmp_path / "plain")[0]


def test_it_stops_early(pack: Path, tmp_path: Path) -> None:
    made = run(pack, tmp_path / "run", epochs=30, lr=1e-12, early_stopping_patience=2)
    assert len(made.history) == made.best["epoch"] + 3
    assert (tmp_path / "run" / "last.safetensors").exists()
    assert run(pack, tmp_path / "run", epochs=30, lr=1e-12, early_stopping_patience=2).was_complete


def test_a_loss_that_is_no_number_names_the_batch(pack: Path, tmp_path: Path) -> None:
    with pytest.raises(NonFiniteLossError, match=r"step \d+, for the batch of galaxy-\d+, galaxy"):
        run(pack, tmp_path / "run", lr=1e30)


def test_another_training_in_the_folder_is_named(pack: Path, whole: Path) -> None:
    with pytest.raises(ValueError, match=r"config\.train\.lr 0\.01 against 0\.02"):
        run(pack, whole, lr=0.02)


def test_a_damaged_state_is_named(pack: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "state.safetensors").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match=r"state\.safetensors is damaged"):
        run(pack, tmp_path / "run")


def test_too_few_cutouts_are_refused(pack: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="48 cutouts, fewer than one effective batch of 64"):
        run(pack, tmp_path / "run", batch_size=8, effective_batch=64)


def test_starting_weights_are_of_the_same_kind(pack: Path, whole: Path, tmp_path: Path) -> None:
    start = str(whole / "best.safetensors")
    run(pack, tmp_path / "begun", init_weights=start, lr=1e-30, epochs=1)
    before, after = load_file(start), load_file(tmp_path / "begun" / "last.safetensors")
    learnt = [name for name in before if name.endswith("weight")]
    assert learnt
    assert all(torch.equal(before[name], after[name]) for name in learnt)
    other = configuration(pack, tmp_path / "other", init_weights=start)
    radii = {"annulus_r_in": 10.0, "annulus_r_out": 15.0}
    other = other.model_copy(update={"dataset": other.dataset.model_copy(update=radii)})
    with pytest.raises(SpecMismatchError, match=r"annulus_r_in"):
        train(other, "test")
    with pytest.raises(ValueError, match="resnet18"):
        run(pack, tmp_path / "arch", init_weights=start, arch="resnet18", base_ch=None)
    with pytest.raises(ValueError, match=r"with \{'base_ch': 3\}, but .* \{'base_ch': 4\}; write"):
        run(pack, tmp_path / "wide", init_weights=start, base_ch=4)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"train\.device=cpu"), processes("cuda"):
        pass
    with pytest.raises(ValueError, match="'tpu'"), processes("tpu"):
        pass
    with processes("auto") as group:
        assert (group.rank, group.world, group.device.type) == (0, 1, "cpu")


def test_effective_batches_and_precision(pack: Path, tmp_path: Path) -> None:
    options = configuration(pack, tmp_path / "run", effective_batch=32).train
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert micro_batches_per_step(options, Processes(0, 2, cpu)) == 2
    with pytest.raises(ValueError, match="batch_size=8 times 3 processes"):
        micro_batches_per_step(options, Processes(0, 3, cpu))
    assert precision(options, Processes(0, 1, cpu)) is None
    assert precision(options, Processes(0, 1, gpu)) == torch.bfloat16
    fp16 = options.model_copy(update={"mixed_precision": "fp16"})
    assert precision(fp16, Processes(0, 1, gpu)) == torch.float16


def test_seeds_of_micro_batches_differ() -> None:
    seeds = {micro_batch_seed(s, e, k) for s in range(5) for e in range(5) for k in range(20)}
    assert len(seeds) == 500
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_the_command_ends_with_checkpoint_and_picture(pack: Path, tmp_path: Path) -> None:
    from dhs.cli import app

    config = configuration(pack, tmp_path / "run", epochs=1)
    arguments = ["train", str(tmp_path / "run.yaml"), "--set", "train.epochs=1"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    out = Path(config.train.out_dir)
    assert f"checkpoint: {out / 'best.safetensors'}" in result.stdout
    assert f"picture: {out / 'learning_curve.png'}" in result.stdout
    report = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert report["was_complete"]
    wrong = CliRunner().invoke(app, ["train", str(tmp_path / "run.yaml"), "--set", "train.lrr=1"])
    assert wrong.exit_code == 2
    assert "train.lr" in wrong.stderr
