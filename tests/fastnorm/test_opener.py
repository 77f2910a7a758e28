"""``--open``: what was written is opened, or one line says why not."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import pytest

from fastnorm import opener
from tests.command_line import record_opened


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record what is opened; nothing is."""
    monkeypatch.delenv("BROWSER", raising=False)
    return record_opened(monkeypatch)


@pytest.mark.parametrize("name", ["DISPLAY", "WAYLAND_DISPLAY", "BROWSER"])
def test_a_file_is_opened_where_something_can_show_it(
    asked: list[str], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for other in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, ":0")
    monkeypatch.chdir(tmp_path)
    assert opener.open_written(Path("a report #1.html"))
    assert asked == [(tmp_path / "a report #1.html").as_uri()]
    assert "%20" in asked[0]
    assert "%23" in asked[0]


def test_without_a_display_one_line_says_so(
    asked: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    assert not opener.open_written(tmp_path / "report.html")
    assert asked == []
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert "no display" in said.err
    assert str(tmp_path / "report.html") in said.err


def test_without_a_browser_one_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DISPLAY", ":0")
    for fault in (lambda address: False, _fail):
        monkeypatch.setattr(webbrowser, "open", fault)
        assert not opener.open_written(tmp_path / "report.html")
        assert "no program" in capsys.readouterr().err


def _fail(address: str) -> bool:
    raise webbrowser.Error("could not locate runnable browser")


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_other_systems_need_no_display(
    asked: list[str], platform: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", platform)
    assert opener.open_written(tmp_path / "a.png")
    assert len(asked) == 1
