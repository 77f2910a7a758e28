"""What the README and the pages in docs show runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from dhs.cli import app

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PAGES = ("training", "injection", "selection")


def run_blocks(page: str, count: int) -> dict[str, object]:
    """The names after the Python blocks of a page, run one after the other."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)
    assert len(blocks) == count
    namespace: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, page, "exec"), namespace)
    return namespace


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_blocks_of_the_readme_run_in_order() -> None:
    names = run_blocks("README.md", 5)
    assert names["legacy"].shape == (3, 64, 64)  # type: ignore[attr-defined]
    assert names["loss"].item() < 1  # type: ignore[attr-defined]
    assert names["injected"].stamps.shape == (8, 3, 101, 101)  # type: ignore[attr-defined]
    assert names["logits"].shape == (8,)  # type: ignore[attr-defined]


def test_block_of_the_injection_page_runs() -> None:
    injected = run_blocks("docs/injection.md", 1)["injected"]
    assert injected.table["poisson_noise"].all()  # type: ignore[attr-defined]


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{name}.md" for name in PAGES)])
def test_commands_of_a_page_exist(page: str) -> None:
    known: Any = get_command(app)
    shells = re.findall(r"```sh\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)
    named = re.findall(r"^dhs (\w+)(?: (\w+))?", "\n".join(shells), flags=re.MULTILINE)
    for first, second in named:
        command = known.commands[first]
        if first == "checkpoint":
            assert second in command.commands
    files = re.findall(r"configs/[\w.]+\.yaml", "\n".join(shells))
    assert all((ROOT / file).exists() for file in files)


def test_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"make ([\w-]+)", README)):
        assert f"\n{target}:" in makefile
