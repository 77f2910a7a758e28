"""Run the Python blocks of the README; ``make test-docs`` also runs its commands."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests import ROOT

README = (ROOT / "README.md").read_text()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_blocks_of_the_readme_run_in_order() -> None:
    blocks = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(blocks) == 5
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names)
    assert names["legacy"].shape == (3, 64, 64)
    assert names["loss"].item() < 1
    assert names["injected"].stamps.shape == (8, 3, 101, 101)
    assert names["logits"].shape == (8,)


def test_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"make ([\w-]+)", README)):
        assert f"\n{target}:" in makefile


def test_files_that_it_links_to_exist() -> None:
    linked = re.findall(r"\]\((?!https://)([^)#]+)", README)
    assert len(linked) > 10
    assert [path for path in linked if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", ["README.md", "docs/training.md", "docs/tutorial.md"])
def test_a_training_is_started_in_one_way(page: str) -> None:
    text = (ROOT / page).read_text("utf-8")
    assert "dhs train " in text
    assert "python -m dhs.train" not in text
