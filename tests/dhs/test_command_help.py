"""Tests of the help of both commands: every text is a sentence, and ``-h`` prints it."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from tests.command_line import invoke

APPS = {
    name: importlib.import_module(module).app
    for name, module in [
        ("fastnorm", "fastnorm.cli"),
        ("dhs", "dhs.cli"),
        ("dhs.train", "dhs.train.__main__"),
    ]
}
NOT_A_SENTENCE = re.compile(r"(Of|As|What|Which|Whose|Who|How|Why|Whether)\b")
NOUN = re.compile(r"\w+ of\b")
VERB = re.compile(
    r"(Accept|Allow|Check|Clip|Combine|Compare|Convert|Copy|Define|Download|Draw|Estimate|"
    r"Evaluate|Exclude|Fetch|Find|Give|Inject|Install|Keep|List|Make|Mark|Measure|Name|"
    r"Normalise|Omit|Pack|Print|Put|Read|Record|Replace|Score|Search|Send|Set|Show|"
    r"Simulate|Skip|Start|State|Take|Test|Train|Treat|Try|Use|Wait|Write)\b"
)


def _commands(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    yield name, command
    for inner, found in getattr(command, "commands", {}).items():
        yield from _commands(f"{name} {inner}", found)


ALL = [found for name, app in APPS.items() for found in _commands(name, get_command(app))]
TEXTS = {
    f"{name} {' '.join(parameter.opts)}": parameter.help
    for name, command in ALL
    for parameter in command.params
    if not getattr(parameter, "hidden", False)
} | {name: command.help.split("\n\n")[0].replace("\n", " ") for name, command in ALL}


@pytest.mark.parametrize("place", TEXTS)
def test_help_is_a_sentence(place: str) -> None:
    text = TEXTS[place]
    assert text, f"{place} has no help"
    assert text[0].isupper()
    assert text.endswith(".")
    assert not NOT_A_SENTENCE.match(text)
    assert not NOUN.match(text)
    assert VERB.match(text), f"{text!r} does not start with a verb"


@pytest.mark.parametrize("text", ["Of all numbers.", "Whether to crop.", "Name of a backend."])
def test_what_is_no_sentence_is_seen(text: str) -> None:
    assert NOT_A_SENTENCE.match(text) or NOUN.match(text)


def test_the_walk_finds_the_commands() -> None:
    names = {name for name, _ in ALL}
    assert names >= {"fastnorm normalize", "dhs grid plan", "dhs checkpoint import", "dhs.train"}
    assert len(TEXTS) > 100


@pytest.mark.parametrize("name", [name for name, _ in ALL])
def test_h_is_help(name: str) -> None:
    program, *words = name.split()
    short = invoke(APPS[program], *words, "-h")
    assert short.exit_code == 0
    assert short.stdout == invoke(APPS[program], *words, "--help").stdout
    assert "-h" in short.stdout


@pytest.mark.parametrize("name", ["fastnorm", "dhs"])
def test_shells_complete(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(f"_{name.upper()}_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", f"{name} ")
    monkeypatch.setenv("COMP_CWORD", "1")
    done = CliRunner().invoke(APPS[name], [], prog_name=name)
    below = {found.split()[1] for found, _ in ALL if found.startswith(f"{name} ")}
    assert set(done.stdout.split()) == below
    assert "--install-completion" in invoke(APPS[name], "--help").stdout
