"""timm: what its training script does beside the steps that the page shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm.optim
import timm.utils
import torch
from timm.models import load_checkpoint, resume_checkpoint
from timm.task import ClassificationTask

from tests.clients import page
from tests.clients.page import BOTH_ANNULI, Names

pytestmark = pytest.mark.clients

create_optimizer: Any = timm.optim.create_optimizer_v2  # type: ignore[attr-defined]
CheckpointSaver: Any = timm.utils.CheckpointSaver  # type: ignore[attr-defined]


@pytest.fixture
def names() -> Names:
    return page.common()


def begin(names: Names, *, compiled: bool = False) -> tuple[Any, Any]:
    """Return a task and its optimizer."""
    network = names["finder"]()
    optimizer = create_optimizer(network, opt="adamw", lr=1e-3)
    task = ClassificationTask(network, names["loss_of"])
    if compiled:
        task.compile(fullgraph=True)
    return task, optimizer


def epoch(task: Any, optimizer: Any, names: Names) -> None:
    for raw, target in names["loader"]:
        optimizer.zero_grad()
        task(raw, target)["loss"].backward()
        optimizer.step()
        task.update_ema()


def save(task: Any, optimizer: Any, folder: Path) -> str:
    saver = CheckpointSaver(
        task.trainable_module, optimizer, task=task, checkpoint_dir=str(folder), decreasing=True
    )
    saver.save_checkpoint(0, metric=1.0)
    return str(folder / "last.pth.tar")


def test_a_resumed_training_ends_where_an_uninterrupted_one_does(
    names: Names, tmp_path: Path
) -> None:
    task, optimizer = begin(names)
    epoch(task, optimizer, names)
    file = save(task, optimizer, tmp_path)
    epoch(task, optimizer, names)
    resumed, again = begin(names)
    assert resume_checkpoint(resumed.trainable_module, file, again, log_info=False) == 1
    epoch(resumed, again, names)
    expected = page.weights(task.trainable_module)
    assert all(
        torch.equal(value, expected[name])
        for name, value in page.weights(resumed.trainable_module).items()
    )
    with pytest.raises((ValueError, RuntimeError), match=BOTH_ANNULI):
        resume_checkpoint(names["finder"](20.0, 32.0), file, log_info=False)


def test_the_moving_average_is_that_of_the_weights_and_keeps_the_annulus(
    names: Names, tmp_path: Path
) -> None:
    task, optimizer = begin(names)
    task.setup_ema(decay=0.75)
    expected = page.weights(task.trainable_module)
    for raw, target in names["loader"]:
        optimizer.zero_grad()
        task(raw, target)["loss"].backward()
        optimizer.step()
        task.update_ema()
        for name, value in page.weights(task.trainable_module).items():
            expected[name] = 0.75 * expected[name] + 0.25 * value
    file = save(task, optimizer, tmp_path)
    average = names["finder"]()
    load_checkpoint(average, file, use_ema=True)
    for name, value in page.weights(average).items():
        torch.testing.assert_close(value, expected[name])
        assert not torch.equal(value, page.weights(task.trainable_module)[name])
    with pytest.raises((ValueError, RuntimeError), match=BOTH_ANNULI):
        load_checkpoint(names["finder"](20.0, 32.0), file, use_ema=True)


def test_a_compiled_task_trains_and_saves_under_the_same_names(
    names: Names, tmp_path: Path
) -> None:
    task, optimizer = begin(names, compiled=True)
    task.setup_ema(decay=0.75)
    epoch(task, optimizer, names)
    file = save(task, optimizer, tmp_path)
    restored = names["finder"]()
    load_checkpoint(restored, file, use_ema=False)
    eager, optimizer = begin(page.prenormalised())
    epoch(eager, optimizer, page.prenormalised())
    expected = page.weights(eager.trainable_module)
    for name, value in page.weights(restored).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-6)
    load_checkpoint(names["finder"](), file, use_ema=True)
    with pytest.raises((ValueError, RuntimeError), match=BOTH_ANNULI):
        load_checkpoint(names["finder"](20.0, 32.0), file, use_ema=False)
