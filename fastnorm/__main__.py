"""Entry point ``python -m fastnorm``, the same as the command ``fastnorm``."""

from __future__ import annotations

from fastnorm.cli import app

if __name__ == "__main__":
    app(prog_name="fastnorm")
