"""Losses that stay on the device: the host does not wait per step, and results do not change."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dhs.train import NonFiniteLossError, losses
from dhs.train.batches import Batches
from dhs.train.loop import Loop
from dhs.train.losses import Losses
from dhs.train.processes import Processes
from dhs.train.sampler import BatchSampler
from dhs.transforms import AugmentConfig
from tests.dhs.data.data_cases import CPU, add_masks, batches_of, opened
from tests.dhs.data.data_cases import pack as pack
from tests.dhs.data.data_cases import whole as whole
from tests.dhs.model.fake_gpu import GPU, FakeGPU, HostReads
from tests.dhs.model.fake_gpu import gpu as gpu
from tests.dhs.model.model_cases import one_thread as one_thread
from tests.dhs.train.training_runs import bytes_of, configuration, run
from tests.dhs.train.training_runs import losses as losses_of
from tests.kernels.test_gpu import no_waiting


def read_every(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(losses.STEPS_PER_READ, "cpu", steps)


def reads_of_an_epoch(pack: Path, out: Path, *, is_scaled: bool = False, **changes: Any) -> int:
    """Train for an epoch, and count the reads for which a GPU would keep the host waiting."""
    loop = Loop(configuration(pack, out, **changes), Processes(0, 1, CPU))
    loop.scaler = torch.amp.GradScaler("cpu", enabled=is_scaled)
    loop._start_phase()

    def is_on_host(tensor: Tensor) -> bool:
        # AdamW keeps its counters of steps on the host, unless it is fused.
        moments = loop.optimizer.state.values()
        return not is_scaled and any(tensor is values["step"] for values in moments)

    with HostReads(is_on_host) as reads:
        loop._train_epoch(lambda: None)
    assert loop.progress.step == loop.steps
    assert set(reads.names) == {"tolist"}
    return len(reads.names)


@pytest.mark.parametrize("is_scaled", [False, True])
def test_reads_do_not_grow_with_the_steps(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_scaled: bool
) -> None:
    def reads(steps_per_read: int, batch: int, **changes: Any) -> int:
        read_every(steps_per_read, monkeypatch)
        return reads_of_an_epoch(
            whole, tmp_path / "run", is_scaled=is_scaled, batch_size=batch, **changes
        )

    assert [reads(64, batch) for batch in (8, 4, 2)] == [1, 1, 1]
    assert reads(64, 2, effective_batch=8) == 1
    assert [reads(5, batch) for batch in (8, 4, 2)] == [2, 3, 5]


@pytest.mark.parametrize("is_scaled", [False, True])
def test_moments_of_either_optimiser_are_resumed(
    whole: Path, tmp_path: Path, is_scaled: bool
) -> None:
    def loop(is_scaled: bool) -> Loop:
        made = Loop(configuration(whole, tmp_path / "run"), Processes(0, 1, CPU))
        made.scaler = torch.amp.GradScaler("cpu", enabled=is_scaled)
        return made

    begun = loop(not is_scaled)
    begun._start_phase()
    begun._train_epoch(lambda: None)
    resumed = loop(is_scaled)
    resumed._moments = begun.optimizer.state_dict()
    resumed._start_phase()
    resumed._train_epoch(lambda: None)
    steps = {float(values["step"]) for values in resumed.optimizer.state.values()}
    assert steps == {2.0 * resumed.steps}


@pytest.mark.parametrize("steps", [4, 64])
def test_a_training_is_the_same_however_often_it_is_read(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    changes: dict[str, Any] = {"effective_batch": 8, "batch_size": 4}
    usual = run(whole, tmp_path / "usual", **changes)
    read_every(steps, monkeypatch)
    made = run(whole, tmp_path / "run", **changes)
    assert bytes_of(tmp_path / "run") == bytes_of(tmp_path / "usual")
    for line, expected in zip(made.history, usual.history, strict=True):
        assert {**line, "cutouts_per_second": 0} == {**expected, "cutouts_per_second": 0}
    # A saved state has the losses of all its steps.
    run(whole, tmp_path / "saved", save_every_minutes=1e-9, **changes)
    assert np.array_equal(losses_of(tmp_path / "saved"), losses_of(tmp_path / "usual"))


def test_the_first_loss_that_is_no_number_is_named(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for steps in (1, 4, 64):
        read_every(steps, monkeypatch)
        out = tmp_path / str(steps)
        with pytest.raises(NonFiniteLossError) as error:
            run(whole, out, lr=1e30, batch_size=4)
        found.append(str(error.value))
        assert not list(out.glob("*.safetensors"))
    assert len(set(found)) == 1
    assert "in epoch 1, step 2, for the batch of galaxy-" in found[0]


def test_a_state_is_not_saved_after_a_loss_that_is_no_number(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_every(64, monkeypatch)
    with pytest.raises(NonFiniteLossError, match="epoch 1, step 2,"):
        run(whole, tmp_path / "run", lr=1e30, save_every_minutes=1e-9)
    read_every(1, monkeypatch)
    # The state is that of the first step, so the second fails again.
    with pytest.raises(NonFiniteLossError, match="epoch 1, step 2,"):
        run(whole, tmp_path / "run", lr=1e30, save_every_minutes=1e-9)


def test_losses_are_read_in_order_and_once() -> None:
    held = Losses(GPU)
    for step in range(64):
        assert not held.are_due
        held.add(step, [torch.tensor(float(step)), torch.tensor(0.5)], [np.array([step])] * 2)
    assert held.are_due
    with HostReads() as reads:
        read = list(held.read())
    assert reads.names == ["tolist"]
    assert [(one.step, one.values) for one in read] == [(k, [k, 0.5]) for k in range(64)]
    assert [one.positions[1].item() for one in read] == list(range(64))
    assert not list(held.read())


@pytest.mark.parametrize("is_resident", [False, True])
def test_batches_are_copied_from_pinned_memory(pack: Path, gpu: FakeGPU, is_resident: bool) -> None:
    add_masks(pack)
    options: dict[str, Any] = {"augment": AugmentConfig(), "seed": 2}
    data = opened(pack, sample_weight_col="sample_weight")
    resident = data.resident(CPU) if is_resident else None
    expected = list(batches_of(data, resident=resident, **options)[0])
    assert not gpu.copies
    sampler = BatchSampler(len(data), 8, seed=5)
    batches = Batches(data, sampler, device=GPU, resident=resident, **options)
    with closing(iter(batches)) as stream, HostReads() as reads:
        found = list(stream)
    assert not reads.names
    for batch, wanted in zip(found, expected, strict=True):
        for name, value in vars(wanted).items():
            assert np.array_equal(np.asarray(getattr(batch, name)), np.asarray(value)), name
    assert gpu.host_never_waits
    assert all(name.startswith("dhs-batches") for name in gpu.threads)
    assert len(gpu.copies) >= 5 * len(expected)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", [False, "fp16", "bf16"])
def test_steps_on_a_gpu_do_not_wait(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str | bool
) -> None:
    config = configuration(whole, tmp_path / "run", device="cuda", mixed_precision=precision)
    loop = Loop(config, Processes(0, 1, GPU))
    loop._start_phase()
    loop._train_epoch(lambda: None)
    loop.progress.epoch, loop.progress.step = 1, 0
    monkeypatch.setattr(loop, "_read_losses", lambda: None)
    with no_waiting():
        loop._train_epoch(lambda: None)
    assert len(list(loop._losses.read())) == loop.steps
