"""Divides the time among the fuzz tests of a run, and prints their counts at the end."""

from __future__ import annotations

import pytest

from tests.faults.fuzz.budget import SECONDS, Budget, summary


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    lines = summary()
    if lines:
        terminalreporter.section("inputs tried by fuzzing")
        for line in lines:
            terminalreporter.write_line(line)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("fuzz"):
            # Hypothesis warns about inputs that are long to display.
            item.add_marker(
                pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")
            )


@pytest.fixture
def budget(request: pytest.FixtureRequest) -> Budget:
    tests = [item for item in request.session.items if item.get_closest_marker("fuzz")]
    return Budget(request.node.name, SECONDS / len(tests))
