"""A default device on which nothing that the package makes should lie."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture
def elsewhere() -> Iterator[None]:
    """Make the meta device the default: tensors there have no values, so that none can be read."""
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)
