"""Exact outer-annulus normalisation of image cutouts, at memory speed."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from fastnorm.annulus import LEGACY_ANNULUS, Annulus, AnnulusWarning
    from fastnorm.dispatch import Backend, BackendUnavailableError, backends, set_num_threads
    from fastnorm.footprint import EllipticalAnnulus
    from fastnorm.layer import FootprintNorm, OuterAnnulusNorm
    from fastnorm.normalize import (
        annulus_median_mad,
        footprint_median_mad,
        normalize_footprint,
        normalize_outer_annulus,
    )

_HOME = {
    "Annulus": "annulus",
    "AnnulusWarning": "annulus",
    "LEGACY_ANNULUS": "annulus",
    "Backend": "dispatch",
    "BackendUnavailableError": "dispatch",
    "backends": "dispatch",
    "set_num_threads": "dispatch",
    "EllipticalAnnulus": "footprint",
    "FootprintNorm": "layer",
    "OuterAnnulusNorm": "layer",
    "annulus_median_mad": "normalize",
    "footprint_median_mad": "normalize",
    "normalize_footprint": "normalize",
    "normalize_outer_annulus": "normalize",
}

__all__ = [
    "LEGACY_ANNULUS",
    "Annulus",
    "AnnulusWarning",
    "Backend",
    "BackendUnavailableError",
    "EllipticalAnnulus",
    "FootprintNorm",
    "OuterAnnulusNorm",
    "__version__",
    "annulus_median_mad",
    "backends",
    "footprint_median_mad",
    "normalize_footprint",
    "normalize_outer_annulus",
    "set_num_threads",
]


if not TYPE_CHECKING:  # type checkers know no other names than those above

    def __getattr__(name: str) -> Any:
        # Import a name on first use, so that `import fastnorm` stays light.
        if name not in _HOME:
            raise AttributeError(f"module 'fastnorm' has no attribute {name!r}")
        try:
            return getattr(importlib.import_module(f"fastnorm.{_HOME[name]}"), name)
        except ModuleNotFoundError as error:
            from fastnorm.extras import missing_package

            message = missing_package(error)
            if message is None:
                raise
            raise ImportError(f"fastnorm.{name}: {message}", name=error.name) from error


def __dir__() -> list[str]:
    return sorted(__all__)
