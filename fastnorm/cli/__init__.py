"""The command ``fastnorm``."""

from __future__ import annotations

from fastnorm.cli.main import app

__all__ = ["app"]
