"""Entry point ``python -m dhs``, the same as the command ``dhs``."""

from __future__ import annotations

from dhs.cli import app

if __name__ == "__main__":
    app(prog_name="dhs")
