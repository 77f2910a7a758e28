"""Simulated surveys of galaxies, some of them with lensed arcs."""

from __future__ import annotations

from dhs.simulate.write import Survey, write_survey

__all__ = ["Survey", "write_survey"]
