"""What the README shows runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_code_blocks_run_in_order() -> None:
    namespace: dict[str, object] = {}
    assert len(BLOCKS) == 3
    for block in BLOCKS:
        exec(compile(block, "README.md", "exec"), namespace)
    assert namespace["legacy"].shape == (3, 64, 64)  # type: ignore[attr-defined]
    assert namespace["loss"].item() < 1  # type: ignore[attr-defined]


def test_commands_exist() -> None:
    makefile = (Path(__file__).parents[1] / "Makefile").read_text()
    for target in set(re.findall(r"make (\w+)", README)):
        assert f"\n{target}:" in makefile
