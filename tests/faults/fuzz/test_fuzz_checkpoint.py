"""Damaged checkpoints, checkpoints with odd headers, and old pickled files."""

from __future__ import annotations

import copy
import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save

from dhs.checkpoint import CheckpointError
from dhs.checkpoint import file as checkpoint
from dhs.checkpoint.published import read_old
from dhs.preprocess.spec import SpecMismatchError
from tests.dhs.model.model_cases import DATASET, TRAIN, small
from tests.faults.fuzz.budget import Budget
from tests.faults.fuzz.mutate import Damaged, damaged
from tests.faults.fuzz.test_fuzz_npz import Runs
from tests.faults.fuzz.watch import require_message, watched

pytestmark = pytest.mark.fuzz

TENSORS = {"w": torch.arange(6.0).reshape(2, 3), "n": torch.tensor(3)}


def header() -> dict[str, Any]:
    model = small(base_ch=1)
    return {
        "format_version": 1,
        "spec": model.spec.to_dict(),
        "spec_fingerprint": model.spec.fingerprint,
        "architecture": model.architecture,
        "config": {"train": {"lr": 5e-4, "betas": [0.9, 0.999]}, "out": "checkpoints"},
        "metrics": {"val_auc": 0.75, "epoch": 3, "recall": None},
        "data": {"data_origin": "simulated", "n_train": 700},
        "versions": {"dhs": "1.0", "torch": "2.0"},
        "created": "2026-01-01T00:00:00+00:00",
        "weights_sha256": checkpoint.weights_sha256(TENSORS),
        "tensors": {
            "w": {"dtype": "float32", "shape": [2, 3]},
            "n": {"dtype": "int64", "shape": []},
        },
        "extra": {"note": ["x", True]},
        "imported_from": None,
        "deprecated": None,
        "deprecated_at": None,
    }


HEADER = header()


def file_of(text: str, start: int | None = None) -> bytes:
    """Return a .safetensors file with any text as our header, and perhaps a false length."""
    content = save(TENSORS, {"dhs": text})
    return content if start is None else struct.pack("<Q", start) + content[8:]


FILES = {
    "ours": file_of(json.dumps(HEADER)),
    "marked": file_of(json.dumps(HEADER | {"deprecated": "old", "deprecated_at": "2026"})),
    "others": save(TENSORS),
    "state": file_of('{"progress": 3}'),
}


def check(path: Path, content: bytes) -> bool:
    """Check that a file is read correctly, or refused with a message."""
    path.write_bytes(content)
    with watched(len(content)):
        try:
            found = checkpoint.read(path)
            shown = json.dumps(found.to_dict(), allow_nan=False)
            str((found.arch, found.size, found.status, found.validation_auc, found.mask_bits))
        except CheckpointError as error:
            require_message(str(error), path)
            return False
    assert len(found.fingerprint) == 64
    assert found.data_origin.strip()
    with safe_open(path, framework="pt") as file:
        there = json.loads(file.metadata()["dhs"])
        shapes = {name: list(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    assert shapes == {name: entry["shape"] for name, entry in found.tensors.items()}
    for name in ("architecture", "config", "metrics", "data", "versions", "extra", "deprecated"):
        assert json.loads(shown)[name] == there[name]
    return True


def test_fuzz_checkpoint(budget: Budget, tmp_path: Path) -> None:
    def accepts(file: Damaged) -> bool:
        return check(tmp_path / "a.safetensors", file.content)

    budget.spend("checkpoint, damaged", damaged(FILES), accepts)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=5,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the path to every value inside a nested one."""
    if not isinstance(value, dict | list):
        return [path]
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    return [path, *(way for key, item in inner for way in places(item, (*path, key)))]


ODD_TEXTS = (
    *('{"format_version": 1, "spec": ' + "[" * 50_000, "[" * 50_000 + "]" * 50_000, "\ufeff{}"),
    *('{"format_version": 1, "format_version": 2}', '{"format_version": 1e999}', "1", "null", ""),
    *('{"format_version": ' + "9" * 5000 + "}", '{"format_version": NaN}', '{"a": "\\ud800"}'),
)


def changed(change: list[tuple[tuple[Any, ...], Any]], gone: list[tuple[Any, ...]]) -> str:
    result: Any = copy.deepcopy(HEADER)
    for way, value in [*change, *((way, Ellipsis) for way in gone)]:
        if not way:
            continue
        try:
            inner = result
            for key in way[:-1]:
                inner = inner[key]
            if value is Ellipsis:
                del inner[way[-1]]
            else:
                inner[way[-1]] = value
        except (TypeError, LookupError):
            continue  # an earlier change removed the place
    return json.dumps(result)


def test_fuzz_header(budget: Budget, tmp_path: Path) -> None:
    ways = st.sampled_from(places(HEADER))
    texts = st.builds(
        changed,
        st.lists(st.tuples(ways, plain), max_size=3),
        st.lists(ways, max_size=1),
    )
    start = st.none() | st.none() | st.sampled_from((0, 1, 7, 2**31, 2**63, 10**9, 2**64 - 1))
    inputs = st.builds(file_of, texts | texts | st.sampled_from(ODD_TEXTS), start)

    def accepts(content: bytes) -> bool:
        return check(tmp_path / "a.safetensors", content)

    budget.spend("checkpoint, odd header", inputs, accepts)


def of_torch(content: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream, **options)
    return stream.getvalue()


OLD = {"model": {"w": TENSORS["w"]}, "train": TRAIN, "dataset": DATASET, "best_auc": 0.9}
PICKLED = {
    "old": of_torch(OLD),
    "older": of_torch(OLD, _use_new_zipfile_serialization=False),
    "runs": of_torch(OLD | {"config": Runs()}),
    "runs too": of_torch(OLD | {"config": Runs()}, _use_new_zipfile_serialization=False),
    "pickle": pickle.dumps(Runs()),
    "spec": of_torch(OLD | {"preprocess_spec": {"mode": "raw_robust", "annulus_r_in": 32.5}}),
}


def check_old(path: Path, content: bytes) -> bool:
    path.write_bytes(content)
    # Unpickling allocates a declared length at once but never writes it, so it is not resident.
    with watched(len(content), is_traced=False):
        try:
            old = read_old(path)
        except (CheckpointError, SpecMismatchError) as error:
            require_message(str(error), path)
            return False
    assert all(isinstance(value, torch.Tensor) for value in old.state.values())
    return True


def test_fuzz_old(budget: Budget, tmp_path: Path) -> None:
    def accepts(file: Damaged) -> bool:
        return check_old(tmp_path / "a.pt", file.content)

    budget.spend("old checkpoint", damaged(PICKLED), accepts)


def test_fuzz_pickles(budget: Budget, tmp_path: Path) -> None:
    """Read valid archives that contain damaged pickles."""
    with zipfile.ZipFile(io.BytesIO(PICKLED["old"])) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(io.BytesIO(PICKLED["runs"])) as archive:
        runs = next(archive.read(name) for name in archive.namelist() if name.endswith(".pkl"))
    name = next(name for name in members if name.endswith("data.pkl"))
    write: Callable[[bytes], bytes] = lambda content: _zipped(members | {name: content})  # noqa: E731

    def accepts(file: Damaged) -> bool:
        return check_old(tmp_path / "a.pt", write(file.content))

    budget.spend("old checkpoint, pickle", damaged({"old": members[name], "runs": runs}), accepts)


def _zipped(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()
