"""Fixtures and settings that all tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from numpy.typing import NDArray

import fastnorm
from tests.kernels import beside

settings.register_profile(
    "repeatable",
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("repeatable")


DEVICE_CODE: list[str] = []
"""Lines printed at the end of the run, on device code run by the interpreter and simulator."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if DEVICE_CODE:
        terminalreporter.section("device code, executed in Python")
        for line in DEVICE_CODE:
            terminalreporter.write_line(line)


def pytest_collection_finish(session: pytest.Session) -> None:
    if not session.config.option.collectonly:
        for module in {item.module for item in session.items if _waits(item)}:  # type: ignore[attr-defined]
            module.begin()


def pytest_sessionfinish() -> None:
    beside.end()


def _waits(item: pytest.Item) -> bool:
    """Return whether a test needs the results of the processes that run next to the tests."""
    return "outcomes" in getattr(item, "fixturenames", ())


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_waits)
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="torch sees no CUDA device"))


@pytest.fixture(autouse=True)
def _default_threads() -> Iterator[None]:
    yield
    fastnorm.set_num_threads(None)


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill the result of `numpy.empty`, so that unwritten values are visible."""
    empty: Callable[..., NDArray[Any]] = np.empty

    def poisoned(*args: Any, **keywords: Any) -> NDArray[Any]:
        array = empty(*args, **keywords)
        array.fill(np.nan if array.dtype.kind == "f" else 1)
        return array

    monkeypatch.setattr(np, "empty", poisoned)
