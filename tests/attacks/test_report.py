"""The page says what strangers recorded: no code, no commands, no hidden letters."""

from __future__ import annotations

import html
import json
import re
import shlex
import shutil
import subprocess
import unicodedata
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from dhs.audit.artefact_checks import reason_of
from dhs.audit.artefacts import Artefacts, Document, find_artefacts
from dhs.checkpoint import Checkpoint
from dhs.cli import app
from dhs.report import commands, write_report
from dhs.report.parts import in_script
from dhs.selection.grid_result import GridResult
from fastnorm.io import Rejected
from fastnorm.text import quoted, visible
from tests.attacks import artefact_walk as walk
from tests.attacks.artefact_cases import KINDS, write_all
from tests.attacks.artefact_walk import Place
from tests.command_line import invoke
from tests.dhs.audit.audit_cases import template as template

HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
EVIL = "a b\n$(touch owned); `id` 'q' \"\\\n# \x1b[31m\u202egnp\u2066\u200f\u061c\u2028<b>\x07"
PLACES: dict[str, list[Place]] = {
    "checkpoint": [("data", "data_origin"), ("deprecated",), ("config", "train", "lr")],
    "imported checkpoint": [("imported_from", "file"), ("imported_from", "sha256")],
    "scores": [("members", 0, "checkpoint"), ("device",)],
    "evaluation": [("truth", "path"), ("truth", "tier_col"), ("tables", 0, "path")],
    "grid": [("config", "checkpoint"), ("data_origin",), ("config", "hosts", "parquet_path")],
    "comparison": [("first", "folder"), ("second", "folder"), ("data_origin",)],
    "realism": [("checkpoint", "name"), ("real", "label_col"), ("probe", "verdict")],
    "survey": [("data_origin",)],
    "pack": [("source_manifest_sha256",), ("data_origin",)],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write artefacts with evil text wherever a text is shown, in a folder with an evil name."""
    folder = write_all(tmp_path_factory.mktemp("evil") / "whole")
    for kind, places in PLACES.items():
        found = KINDS[kind]
        path = folder / found.path
        for place in places:
            found.write(path, walk.replaced(found.read(path), (place, json.dumps(EVIL))))
    evil = folder / "b $(id)\n\x1b[1m\u202e"
    evil.mkdir()
    shutil.move(folder / "imported", evil / "imported")
    (evil / "old\n.pt").write_bytes(b"no weights")
    return folder


@pytest.fixture(scope="module")
def page(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    now = walk.shown(folder, tmp_path_factory.mktemp("page") / "report.html")
    assert not now.found.rejected
    return now.page


def own_part(page: str) -> str:
    """Return the page without its scripts and styles, which are ours; embedded data stay."""
    return re.sub(r"<(script|style)>.*?</\1>", "", page, flags=re.DOTALL)


def hidden(text: str) -> set[str]:
    return {letter for letter in text if unicodedata.category(letter) in HIDDEN} - {"\n"}


def test_the_page_shows_every_hidden_letter(page: str) -> None:
    said = own_part(page)
    assert len(said) > 10_000
    assert not hidden(html.unescape(said))
    assert r"\x1b[31m\u202egnp\u2066\u200f\u061c\u2028" in html.unescape(said)
    assert "<b>" not in said
    for data in re.findall(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL):
        texts = json.dumps(json.loads(data), ensure_ascii=False)
        assert not hidden(texts)
        assert not any(f"\\u{ord(letter):04x}" in texts.replace(r"\\u", "") for letter in EVIL)


def cards(page: str) -> list[str]:
    return re.findall(r'<article class="card">.*?</article>', page, re.DOTALL)


def lines_of(card: str) -> list[str]:
    return [html.unescape(code) for code in re.findall(r"<pre><code>(.*?)</code>", card, re.DOTALL)]


def test_every_command_of_the_page_is_one_simple_command(page: str, tmp_path: Path) -> None:
    found = [line for card in cards(page) for line in lines_of(card)]
    assert len(found) >= len(PLACES)
    for line in found:
        assert line.isprintable(), line
        assert shlex.split(line)[0] == "dhs"
        done = subprocess.run(["bash", "-n"], input=line, text=True, capture_output=True)
        assert not done.returncode, done.stderr
        # A function in place of the program receives the words that a shell makes of the line.
        script = f"dhs() {{ printf '%s\\0' dhs \"$@\"; }}\n{line}\n"
        shown = subprocess.run(
            ["bash", "-c", script], cwd=tmp_path, text=True, capture_output=True, check=True
        )
        assert shown.stdout.split("\0")[:-1] == shlex.split(line)
    assert not list(tmp_path.iterdir())


def test_the_words_of_commands_are_those_recorded(
    folder: Path, template: Checkpoint, page: str
) -> None:
    found = find_artefacts([folder])
    evil = visible(EVIL)
    (old,) = (item for item in found.checkpoints if item.imported_from)
    words = shlex.split(commands.of_checkpoint(old).line)
    assert words[:4] == ["dhs", "checkpoint", "import", evil]
    assert words[words.index("--out") + 1] == visible(old.path)
    (scores,) = (item for item in found.scores if item.path.name == "scores.parquet")
    assert shlex.split(commands.of_scores(scores).line)[2] == evil
    words = shlex.split(commands.of_evaluation(found.evaluations[0]).line)
    assert words[2] == evil
    assert words[words.index("--truth") + 1] == words[words.index("--tier-col") + 1] == evil
    assert shlex.split(commands.of_comparison(found.comparisons[0]).line)[3:5] == [evil, evil]
    assert shlex.split(commands.of_realism(found.realism[0]).line)[2] == evil
    words = shlex.split(commands.of_pack(found.packs[0]).line)
    assert words[words.index("--data-origin") + 1] == evil
    assert evil in commands.of_pack(found.packs[0]).note or "$" in evil
    (path,) = found.old
    assert shlex.split(commands.of_old(path).line)[3] == visible(path)
    text = folder / "a b; $(id)\n.md"
    assert shlex.split(commands.of_methods(text).line)[-1] == visible(text.name)


def test_files_of_commands_hold_what_was_recorded(folder: Path) -> None:
    grid = GridResult(folder / "grid")
    made = commands.of_grid(grid)
    assert not hidden(made.content)
    assert yaml.safe_load(made.content) == {
        **grid.metadata["config"],
        "out_dir": str(grid.folder),
    }
    assert yaml.safe_load(made.content)["checkpoint"] == EVIL


def test_words_that_a_terminal_shows_are_whole_and_one_line(folder: Path) -> None:
    for words in (
        ("audit", folder),
        ("checkpoint", "list", folder),
        ("checkpoint", "show", folder / "training" / "best.safetensors"),
    ):
        result = invoke(app, *words)
        assert walk.is_plain(result.output)
        # A line break in a text would let it write lines of its own.
        assert not any(line.startswith("# ") for line in result.output.splitlines()), words


def test_commands_that_the_audit_gives_are_quoted(tmp_path: Path) -> None:
    from tests.dhs.model.model_cases import LEGACY, save, small

    inner = tmp_path / "a b; $(id)\nc"
    inner.mkdir()
    save(inner / "old.safetensors", small(LEGACY))
    report = json.loads(invoke(app, "audit", tmp_path, "--json").stdout)
    line = next(line for line in report["lines"] if line["key"] == "deprecated")
    assert f"dhs checkpoint deprecate {quoted(inner)} --reason TEXT." in line["missing"]
    assert all(text.isprintable() for line in report["lines"] for text in line["evidence"])


class _Wanted(BaseModel):
    number: int
    other: int


def test_reasons_are_one_line_without_an_address(tmp_path: Path) -> None:
    with pytest.raises(ValidationError) as caught:
        _Wanted.model_validate({"number": "a\nb"})
    assert "\n" in str(caught.value)
    said = reason_of(caught.value)
    assert said.isprintable()
    assert "http" not in said
    assert "number: " in said
    assert "other: " in said
    for error in (KeyError("a\nb"), OverflowError("a\nb"), OSError("a\nb"), ValueError("a\nb")):
        assert reason_of(error).isprintable()
    found = Artefacts([tmp_path], packs=[Document(tmp_path / "gone", {"data_origin": "x"})])
    shown = write_report(found, walk.audited(found), tmp_path / "r.html")
    assert shown == [Rejected(tmp_path / "gone", shown[0].reason)]
    assert shown[0].reason.isprintable()


def test_json_in_scripts_has_no_hidden_letters() -> None:
    text = in_script(json.dumps({"a\u202e": ["\x1b</script>\u2028", 1.5, None]}))
    assert text.isascii()
    assert "<" not in text
    assert json.loads(text) == {r"a\u202e": [r"\x1b</script>\u2028", 1.5, None]}
