"""Whatever one artefact records, it hides no other, and no command ends in a traceback."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dhs.audit.artefacts import find_artefacts
from dhs.cli import app
from dhs.report.parts import Block, each, text
from fastnorm.io import Rejected
from fastnorm.json_text import parse_json
from tests.attacks import artefact_walk as walk
from tests.attacks.artefact_cases import KINDS, write_all
from tests.attacks.artefact_walk import COMMANDS, ODD, Place
from tests.command_line import invoke

MOST = 10
"""Number of values of an artefact that are changed."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_all(tmp_path_factory.mktemp("attack") / "whole")


@pytest.fixture(scope="module")
def whole(folder: Path) -> set[str]:
    found = find_artefacts([folder])
    assert not found.rejected
    return walk.names(found)


@contextmanager
def odd_in(folder: Path, kind: str, place: Place, odd: str) -> Iterator[None]:
    """Put an odd value into an artefact; put the file back afterwards."""
    path = folder / KINDS[kind].path
    before = path.read_bytes()
    walk.put(folder, kind, (place, odd))
    try:
        yield
    finally:
        path.write_bytes(before)


@pytest.mark.slow
def test_the_cases_are_read_without_an_odd_value(
    folder: Path, whole: set[str], tmp_path: Path
) -> None:
    now = walk.shown(folder, tmp_path / "report.html")
    assert not now.rejected
    assert len(whole) >= len(KINDS)
    for kind, lists in COMMANDS.items():
        for words in lists:
            assert walk.run(folder, kind, words) == 0, words


@pytest.mark.parametrize("kind", KINDS)
def test_an_odd_value_hides_no_other_artefact(folder: Path, whole: set[str], kind: str) -> None:
    places = walk.places(folder, kind)
    odd = [*ODD, walk.ABSENT]
    # The fuzz tests try all pairs; here, some values each have another odd one.
    for number, place in list(enumerate(places))[:: max(len(places) // MOST, 1)]:
        with odd_in(folder, kind, place, odd[number % len(odd)]):
            found = find_artefacts([folder])
            walk.audited(found)
        walk.require_kept(folder, whole, found, kind)


WORST: list[tuple[str, Place, str]] = [
    ("checkpoint", ("data", "n_train_lenses"), "list"),
    ("checkpoint", ("data", "n_validation"), "newline"),
    ("checkpoint", ("data", "n_validation_lenses"), "2**63-1"),
    ("checkpoint", ("config", "train"), "deep"),
    ("checkpoint", ("versions", "dhs"), "object"),
    ("grid", ("checkpoint", "architecture"), "object"),
    ("grid", ("thresholds",), "list"),
    ("grid", ("thresholds", 0, "logit"), "1e308"),
    ("grid", ("config", "source_mag_bins", 0), "1e308"),
    ("metrics", (0, "epoch"), "Infinity"),
    ("metrics", (0, "train_loss"), "long"),
    ("evaluation", ("negatives",), "0"),
    ("evaluation", ("tables", 0, "auc", "low"), "null"),
    ("realism", ("probe", "interval"), "list"),
    ("pack", ("bands", 0), "long"),
    ("scores", ("input", "path"), "bidi"),
]


@pytest.mark.parametrize(("kind", "place", "odd"), WORST)
def test_the_report_shows_all_others(
    folder: Path, whole: set[str], tmp_path: Path, kind: str, place: Place, odd: str
) -> None:
    with odd_in(folder, kind, place, odd):
        now = walk.shown(folder, tmp_path / "report.html")
    walk.require_told(folder, whole, now, kind)
    # All but these are refused when they are read, so that the audit says the same.
    assert bool(now.found.rejected) == (kind not in ("metrics", "scores"))
    assert kind == "scores" or now.rejected


@pytest.mark.parametrize("error", [OverflowError, RecursionError, ZeroDivisionError, LookupError])
def test_any_error_of_one_block_leaves_the_others(error: type[Exception]) -> None:
    def make(item: int) -> list[Block]:
        if item == 1:
            raise error("a\nb")
        return [text(f"block {item}")]

    rejected: list[Rejected] = []
    blocks = each([0, 1, 2], lambda item: Path(f"{item}"), make, rejected)
    assert [block.kind for block in blocks] == ["text", "unreadable", "text"]
    assert rejected[0].path == Path("1")
    assert rejected[0].reason.isprintable()


COMMANDED: list[tuple[str, Place, str]] = [
    *(("checkpoint", place, odd) for place in (("config",), ("metrics",)) for odd in ("deep",)),
    ("checkpoint", ("metrics", "val_auc"), "escape"),
    ("checkpoint", ("spec", "annulus_r_in"), "1e308"),
    ("checkpoint", ("data", "data_origin"), "newline"),
    ("imported checkpoint", ("imported_from",), "list"),
    ("scores", ("members", 0, "architecture"), "list"),
    ("scores", ("input", "path"), "list"),
    ("scores of an evaluation", ("members", 0), "null"),
    ("scores of an evaluation", ("data_origin",), "object"),
    ("grid", ("config",), "list"),
    ("grid", ("checkpoint",), "list"),
    ("grid", ("thresholds", 0, "threshold"), "escape"),
    ("grid", ("config", "source_mag_bins"), "list"),
    ("table of a grid", ("injections_fingerprint",), "object"),
    ("survey", ("data_origin",), "escape"),
]


@pytest.mark.parametrize(("kind", "place", "odd"), COMMANDED)
def test_no_command_ends_in_a_traceback(folder: Path, kind: str, place: Place, odd: str) -> None:
    for words in COMMANDS[kind]:
        with odd_in(folder, kind, place, odd):
            walk.run(folder, kind, words)


def test_a_name_of_a_file_that_is_odd_is_one_line(folder: Path, tmp_path: Path) -> None:
    name = "a\n\x1b[31m\u202eb.safetensors"
    (tmp_path / name).write_bytes(b"nothing")
    for words in (["audit", tmp_path, "--json"], ["checkpoint", "list", tmp_path, "--json"]):
        report = json.loads(invoke(app, *words).stdout)
        (rejected,) = report["rejected"]
        assert rejected["reason"].isprintable()
        assert r"\x1b[31m\u202eb" in rejected["reason"]
    for words in (["audit", tmp_path], ["checkpoint", "list", tmp_path]):
        result = invoke(app, *words)
        assert walk.is_plain(result.output), result.output


def test_a_notice_that_is_a_pipe_does_not_block(folder: Path, tmp_path: Path) -> None:
    from tests.dhs.model.model_cases import LEGACY, save, small

    save(tmp_path / "old.safetensors", small(LEGACY))
    os.mkfifo(tmp_path / "DEPRECATED.md")
    result = invoke(app, "checkpoint", "deprecate", tmp_path, "--reason", "wrong", "--json")
    report = json.loads(result.stdout)
    assert len(report["marked"]) == 1
    assert "DEPRECATED.md" in report["rejected"][0]["reason"]


def test_json_is_not_deep() -> None:
    assert parse_json("[" * 64 + "]" * 64)
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json("[" * 70 + "]" * 70)
    with pytest.raises(ValueError, match="nested too deeply"):
        parse_json('{"a":' * 70 + "1" + "}" * 70)
