"""The page of Markdown: one table per part, each figure with its unit.

``python -m benchmarks.gpu_evidence.page FILE.json`` writes it again, beside the file.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu_evidence import prediction
from benchmarks.gpu_evidence.columns import COLUMNS, SUMMARY, Column
from benchmarks.gpu_evidence.runner import DONE
from fastnorm.atomic import atomic_path

Content = Mapping[str, Any]
Row = Mapping[str, Any]


def write(content: Content, file: Path) -> None:
    """Write the page of a run.

    Parameters
    ----------
    content : mapping
        Content of the JSON file.
    file : Path
        Markdown file to write.
    """
    with atomic_path(file) as temporary:
        temporary.write_text("\n".join(lines(content)) + "\n", "utf-8")


def lines(content: Content) -> Iterator[str]:
    """Yield the lines of the page."""
    yield "# GPU evidence"
    yield ""
    yield from introduction(content)
    for _, title, body in sections(content):
        yield ""
        yield f"## {title}"
        yield ""
        yield from body


def introduction(content: Content) -> Iterator[str]:
    """Yield a paragraph on the run, and a table of its parts."""
    parts = content["parts"]
    if content["is_rehearsal"]:
        yield "**A rehearsal on a CPU, on tiny stacks: no figure on this page is a measurement.**"
    elif is_measured(content):
        yield f"Measured on {device_name(content)}, {content['written']}."
    else:
        yield f"**No GPU was measured** ({content['written']})."
    yield ""
    yield from table_of(SUMMARY, [part | {"result": result(part)} for part in parts.values()])


def sections(content: Content) -> Iterator[tuple[str, str, list[str]]]:
    """Yield name, title and lines of every part that has rows; the others are in the list above."""
    modelled = content["parts"].get("model", {}).get("rows", [])
    for name, part in content["parts"].items():
        rows = part["rows"]
        if not rows:
            continue
        if name == "variants":
            rows = [_with_prediction(row, device_name(content), modelled) for row in rows]
        body = list(table_of(COLUMNS[name], rows))
        if part["status"] != DONE:
            body += ["", f"It ended early: {cell(part['reason'])}."]
        notes = [note for row in rows for note in _notes(row)]
        body += ["", *notes] if notes else []
        yield name, part["title"], body


def result(part: Row) -> str:
    """Return the status of a part in words, with the reason."""
    if part["status"] == DONE:
        return "done" if part["device"] == "cuda" else "done, on the CPU"
    status = "ended early" if part["status"] == "partly" else part["status"]
    return cell(f"{status}: {part['reason']}")


def device_name(content: Content) -> str:
    """Return the name of the GPU, empty without one."""
    rows = content["parts"].get("machine", {}).get("rows", [])
    names = [row["value"] for row in rows if row["name"] == "GPU"]
    return "" if not names or names[0] == "no CUDA device" else str(names[0].partition(",")[0])


def is_measured(content: Content) -> bool:
    """Return whether a GPU was measured; a description or a model of it does not count."""
    measured = [part for name, part in content["parts"].items() if name not in ("machine", "model")]
    is_real = not content["is_rehearsal"]
    return is_real and any(part["device"] == "cuda" and part["rows"] for part in measured)


def _with_prediction(row: Row, device: str, modelled: Sequence[Any]) -> Row:
    if row.get("backend") != prediction.KERNEL:
        return row
    return {**row, "modelled_of_copy": prediction.predicted(row["name"], device, modelled)}


def _notes(row: Row) -> Iterator[str]:
    name = cell(str(row.get("name", "")))
    if row.get("error"):
        yield f"- {name}: {cell(row['error'])}"
    for failure in row.get("failures", ()):
        yield f"- {cell(failure)}"


def table_of(columns: Sequence[Column], rows: Sequence[Row]) -> Iterator[str]:
    """Yield the lines of the table of a part."""
    found = [[column.text(row) for column in columns] for row in rows]
    yield f"| {' | '.join(column.heading for column in columns)} |"
    yield "|" + "".join("---:|" if column.is_number else "---|" for column in columns)
    for row in found:
        yield f"| {' | '.join(map(cell, row))} |"


def cell(text: str) -> str:
    """Return text that cannot break a table: one line, without bars."""
    return " ".join(text.split()).replace("|", "/").replace("<", "&lt;")


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("file", type=Path, help="gpu_evidence.json of a run")
    parser.add_argument("--model", type=Path, help="JSON of python -m benchmarks.gpu_model --json")
    options = parser.parse_args()
    content = json.loads(options.file.read_text("utf-8"))
    if options.model is not None:
        content["parts"]["model"]["rows"] = prediction.read(options.model)
    write(content, options.file.with_suffix(".md"))


if __name__ == "__main__":
    main()
