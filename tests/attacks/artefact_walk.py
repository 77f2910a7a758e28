"""Odd values in place of each value that an artefact records, and what must hold then."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from dhs.audit import Audit, Line, audit
from dhs.audit.artefacts import Artefacts, find_artefacts
from dhs.audit.results import checksums_hold
from dhs.audit.run import LINES
from dhs.cli import app
from dhs.report import write_report
from fastnorm.io import Rejected
from fastnorm.text import printable
from tests.attacks.artefact_cases import KINDS
from tests.command_line import invoke, message
from tests.dhs.selection.grid_cases import FakeImages

ODD = {
    "10**400": "1" + "0" * 400,
    "2**63": str(2**63),
    "2**63-1": str(2**63 - 1),
    "-1": "-1",
    "0": "0",
    "0.5": "0.5",
    "1e308": "1e308",
    "-1e308": "-1e308",
    "1e-320": "1e-320",
    "NaN": "NaN",
    "Infinity": "Infinity",
    "true": "true",
    "null": "null",
    "empty": '""',
    "newline": '"a\\nb"',
    "bidi": '"\\u202egnp.exe"',
    "escape": '"\\u001b[31mred"',
    "surrogate": '"\\ud800"',
    "zero byte": '"a\\u0000b"',
    "script": '"<script>alert(1)</script>"',
    "shell": '"$(touch owned); `id` \'\\" #"',
    "long": json.dumps("a" * 10_000),
    "list": "[]",
    "object": "{}",
    "deep": "[" * 200 + "]" * 200,
}
"""Texts of JSON by name."""
ABSENT = "absent"
"""An odd value that stands for an entry that is not there."""

FEW = ("--bootstrap", "100")
COMMANDS: dict[str, tuple[tuple[str, ...], ...]] = {
    "checkpoint": (
        ("checkpoint", "list", "training"),
        ("checkpoint", "list", "training", "--json"),
        ("checkpoint", "show", "training/best.safetensors"),
        ("checkpoint", "show", "training/best.safetensors", "--json"),
        ("checkpoint", "deprecate", "training", "--reason", "wrong"),
        ("methods", "training/best.safetensors", "--grid", "grid"),
        ("methods", "training/best.safetensors", "--latex"),
    ),
    "imported checkpoint": (
        ("checkpoint", "show", "imported/old.safetensors"),
        ("methods", "imported/old.safetensors"),
    ),
    "scores": (("show", "scores.parquet", "--out", "shown.png"),),
    "scores of an evaluation": (
        ("evaluate", "new.parquet", "--truth", "truth.parquet", "--out", "judged", *FEW),
    ),
    "grid": (
        ("methods", "training/best.safetensors", "--grid", "grid"),
        (
            "grid",
            "compare",
            "grid",
            "grid of another model",
            "--out",
            "compared",
            "--resamples",
            "100",
        ),
    ),
    "table of a grid": (("methods", "training/best.safetensors", "--grid", "grid"),),
    "survey": (("show", "scores.parquet", "--out", "shown.png"),),
}
"""Commands that read an artefact of a kind, relative to the folder."""


Place = tuple[str | int, ...]


def leaves(value: Any, place: Place = ()) -> Iterator[Place]:
    """Return the places of all values in JSON, of the innermost ones and of those around them."""
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    for key, entry in entries:
        yield (*place, key)
        if isinstance(entry, dict | list):
            yield from leaves(entry, (*place, key))


def replaced(text: str, *changes: tuple[Place, str | None]) -> str:
    """Return JSON with the values at some places replaced by other texts, or removed."""
    metadata = json.loads(text)
    # The last entries of lists first, because a removal moves those after it.
    for number, (place, odd) in sorted(enumerate(changes), key=lambda item: str(item[1][0]))[::-1]:
        around = metadata
        for key in place[:-1]:
            around = around[key]
        if odd is None:
            del around[place[-1]]
        else:
            around[place[-1]] = f"odd value {number} here"
    said = json.dumps(metadata)
    for number, (_, odd) in enumerate(changes):
        said = said.replace(f'"odd value {number} here"', odd or "")
    return said


@cache
def _lock() -> Line:
    return next(line for line in audit(Artefacts([Path()])).lines if line.key == "lock")


def audited(found: Artefacts) -> Audit:
    """Audit artefacts without normalising again for the line that does not depend on them."""
    kept = [_lock_line if judge is checksums_hold else judge for judge in LINES]
    return replace(
        Audit((), tuple(judge(found) for judge in kept), tuple(found.rejected)),
        folders=tuple(map(str, found.folders)),
    )


def _lock_line(_: Artefacts) -> Line:
    return _lock()


def names(found: Artefacts) -> set[str]:
    """Return the paths of all artefacts that were read."""
    lists: list[list[Any]] = [found.checkpoints, found.scores, found.evaluations, found.comparisons]
    lists += [found.realism, found.packs]
    return {
        *(str(item.path) for items in lists for item in items),
        *(str(grid.folder) for grid in found.grids),
        *map(str, found.methods),
    }


class Shown(NamedTuple):
    """The artefacts of a folder, those that were not read, and the page."""

    found: Artefacts
    rejected: list[Rejected]
    page: str


def shown(folder: Path, out: Path) -> Shown:
    """Read the artefacts of a folder, audit them, and write the report."""
    found = find_artefacts([folder])
    rejected = write_report(found, audited(found), out, open_images=FakeImages, plan=True)
    return Shown(found, rejected, out.read_text("utf-8"))


def put(folder: Path, kind: str, *changes: tuple[Place, str]) -> None:
    """Put odd values, by their names, into an artefact of a folder."""
    found = KINDS[kind]
    path = folder / found.path
    texts = [(place, None if name == ABSENT else ODD[name]) for place, name in changes]
    found.write(path, replaced(found.read(path), *texts))


def places(folder: Path, kind: str) -> list[Place]:
    """Return the places in an artefact; of long lists and of tensors, the first ones."""
    found = KINDS[kind]
    metadata = json.loads(found.read(folder / found.path))
    first = min(metadata["tensors"]) if "tensors" in metadata else None
    return [
        place
        for place in leaves(metadata)
        if all(not isinstance(key, int) or key < 2 for key in place)
        and (place[0] != "tensors" or len(place) == 1 or place[1] == first)
    ]


def run(folder: Path, kind: str, words: Sequence[str]) -> int:
    """Run a command on an artefact; require a message without traceback or control codes."""
    name, *others = words
    given = [str(folder / word) if (folder / word).exists() else word for word in others]
    if "--out" in given:
        at = given.index("--out") + 1
        given[at] = str(folder.parent / f"{kind} {given[at]}")
    result = invoke(app, name, *given)
    assert is_plain(result.output), result.output
    assert result.exit_code in (0, 1, 2)
    # A message names the file.
    assert result.exit_code != 2 or folder.name in message(result), result.stderr
    return result.exit_code


def is_plain(text: str) -> bool:
    """Return whether a terminal shows a text as it is, lines apart."""
    return all(line.isprintable() for line in text.split("\n"))


def own_names(folder: Path, kind: str) -> set[str]:
    """Return the names under which an artefact may be missing: its file, its folder, its grid."""
    path = folder / KINDS[kind].path
    return {str(path), str(path.parent), str(path.with_name("grid.json"))}


def require_named(folder: Path, rejected: Sequence[Rejected], kind: str) -> None:
    """Require reasons of one line, for one artefact only."""
    for item in rejected:
        assert item.reason.isprintable(), repr(item.reason)
        assert "errors.pydantic.dev" not in item.reason
        assert len(item.reason) < 4000
        assert str(item.path) in own_names(folder, kind), item


def require_kept(folder: Path, before: set[str], found: Artefacts, kind: str) -> set[str]:
    """Require that no artefact is lost but one, which is named; return its name."""
    require_named(folder, found.rejected, kind)
    lost = before - names(found)
    assert lost <= own_names(folder, kind), lost
    assert bool(lost) <= bool(found.rejected)
    return lost


def require_told(folder: Path, before: set[str], now: Shown, kind: str) -> None:
    """Require that one artefact is named with a reason of one line, or all are on the page."""
    require_named(folder, now.rejected, kind)
    for name in before - require_kept(folder, before, now.found, kind):
        assert printable(name) in now.page, name
