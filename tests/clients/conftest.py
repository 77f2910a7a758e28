"""Fixtures of the tests with training frameworks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

LIGHTNING_WARNINGS = [
    pytest.mark.filterwarnings(f"ignore:{said}")
    for said in (
        r"`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning",
        r"The '\w+' does not have many workers:UserWarning",
    )
]
"""Warnings of Lightning about itself, and about loaders that are as small as these."""


def framework(module: str) -> Any:
    """Import a framework, or skip the test."""
    return pytest.importorskip(
        module, reason=f"{module} is not installed; make test-clients installs it"
    )


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def lightning() -> Any:
    return framework("lightning")


@pytest.fixture
def accelerate() -> Any:
    return framework("accelerate")
