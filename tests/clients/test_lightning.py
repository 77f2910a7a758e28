"""Lightning: resumed trainings, averaged weights and mixed precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.clients import page
from tests.clients.conftest import LIGHTNING_WARNINGS
from tests.clients.page import BOTH_ANNULI, Names

pytestmark = [pytest.mark.clients, *LIGHTNING_WARNINGS]


@pytest.fixture
def names(lightning: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Names:
    """Return what the page's section defines."""
    monkeypatch.chdir(tmp_path)
    names = page.common()
    page.execute(page.blocks("Lightning")[0], names)
    return names


def trainer(names: Names, folder: Path, epochs: int, **options: Any) -> Any:
    return names["lightning"].Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=epochs,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        default_root_dir=folder,
        **options,
    )


def test_a_resumed_training_ends_where_an_uninterrupted_one_does(
    names: Names, tmp_path: Path
) -> None:
    training, loader = names["Training"], names["loader"]
    first = trainer(names, tmp_path, epochs=1)
    first.fit(training(names["finder"]()), loader)
    first.save_checkpoint(tmp_path / "first.ckpt")
    resumed = training(names["finder"]())
    trainer(names, tmp_path, epochs=2).fit(resumed, loader, ckpt_path=tmp_path / "first.ckpt")
    expected = page.weights(names["model"])
    for name, value in page.weights(resumed.network).items():
        assert torch.equal(value, expected[name])
    with pytest.raises((ValueError, RuntimeError), match=BOTH_ANNULI):
        trainer(names, tmp_path, epochs=2).fit(
            training(names["finder"](20.0, 32.0)), loader, ckpt_path=tmp_path / "first.ckpt"
        )


def test_a_loose_load_refuses_another_annulus(names: Names) -> None:
    with pytest.raises((ValueError, RuntimeError), match=BOTH_ANNULI):
        names["Training"].load_from_checkpoint(
            "lightning_run/finder.ckpt", network=names["finder"](20.0, 32.0), strict=False
        )


def test_averaged_weights_are_saved_and_refuse_another_annulus(
    lightning: Any, names: Names, tmp_path: Path
) -> None:
    averaging = lightning.pytorch.callbacks.EMAWeightAveraging(decay=0.75)
    run = trainer(names, tmp_path, epochs=2, callbacks=[averaging])
    run.fit(names["Training"](names["finder"]()), names["loader"])
    run.save_checkpoint(tmp_path / "average.ckpt")
    restored = names["finder"]()
    names["Training"].load_from_checkpoint(tmp_path / "average.ckpt", network=restored)
    last, first = page.weights(names["model"]), page.weights(names["finder"]())
    for name, value in page.weights(restored).items():
        assert not torch.equal(value, last[name])
        assert not torch.equal(value, first[name])
    with pytest.raises((ValueError, RuntimeError), match=BOTH_ANNULI):
        names["Training"].load_from_checkpoint(
            tmp_path / "average.ckpt", network=names["finder"](20.0, 32.0)
        )


@pytest.mark.parametrize(("precision", "rounds"), [("bf16-mixed", False), ("bf16-true", True)])
def test_only_a_network_that_is_converted_sees_rounded_cutouts(
    names: Names, tmp_path: Path, precision: str, rounds: bool
) -> None:
    seen: list[torch.Tensor] = []

    def remember(layer: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        seen.append(output.detach())

    network = names["finder"]()
    network[0].register_forward_hook(remember)
    run = trainer(names, tmp_path, epochs=1, precision=precision)
    run.fit(names["Training"](network), names["loader"])
    expected = torch.from_numpy(page.by_numpy(names["images"].numpy()))
    assert torch.equal(torch.cat(seen), expected) == (not rounds)
    assert torch.isfinite(torch.cat(seen)).all()
