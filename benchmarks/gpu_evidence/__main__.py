"""Collect all evidence that only a GPU can give, in under 8 minutes (``make gpu-evidence``).

Every part runs in its own process, under its own time limit. Writes ``gpu_evidence.json`` and
``gpu_evidence.md`` after every part. Without a GPU it says what was not measured.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.gpu_evidence import page, prediction
from benchmarks.gpu_evidence.parts import PARTS, REHEARSAL_FACTOR, Part
from benchmarks.gpu_evidence.reasons import REHEARSAL
from benchmarks.gpu_evidence.runner import DONE, run_part
from fastnorm.atomic import atomic_path

SCHEMA_VERSION = 1
FILE = "gpu_evidence.json"
REHEARSED = {REHEARSAL: "1", "TRITON_INTERPRET": "1"}


def collect(
    parts: Sequence[Part], out: Path, *, is_rehearsal: bool = False, model: Path | None = None
) -> dict[str, Any]:
    """Run the parts one after the other, and write both files after each of them.

    Parameters
    ----------
    parts : sequence of Part
        Parts to run.
    out : Path
        Folder of the files; it is made if it does not exist.
    is_rehearsal : bool
        Run on a CPU, in Triton's interpreter, on tiny stacks.
    model : Path, optional
        JSON of the model, in place of the part ``model``.

    Returns
    -------
    dict
        Content of the JSON file.
    """
    content: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "is_rehearsal": is_rehearsal,
        "parts": {},
    }
    rows = None if model is None else prediction.read(model)
    for number, part in enumerate(parts, 1):
        if is_rehearsal:
            part = part._replace(seconds=REHEARSAL_FACTOR * part.seconds)
        if part.name == "model" and rows is not None:
            record = _given(part, rows)
        else:
            record = run_part(part, REHEARSED if is_rehearsal else None)
        content["parts"][part.name] = record
        out.mkdir(parents=True, exist_ok=True)
        with atomic_path(out / FILE) as temporary:
            temporary.write_text(json.dumps(content, indent=1, allow_nan=False), "utf-8")
        page.write(content, (out / FILE).with_suffix(".md"))
        print(
            f"[{number:2}/{len(parts)}] {part.title}: {page.result(record)} "
            f"({record['seconds']:.0f} of {part.seconds} s)",
            flush=True,
        )
    return content


def _given(part: Part, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the record of a model that was run before."""
    return {
        "title": part.title,
        "status": DONE,
        "reason": "",
        "device": "cpu",
        "rows": rows,
        "seconds": 0.0,
        "limit_seconds": part.seconds,
        "exit_status": 0,
        "output_tail": "",
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu_evidence", description=str(__doc__).partition("\n")[0]
    )
    names = [part.name for part in PARTS]
    parser.add_argument("--out", type=Path, default=Path("build/gpu_evidence"), help="folder")
    parser.add_argument("--parts", nargs="+", choices=names, default=names, metavar="PART")
    parser.add_argument("--model", type=Path, help="JSON of python -m benchmarks.gpu_model --json")
    parser.add_argument(
        "--rehearse", action="store_true", help="run on a CPU, on tiny stacks; measures nothing"
    )
    options = parser.parse_args()
    collect(
        [part for part in PARTS if part.name in options.parts],
        options.out,
        is_rehearsal=options.rehearse,
        model=options.model,
    )
    print(f"Written: {options.out / FILE} and {(options.out / FILE).with_suffix('.md')}")


if __name__ == "__main__":
    main()
