"""The warning of flat bands that several commands give."""

from __future__ import annotations

from collections.abc import Mapping

from fastnorm.terminal import say


def say_flat(flat_bands: Mapping[str, int]) -> None:
    """Warn of cutouts with flat bands, given as the number of these bands by id."""
    if flat_bands:
        from fastnorm.normalize.flat import describe_flat

        total = sum(flat_bands.values())
        say("warning", "yellow", describe_flat(flat_bands.items(), total))
