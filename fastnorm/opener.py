"""The option ``--open``: show what a command wrote in the browser or viewer of this machine."""

from __future__ import annotations

import os
import sys
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from fastnorm.terminal import say

Open = Annotated[
    bool,
    typer.Option("--open", help="Show what was written, in the browser or viewer of this machine."),
]
NEEDS_NO_DISPLAY = ("darwin", "win32", "cygwin")
DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER")
"""Variables of which a Unix desktop sets one; users set BROWSER themselves."""


def open_written(path: Path) -> bool:
    """Open a file; where nothing can show it, say so in one line on stderr.

    Parameters
    ----------
    path : Path
        A page or a picture.

    Returns
    -------
    bool
        Whether a program was started.
    """
    # Without a display, webbrowser may start a browser inside the terminal.
    if sys.platform not in NEEDS_NO_DISPLAY and not any(map(os.environ.get, DISPLAYS)):
        say("note", "yellow", f"--open: this machine has no display; open {path} on another.")
        return False
    try:
        is_open = webbrowser.open(path.absolute().as_uri())
    except (webbrowser.Error, OSError):
        is_open = False
    if not is_open:
        say("note", "yellow", f"--open: no program was found that shows {path}; open it yourself.")
    return is_open
