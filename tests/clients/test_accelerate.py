"""accelerate: states of a training, networks built without memory, and mixed precision."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.clients import page
from tests.clients.page import BOTH_ANNULI, Names

pytestmark = pytest.mark.clients


@pytest.fixture(autouse=True)
def _forget_precision(accelerate: Any) -> Iterator[None]:
    yield
    accelerate.state.AcceleratorState._reset_state()


@pytest.fixture
def names(accelerate: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Names:
    """Return what the page's section defines."""
    monkeypatch.chdir(tmp_path)
    names = page.common()
    page.execute(page.blocks("accelerate")[0], names)
    return names


def begin(names: Names, accelerator: Any, network: nn.Module) -> tuple[Any, ...]:
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    prepared: tuple[Any, ...] = accelerator.prepare(network, optimizer, names["loader"])
    return prepared


def epoch(names: Names, accelerator: Any, prepared: tuple[Any, ...]) -> None:
    network, optimizer, batches = prepared
    for raw, target in batches:
        optimizer.zero_grad()
        accelerator.backward(names["loss_of"](network(raw), target))
        optimizer.step()


@pytest.mark.parametrize("safe", [True, False], ids=["safetensors", "pickle"])
def test_a_resumed_training_ends_where_an_uninterrupted_one_does(
    names: Names, accelerate: Any, safe: bool
) -> None:
    first = accelerate.Accelerator(cpu=True)
    prepared = begin(names, first, names["finder"]())
    epoch(names, first, prepared)
    first.save_state("state", safe_serialization=safe)
    again = accelerate.Accelerator(cpu=True)
    resumed = begin(names, again, names["finder"]())
    again.load_state("state")
    epoch(names, again, resumed)
    expected = page.weights(names["model"])
    for name, value in page.weights(resumed[0]).items():
        assert torch.equal(value, expected[name])
    other = accelerate.Accelerator(cpu=True)
    begin(names, other, names["finder"](20.0, 32.0))
    with pytest.raises((ValueError, RuntimeError), match=BOTH_ANNULI):
        other.load_state("state")


WAYS: dict[str, dict[str, Any]] = {
    "at once": {},
    "in bfloat16": {"dtype": torch.bfloat16},
    "from disk": {"offload_state_dict": True},
    "strictly": {"strict": True},
    "layer by layer": {"device_map": {str(number): "cpu" for number in range(6)}},
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_network_built_without_memory_takes_the_saved_weights(
    names: Names, accelerate: Any, way: dict[str, Any]
) -> None:
    def load(*radii: float) -> Any:
        with accelerate.init_empty_weights():
            empty = names["finder"](*radii)
        assert all(value.is_meta for value in empty.parameters())
        options = {"device_map": {"": "cpu"}} | way
        return accelerate.load_checkpoint_and_dispatch(empty, "accelerate_run", **options)

    loaded, images = load(), names["images"]
    expected = page.weights(names["model"])
    for name, value in page.weights(loaded).items():
        assert torch.equal(value, expected[name].to(way.get("dtype", torch.float32)))
    assert torch.equal(loaded[0](images), torch.from_numpy(page.by_numpy(images.numpy())))
    saved_again = loaded.state_dict()
    assert saved_again.keys() == names["model"].state_dict().keys()
    with pytest.raises((ValueError, RuntimeError), match=BOTH_ANNULI):
        load(20.0, 32.0)


def test_autocast_does_not_round_the_cutouts(names: Names, accelerate: Any) -> None:
    # One process has one precision, unless its state is reset.
    accelerate.state.AcceleratorState._reset_state()
    accelerator = accelerate.Accelerator(cpu=True, mixed_precision="bf16")
    seen: list[torch.Tensor] = []
    network = names["finder"]()
    network[0].register_forward_hook(lambda layer, inputs, output: seen.append(output))
    prepared = begin(names, accelerator, network)
    epoch(names, accelerator, prepared)
    expected = torch.from_numpy(page.by_numpy(names["images"].numpy()))
    assert torch.equal(torch.cat(seen), expected)
