"""Missing files and misspelled keys are found before the slow packages are imported."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import NamedTuple

import pytest

from dhs.config.installed import copy_installed

HEAVY = ("torch", "numba", "pandas", "pyarrow", "scipy", "astropy", "matplotlib", "sklearn", "timm")

# Every command runs in a copy of one process, so that Python starts once.
RUN = """
import contextlib, io, json, os, sys
from dhs.cli import app
folder, heavy, commands = sys.argv[1], set(sys.argv[2].split()), json.loads(sys.argv[3])
os.chdir(folder)
for command in commands:
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        continue
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        try:
            app(command.split())
        except SystemExit as stop:
            status = stop.code
    imported = sorted(heavy & set(sys.modules))
    print(json.dumps([command, status, " ".join(said.getvalue().split()), imported]), flush=True)
    os._exit(0)
"""


class Start(NamedTuple):
    """A command's status, its text on stderr, and the slow packages that it imported."""

    status: int
    said: str
    imported: list[str]


MISSING = {
    "score nosuch.safetensors data --out scores.parquet": "nosuch.safetensors is not a file; ",
    "score a.yaml data --ensemble nosuch --out scores.parquet": "nosuch is not a file; ",
    "score a.yaml data --truth nosuch --out scores.parquet": "nosuch does not exist; ",
    "score a.yaml nosuch.parquet --out scores.parquet": "nosuch.parquet does not exist; ",
    "show nosuch.parquet --out picture.png": "nosuch.parquet does not exist; ",
    "evaluate nosuch --truth a.yaml --out out": "nosuch does not exist; ",
    "evaluate a.yaml --truth nosuch --out out": "nosuch does not exist; ",
    "realism nosuch --real a.yaml --injected a.yaml --out out": "nosuch is not a file; ",
    "realism a.yaml --real nosuch.csv --injected a.yaml --out out": "nosuch.csv does not exist; ",
    "checkpoint show nosuch": "nosuch is not a file; ",
    "methods nosuch": "nosuch is not a file; ",
    "init folder --data nosuch": "nosuch does not exist; ",
    "depth nosuch --out depth.parquet": "nosuch does not exist; ",
    "grid compare nosuch a.yaml --out out": "nosuch does not exist; ",
    "pack nosuch --out pack": "nosuch does not exist; ",
    "pack verify nosuch": "nosuch does not exist; ",
    "audit nosuch": "nosuch is not a folder; ",
    "report nosuch --out report.html": "nosuch is not a folder; ",
    "checkpoint list nosuch": "nosuch is not a folder; ",
    "checkpoint import nosuch --out a.safetensors": "nosuch is not a file; ",
    "train nosuch.yaml": "nosuch.yaml does not exist.",
    "grid nosuch.yaml": "nosuch.yaml does not exist.",
    "grid plan nosuch.yaml": "nosuch.yaml does not exist.",
}
MISSPELLED = {
    "train train.yaml --set train.epoch=1": "train.epoch is not a known key",
    "grid grid.yaml --set host=1": "host is not a known key",
    "grid plan grid.yaml --set host=1": "host is not a known key",
}
MISSING_IN_FILES = {
    "train train.yaml --set dataset.parquet_path=nosuch": "nosuch does not exist; ",
    "grid grid.yaml --set checkpoint=nosuch": "nosuch is not a file; ",
    "grid plan grid.yaml --set checkpoint=nosuch": "nosuch is not a file; ",
    "grid plan grid.yaml --set checkpoint=a.yaml --set hosts.parquet_path=nosuch": (
        "nosuch does not exist; "
    ),
}
CASES = MISSING | MISSPELLED | MISSING_IN_FILES


@pytest.fixture(scope="module")
def starts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Start]:
    folder = tmp_path_factory.mktemp("start")
    copy_installed("demo_bottlenecked_resnet", folder / "train.yaml")
    copy_installed("demo_grid", folder / "grid.yaml")
    (folder / "a.yaml").touch()
    arguments = [str(folder), " ".join(HEAVY), json.dumps(list(CASES))]
    done = subprocess.run(
        [sys.executable, "-c", RUN, *arguments], capture_output=True, text=True, check=True
    )
    lines = map(json.loads, done.stdout.splitlines())
    return {command: Start(*found) for command, *found in lines}


@pytest.mark.parametrize("command", CASES)
def test_errors_come_before_the_slow_packages(command: str, starts: dict[str, Start]) -> None:
    start = starts[command]
    assert start.status == 2
    assert start.said.startswith("error: ")
    assert CASES[command] in start.said
    assert start.imported == []
