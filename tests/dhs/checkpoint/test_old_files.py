"""Old .pt files of other programs: their plain values, and where and how they keep the weights."""

from __future__ import annotations

import collections
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from dhs.checkpoint import CheckpointError
from dhs.checkpoint.published import import_old, read_old
from dhs.commands.checkpoint import app
from dhs.preprocess.spec import SpecMismatchError
from tests.command_line import invoke, message
from tests.dhs.model.model_cases import DATASET, TRAIN, small, weights, write

SCALARS = {
    "bool": (np.bool_(True), True),
    "int8": (np.int8(-3), -3),
    "uint8": (np.uint8(200), 200),
    "int16": (np.int16(-300), -300),
    "uint16": (np.uint16(60000), 60000),
    "int32": (np.int32(3), 3),
    "uint32": (np.uint32(3), 3),
    "int64": (np.int64(2**40), 2**40),
    "uint64": (np.uint64(2**63), 2**63),
    "longlong": (np.longlong(3), 3),
    "float16": (np.float16(0.5), 0.5),
    "float32": (np.float32(0.25), 0.25),
    "float64": (np.float64(0.1), 0.1),
    "str": (np.str_("a\u00e9"), "a\u00e9"),
    "bytes": (np.bytes_(b"ab"), b"ab"),
}


@pytest.mark.parametrize("name", SCALARS)
def test_scalars_of_numpy_are_plain_values(name: str, tmp_path: Path) -> None:
    scalar, expected = SCALARS[name]
    nested = {"deep": [(scalar, {"x": scalar})], "ordered": collections.OrderedDict(x=scalar)}
    old = read_old(write(tmp_path / "a.pt", flat=scalar, nested=nested))
    found = [old.content["flat"], *old.content["nested"]["deep"][0]]
    found += [found.pop()["x"], old.content["nested"]["ordered"]["x"]]
    assert found == [expected] * 4
    assert {type(value) for value in found} == {type(expected)}


def test_scalars_of_numpy_may_be_metrics_and_configuration(tmp_path: Path) -> None:
    changes = {
        "dataset": DATASET
        | {
            "crop": np.bool_(False),
            "crop_size": np.uint8(64),
            "clip_range": np.float16(10),
            "preprocessing": np.str_("raw_robust"),
        },
        "train": TRAIN | {"arch": np.str_("bottlenecked_resnet"), "base_ch": np.uint8(4)},
    }
    old = write(tmp_path / "a.pt", best_auc=np.float16(0.5), n=np.uint8(3), **changes)
    made = import_old(old, tmp_path / "a.safetensors")
    assert made.metrics == {"best_auc": 0.5, "n": 3}
    assert made.config["dataset"] == DATASET | {"clip_range": 10.0}


class Holder:
    """An object with a state."""

    def __init__(self) -> None:
        self.values = [1, 2]


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (np.zeros(3), r"object of numpy\S*\._reconstruct\..*array\.tolist"),
        (np.array([None], object), r"object of numpy\S*\._reconstruct"),
        (np.void(b"abc"), r"object of numpy\S*VoidDType"),
        (Holder(), r"object of \S*test_old_files\.Holder"),
        (range(3), r"object of (builtins\.)?range\."),
    ],
)
def test_other_objects_are_refused_by_name(value: Any, named: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.pt", extra=value)
    with pytest.raises(CheckpointError, match=named) as caught:
        read_old(path)
    assert "damaged" not in str(caught.value)


def test_a_program_is_refused_as_such(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)).save(path)  # type: ignore[no-untyped-call]
    with pytest.raises(CheckpointError, match=r"is a TorchScript archive.*state_dict\(\)"):
        read_old(path)


def test_a_list_that_contains_itself(tmp_path: Path) -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(CheckpointError, match="damaged"):
        read_old(write(tmp_path / "a.pt", extra=endless))


def wrapped(prefix: str, **more: Tensor) -> dict[str, Tensor]:
    return {f"{prefix}{name}": value for name, value in weights().items()} | more


@pytest.mark.parametrize("key", ["model", "state_dict", "model_state_dict", "state_dict_ema"])
def test_entries_of_other_programs(key: str, tmp_path: Path) -> None:
    path = write(tmp_path / "a.pt", **{"model": None, key: weights()})
    assert list(read_old(path).state) == list(weights())
    made = import_old(path, tmp_path / "a.safetensors")
    assert made.imported_from is not None
    assert made.imported_from["weights"] == key
    assert made.imported_from["left_out"] == []


@pytest.mark.parametrize(
    "prefix",
    [
        "module.",
        "_orig_mod.",
        "module._orig_mod.",
        "model.",
        "model._orig_mod.module.",
        "model.model.",
    ],
)
def test_prefixes_of_wrappers(tmp_path: Path, prefix: str) -> None:
    old = read_old(write(tmp_path / "a.pt", model=wrapped(prefix)))
    assert list(old.state) == list(weights())


@pytest.mark.parametrize("around", [lambda m: m, torch.compile], ids=["plain", "compiled"])
def test_the_average_of_torch(tmp_path: Path, around: Any) -> None:
    backbone = small().backbone
    state = AveragedModel(around(backbone)).state_dict()
    assert "n_averaged" in state
    old = read_old(write(tmp_path / "a.pt", model=state))
    assert list(old.state) == list(weights())


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (wrapped("net."), r"All of its names start with 'net\.'; save the file again without"),
        (
            wrapped("model.", **{"loss.pos_weight": torch.ones(1)}),
            r"(\d+) of its \d+ names start with 'model\.', which is removed only if all do; save "
            r"the file again without loss\.pos_weight\.",
        ),
    ],
    ids=["unknown", "of most"],
)
def test_a_prefix_that_does_not_fit_is_named(
    state: dict[str, Tensor], said: str, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=said):
        import_old(write(tmp_path / "a.pt", model=state), tmp_path / "a.safetensors")


def test_of_several_state_dicts_one_is_chosen(tmp_path: Path) -> None:
    average = {name: value + 1 for name, value in weights().items()}
    path = write(tmp_path / "a.pt", model=None, state_dict=weights(), state_dict_ema=average)
    out = tmp_path / "a.safetensors"
    refused = invoke(app, "import", path, "--out", out)
    assert refused.exit_code == 2
    assert "several state dicts, 'state_dict' and 'state_dict_ema'; choose one" in message(refused)
    assert "--weights state_dict_ema" in message(refused)
    done = invoke(app, "import", path, "--out", out, "--weights", "state_dict_ema", "--json")
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)["imported_from"]
    assert (record["weights"], record["left_out"]) == ("state_dict_ema", ["state_dict"])
    old = read_old(path, weights="state_dict_ema")
    assert all(torch.equal(old.state[name], value) for name, value in average.items())
    # Its annulus does not depend on the choice.
    assert read_old(path).spec == old.spec
    with pytest.raises(CheckpointError, match=r"under 'ema'; it has them under 'state_dict' or"):
        read_old(path, weights="ema")


def test_entries_that_contradict_each_other_are_to_be_corrected(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pt", preprocess_spec={"annulus_r_in": 32.5, "annulus_r_out": 45.0})
    with pytest.raises(SpecMismatchError, match="correct the other entry, and save the file again"):
        read_old(path)
    with pytest.raises(SpecMismatchError, match=r"correct the dataset, and save the file again"):
        read_old(write(path), annulus=(32.5, 45))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"augment": True}, "the unknown key 'augment'; remove it"),
        ({"a": 1, "b": 2}, "the unknown keys 'a' and 'b'; remove them"),
    ],
)
def test_an_unknown_key_of_the_preprocessing_is_named(
    more: dict[str, Any], said: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.pt", preprocess_spec={"mode": "raw_robust"} | more)
    with pytest.raises(CheckpointError, match=rf"'preprocess_spec' has {said}, .*save .* again"):
        read_old(path)


def test_bare_weights_say_what_to_write(tmp_path: Path) -> None:
    path = tmp_path / "bare.pt"
    torch.save(weights(), path)
    with pytest.raises(
        CheckpointError, match=r"is a bare state dict.*torch\.save\(\{'model':"
    ) as met:
        read_old(path)
    assert "--annulus" in str(met.value)


@pytest.mark.parametrize("radius", [0.0, None])
def test_radii_of_nothing_are_said_to_mean_the_legacy_annulus(
    radius: float | None, tmp_path: Path
) -> None:
    dataset = DATASET | {"annulus_r_in": radius, "annulus_r_out": radius}
    path = write(tmp_path / "a.pt", dataset=dataset)
    done = invoke(app, "import", path, "--out", tmp_path / "a.safetensors")
    assert "annulus = [20.0, 32.0], because radii of 0 or None mean the legacy annulus." in message(
        done
    )
