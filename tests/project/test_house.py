"""The house: what lies at the top of dhs, what a room hands on, and where its tests are.

``make lint`` holds the walls between the rooms.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests import ROOT
from tests.project.sources import sources

MOST_LINES = 400
# The conventions of every injection are stated where `help` shows them.
MOST_LINES_OF_AN_INIT = {"dhs/injection": 60}
# Tables of scores and configurations are read without the torch that scoring and training import.
LAZY = {"dhs/data", "dhs/model", "dhs/score", "dhs/train"}
TOP_OF_DHS = {"arguments", "cli", "constants", "figures", "transforms", "utils"}
ROOMS = sorted(
    path.parent
    for layer in ("dhs", "fastnorm", "benchmarks")
    for path in (ROOT / layer).glob("*/__init__.py")
    if path.parent.resolve() == path.parent
)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def exported(room: Path) -> list[str]:
    """Return the names in ``__all__``."""
    for node in ast.parse((room / "__init__.py").read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return []


def test_only_published_names_lie_at_the_top_of_dhs() -> None:
    found = {path.stem for path in (ROOT / "dhs").glob("*.py")}
    assert found == TOP_OF_DHS | {"__init__", "__main__"}


def test_no_file_is_too_long_to_tell_one_story() -> None:
    lengths = {name(path): len(path.read_text("utf-8").splitlines()) for path in sources()}
    assert {file: lines for file, lines in lengths.items() if lines > MOST_LINES} == {}


@pytest.mark.parametrize("room", ROOMS, ids=name)
def test_a_room_hands_names_on_and_defines_nothing(room: Path) -> None:
    text = (room / "__init__.py").read_text("utf-8")
    docstring, *rest = ast.parse(text).body
    assert isinstance(docstring, ast.Expr)
    assert len(text.splitlines()) <= MOST_LINES_OF_AN_INIT.get(name(room), 40)
    if name(room) in LAZY:
        return
    for node in rest:
        is_all = isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        assert is_all or isinstance(node, ast.ImportFrom), ast.unparse(node)


@pytest.mark.parametrize("room", ROOMS, ids=name)
def test_no_module_hides_a_name_that_its_room_hands_on(room: Path) -> None:
    inside = {path.stem for path in room.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert inside.isdisjoint(exported(room))


def test_tests_lie_in_the_rooms_that_they_test() -> None:
    for layer in ("dhs", "fastnorm", "benchmarks"):
        tested = {path.parent.name for path in (ROOT / "tests" / layer).glob("*/__init__.py")}
        assert tested <= {room.name for room in ROOMS if room.parent.name == layer}
    for path in (ROOT / "tests").rglob("test_*.py"):
        assert (path.parent / "__init__.py").exists(), name(path)
    assert not list((ROOT / "tests").glob("test_*.py"))


def test_the_page_for_maintainers_names_every_room_and_only_files_that_exist() -> None:
    text = (ROOT / "docs" / "maintainers.md").read_text("utf-8")
    named = set(re.findall(r"`((?:dhs|fastnorm|kernels|benchmarks|tests)/[\w./]+)`", text))
    assert len(named) > 50
    assert [path for path in sorted(named) if not (ROOT / path).exists()] == []
    rooms = {name(room) for room in ROOMS} - {"dhs/configs", "fastnorm/kernels"}
    assert rooms <= named
