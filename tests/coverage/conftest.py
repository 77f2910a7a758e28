"""Prints the table of coverage after the tests."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from tests.coverage.coverage_rows import ROWS


def pytest_terminal_summary() -> None:
    if not ROWS:
        return
    table = Table("row", "nominal", "allowed", "reached", "runs")
    for row in ROWS:
        allowed = f"{row.allowed[0]:g} to {row.allowed[1]:g}"
        table.add_row(row.name, f"{row.nominal:g}", allowed, f"{row.reached:.3f}", f"{row.runs:,}")
    Console(width=110).print(table)
