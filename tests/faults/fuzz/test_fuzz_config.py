"""Damaged configurations, odd YAML and odd settings, compared with PyYAML."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import strategies as st

from dhs.config.file import parse_yaml
from dhs.config.section import Section
from dhs.selection.config import read_grid_config
from dhs.simulate.config import read_survey_config
from dhs.train.config import read_config
from tests import ROOT
from tests.faults.fuzz.budget import Budget
from tests.faults.fuzz.mutate import ODD_NUMBERS, ODD_WORDS, Damaged, damaged
from tests.faults.fuzz.watch import require_one_line, watched

pytestmark = pytest.mark.fuzz

CONFIGS = ROOT / "configs"
FILES = {path.stem: path.read_bytes() for path in sorted(CONFIGS.glob("*.yaml"))}
BOMB = b"a: &a [1, 1]\n" + b"".join(
    b"%c: &%c [*%c, *%c]\n" % (k, k, k - 1, k - 1) for k in range(98, 122)
)
ODD = {
    "bomb": BOMB + b"train: *y\ndataset: *y\ncheckpoint: *y\n",
    "loop": b"dataset: &a {b: *a}\ntrain: &t [*t]\n",
    "merge": b"x: &x {arch: a}\ntrain: {<<: *x, out_dir: b}\ndataset: {}\n",
    "object": b"dataset: !!python/object/apply:os.system [touch unpickled]\ntrain: {}\n",
    "name": b"train: !!python/name:os.system\n",
    "deep": b"train: " + b"[" * 3000,
    "deep blocks": b"".join(b" " * k + b"a:\n" for k in range(300)),
    "twice": b"train: {arch: a, arch: b}\ntrain: {arch: c}\n",
    "tags": b"train: !!set {a, b}\ndataset: !!omap [a: 1]\nx: !!binary aGk=\ny: 2001-13-45\n",
    "bases": b"train: {lr: 1:30:59.5, epochs: 0o17, batch_size: 0x_10, base_ch: 0b1_1}\n",
    "keys": b"? [1, 2]\n: 3\n? {a: b}\n: c\n1: 2\nnull: 3\n.nan: 4\n",
    "documents": b"--- {}\n--- {}\n",
    "utf-16": "train: {}\n".encode("utf-16"),
}
READERS: dict[str, Callable[[Path, list[str]], Section]] = {
    "grid": read_grid_config,
    "survey": lambda path, settings: read_survey_config(path),
}


def check(path: Path, name: str, content: bytes, settings: list[str]) -> bool:
    """Check that a file is read as PyYAML reads it, or refused with one line.

    Parameters
    ----------
    path : Path
        File to write and read.
    name : str
        Name of the configuration that was damaged, which selects the reader.
    content : bytes
        Content of the file.
    settings : list of str
        Values of ``--set``.
    """
    path.write_bytes(content)
    read = READERS.get(name.rpartition("_")[2], read_config)
    with watched(len(content)):
        try:
            config = read(path, settings)
        except ValueError as error:
            said = str(error)
            assert str(path) in said or (settings and "--set" in said)
            require_one_line(said)
            return False
    json.dumps(config.model_dump(mode="json"), allow_nan=False)
    if not settings:
        # PyYAML differs only in that it accepts references and the last of equal keys.
        assert config == type(config).model_validate(yaml.safe_load(content.decode()))
    return True


def test_fuzz_config(budget: Budget, tmp_path: Path) -> None:
    def accepts(file: Damaged) -> bool:
        return check(tmp_path / "a.yaml", file.name, file.content, [])

    budget.spend("configuration, damaged", damaged(FILES | ODD, is_text=True), accepts)


scalars = (
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    *(st.dates(), st.binary(max_size=5), st.sampled_from(ODD_WORDS)),
)
keys = st.sampled_from(("train", "dataset", "lr", "seed", "hosts", "start", "x")) | st.one_of(
    scalars
)
values = st.recursive(
    st.one_of(scalars),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4),
    max_leaves=12,
)
PLACES = (
    *("train", "dataset", "augment", "train.lr", "dataset.seed", "train.mixed_precision"),
    *("train.lr.x", "hosts", "hosts.split_by", "theta_e", "theta_e.step", "source_mag_bins"),
    *("thresholds", "noise", "checkpoint", "", ".", "a..b", "train.", "observation", "late.q"),
)


def test_fuzz_settings(budget: Budget, tmp_path: Path) -> None:
    names = st.sampled_from(PLACES) | st.text(max_size=8)
    texts = (
        st.sampled_from(
            (*ODD_NUMBERS, *ODD_WORDS, "[[", "{a: 1, a: 2}", "*a", "!!set {a}", "1e400")
        )
        | st.text(max_size=12)
        | values.map(lambda value: yaml.safe_dump(value, default_flow_style=True))
    )
    setting = st.builds("{}{}{}".format, names, st.sampled_from(("=", "=", "=", "", "==")), texts)
    inputs = st.tuples(st.sampled_from(sorted(FILES)), st.lists(setting, min_size=1, max_size=3))

    def accepts(given: tuple[str, list[str]]) -> bool:
        name, settings = given
        return check(tmp_path / "a.yaml", name, FILES[name], settings)

    budget.spend("--set", inputs, accepts)


def test_fuzz_yaml(budget: Budget) -> None:
    """Parse plain values as PyYAML does."""
    texts = values.map(yaml.safe_dump) | st.text(":-[]{}*&!?|>'\"#%@, \n\tab01.~<=", max_size=60)

    def accepts(text: str) -> bool:
        with watched(len(text)):
            try:
                found: Any = parse_yaml(text)
            except ValueError as error:
                require_one_line(str(error))
                return False
        assert repr(found) == repr(yaml.safe_load(text))
        return True

    budget.spend("YAML", texts, accepts)
