"""The tables of the compile report."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table

Row = dict[str, Any]


def _table(title: str, *columns: str, words: int = 1) -> Table:
    """Return a table whose first columns are text and the others numbers."""
    table = Table(title=title, title_justify="left", header_style="bold")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i < words else "right")
    return table


def _available(rows: list[Row], table: Table) -> Iterator[tuple[list[str], Row]]:
    for row in rows:
        label = [f"{row['kernel']}, {row['variant']}", f"sm_{row['capability']}"]
        if "unavailable" in row:
            table.add_row(*label, "-")
        else:
            yield label, row


def compiled_table(rows: list[Row]) -> Table:
    table = _table(
        "Compiled without a GPU", "kernel", "device", "regis-\nters", "spills\n(bytes)",
        "local loads\nand stores", "shared\n(bytes)", "code\n(bytes)", "binary\n(bytes)",
        "instruc-\ntions", "warps,\nprogram", "warps,\nresident", "compile\n(s)", words=2,
    )  # fmt: skip
    keys = (
        "registers", "stack_bytes", "local_instructions", "shared_bytes", "code_bytes",
        "cubin_bytes", "instructions", "warps", "resident_warps",
    )  # fmt: skip
    for label, row in _available(rows, table):
        table.add_row(*label, *(f"{row[key]:,}" for key in keys), f"{row['seconds']:.1f}")
    return table


def _simulated(table: Table, rows: list[Row], scale: float, digits: int) -> Table:
    """Add a line for every row, group of images and device; times are multiplied by ``scale``."""
    for label, row in _available(rows, table):
        if "modelled" not in row:
            table.add_row(*label, "not simulated")
        for group, found in row.get("modelled", {}).items():
            for device, times in found["devices"].items():
                reason, share = max(times["waits"].items(), key=lambda wait: wait[1])
                table.add_row(
                    label[0],
                    device,
                    f"{found['planes']} {group}" + (", loops copied" if row["copied"] else ""),
                    f"{found['warp_instructions']:,.0f}",
                    f"{row['resident_warps'] // row['warps']}",
                    f"{times['program_seconds'] * 1e6:.1f}",
                    f"{times['seconds'] * scale:.{digits}f}",
                    f"{times['memory_seconds'] * scale:.{digits}f}",
                    f"{times['share_of_copy']:.2f}",
                    f"{reason}, {share:.0%}",
                )
    return table


def modelled_table(rows: list[Row]) -> Table:
    table = _table(
        "Modelled time per plane", "kernel", "device", "planes", "warp\ninstructions",
        "programs\nresident", "program\n(us)", "plane\n(ns)", "copy\n(ns)", "share of\na copy",
        "warps wait most for", words=3,
    )  # fmt: skip
    return _simulated(table, rows, 1e9, 1)


def lens_table(rows: list[Row]) -> Table:
    table = _table(
        "Modelled time per lensed image", "kernel", "device", "images", "warp\ninstructions",
        "programs\nresident", "program\n(us)", "image\n(us)", "copy\n(us)", "share of\na copy",
        "warps wait most for", words=3,
    )  # fmt: skip
    return _simulated(table, rows, 1e6, 3)


def functions_table(rows: list[Row], capability: int, each: str) -> Table:
    """Return a table of the warp instructions of the first variant, by function."""
    table = _table(
        f"Modelled warp instructions per {each} by function, sm_{capability}",
        "kernel", f"{each}s", "function", "warp\ninstructions", "fraction", words=3,
    )  # fmt: skip
    row = next((r for r in rows if r["capability"] == capability and "modelled" in r), None)
    variant, modelled = (row["variant"], row["modelled"]) if row else ("", {})
    for group, found in modelled.items():
        total = sum(found["functions"].values())
        for name, count in found["functions"].items():
            table.add_row(variant, group, name, f"{count:,.0f}", f"{count / total:.0%}")
        table.add_section()
    return table


def passes_table(passes: Row, bounds: Row) -> Table:
    table = _table(
        "Passes per plane, counted", "variant", "planes", "statistic, passes", "median", "at most",
        "proven bound", words=3,
    )  # fmt: skip
    for name, groups in passes.items():
        for group, found in groups.items():
            for label, value in found.items():
                bound = bounds[name][label.split(", ")[1]]
                numbers = f"{value['median']:g}", str(value["maximum"]), str(bound)
                table.add_row(name, group, label, *numbers)
        table.add_section()
    return table


def fusion_table(rows: list[Row]) -> Table:
    table = _table(
        "Multiply-add fusion", "kernel", "binaries", "ruled out by", "fma\nin PTX",
        "FFMA, DFMA\nin SASS", words=3,
    )  # fmt: skip
    kinds: dict[tuple[str, str, int], list[int]] = {}
    for row in rows:
        if "unavailable" not in row:
            kind = row["kernel"], row["fusion"], row["fma_in_ptx"]
            kinds.setdefault(kind, []).append(row["fma_in_sass"])
    for (kernel, fusion, in_ptx), in_sass in kinds.items():
        least, most = min(in_sass), max(in_sass)
        span = f"{least} to {most}" if least < most else str(most)
        table.add_row(kernel, str(len(in_sass)), fusion, str(in_ptx), span)
    return table


def show(found: Row) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    rows, lenses = found["rows"], found["lenses"]
    capabilities = [row["capability"] for row in rows + lenses]
    headline = 90 if 90 in capabilities else capabilities[0]
    for table in (
        compiled_table(rows + lenses),
        modelled_table(rows),
        functions_table(rows, headline, "plane"),
        lens_table(lenses),
        functions_table(lenses, headline, "image"),
        passes_table(found["passes"], found["bounds"]),
        fusion_table(rows),
    ):
        if table.row_count:
            console.print(table)
    for row in rows + lenses:
        if "unavailable" in row:
            console.print(
                f"{row['kernel']}, {row['variant']}, sm_{row['capability']} is unavailable: "
                f"{row['unavailable']}",
                markup=False,
            )
    if rows:
        console.print(
            "FFMA and DFMA in the SASS of the normalisation are in the divisions, roots and "
            "reciprocals that the assembler itself expands: its input has no fma, and it contracts "
            "none. The lens kernel uses fma on purpose."
        )
    console.print(*found["assumptions"], sep="\n")
    if not found["figures"]:
        console.print("No limits were checked: the headline variant was not requested.")
    for figure in found["figures"]:
        verdict = "reached" if figure["reached"] else "missed"
        value = f"{figure['value']:.3g}, at most {figure['most']:g}"
        console.print(f"{verdict}: {figure['figure']}: {value}", markup=False)
