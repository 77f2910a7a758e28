"""The preprocessing as a value: what every artefact carries, and what may be combined."""

from __future__ import annotations

import hashlib
import json
import math
import numbers
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from dhs.constants import BANDS, CUTOUT_SIZE, PIXEL_SCALE, STAMP_SIZE
from dhs.preprocess.stack import MODES
from fastnorm import LEGACY_ANNULUS, Annulus
from fastnorm.checksums import DEFINITION_VERSION

NAN_POLICY = "zero before the statistics, zero after the division"
MASK_POLICY = "masked pixels leave the statistics, and are normalised like all others"
EPS = 1e-8


class SpecMismatchError(ValueError):
    """Two artefacts were made with different preprocessing."""


@dataclass(frozen=True)
class PreprocessSpec:
    """How raw nanomaggies become what a network sees, with every default resolved.

    Two specs that mean the same are equal, whichever way they were written: None and
    (20, 32), 45 and 45.0, any size of a crop that is not made.

    Attributes
    ----------
    mode : {"raw_robust", "residual_radial_profile"}
        As of `dhs.preprocess.preprocess_stack`.
    crop : bool
        Cut out the centre first.
    crop_size : int or None
        Side of the crop in pixels; 64 if None is given with ``crop``, and 0 means no crop.
    clip_range : float
        Limit of the normalised values on both sides.
    annulus_r_in, annulus_r_out : float
        Radii in pixels. Both None, or both 0 as in configurations, mean the legacy (20, 32).
    eps : float
        Added to the MAD.
    nan_policy, mask_policy : str
        What happens to pixels that are NaN or masked.
    bands : tuple of str
        In the order of the channels.
    flux_unit : str
    pixel_scale : float
        Arcsec per pixel.
    definition_version : int
        Of the normalisation itself.

    Raises
    ------
    TypeError, ValueError
        A value is not allowed; one radius is given without the other; or the value is none
        that this version computes.
    """

    mode: str = "raw_robust"
    crop: bool = False
    crop_size: int | None = None
    clip_range: float = 10.0
    annulus_r_in: float | None = None
    annulus_r_out: float | None = None
    eps: float = EPS
    nan_policy: str = NAN_POLICY
    mask_policy: str = MASK_POLICY
    bands: tuple[str, ...] = BANDS
    flux_unit: str = "nanomaggy"
    pixel_scale: float = PIXEL_SCALE
    definition_version: int = DEFINITION_VERSION

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            allowed = ", ".join(map(repr, MODES))
            raise ValueError(f"mode={self.mode!r} is not known; allowed are {allowed}.")
        self._resolve_crop()
        annulus = resolve_annulus(self.annulus_r_in, self.annulus_r_out)
        self._set(annulus_r_in=annulus.r_in, annulus_r_out=annulus.r_out, bands=tuple(self.bands))
        for name, usual in (("clip_range", 10), ("pixel_scale", PIXEL_SCALE), ("eps", EPS)):
            value = _number(name, getattr(self, name))
            if not 0 < value < math.inf:
                raise ValueError(
                    f"{name}={value!r} is not above 0 and finite; {usual} is what models expect."
                )
            self._set(**{name: value})
        for name, only in _ONLY.items():
            if getattr(self, name) != only:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} is not what this version computes, which is "
                    f"{only!r}; use the version of dhs that made the artefact."
                )

    def _resolve_crop(self) -> None:
        if not isinstance(self.crop, bool):
            raise TypeError(f"crop={self.crop!r} is neither True nor False.")
        size = self.crop_size
        if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 0):
            raise ValueError(f"crop_size={size!r} is no side in pixels; give 64, say, or None.")
        crop = self.crop and size != 0
        self._set(crop=crop, crop_size=(STAMP_SIZE if size is None else size) if crop else None)

    def _set(self, **values: object) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PreprocessSpec:
        """Rebuild a spec from `to_dict`, or from the part of it that older artefacts have.

        Raises
        ------
        TypeError, ValueError
            An unknown key, or a value that is not allowed.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(
                f"the preprocessing has the unknown keys {', '.join(unknown)}; it was written by "
                "a newer version of dhs, or is none."
            )
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Every field, resolved, for JSON."""
        return asdict(self) | {"bands": list(self.bands)}

    @property
    def fingerprint(self) -> str:
        """The sha256 of `to_dict` as canonical JSON, in hexadecimal."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def annulus(self) -> Annulus:
        assert self.annulus_r_in is not None
        assert self.annulus_r_out is not None
        return Annulus(self.annulus_r_in, self.annulus_r_out)

    def side(self, size: int = CUTOUT_SIZE) -> int:
        """Side in pixels of what is normalised, for cutouts of ``size``."""
        return size if self.crop_size is None else self.crop_size

    def is_inside_galaxy(self, size: int = CUTOUT_SIZE) -> bool:
        """Whether the annulus lies on the galaxy, of cutouts of ``size``."""
        side = self.side(size)
        return self.annulus.is_inside_galaxy(side, side)

    def annulus_status(self, size: int = CUTOUT_SIZE) -> str:
        """``corrected``, ``legacy`` or ``other``, and where that lies on cutouts of ``size``."""
        side = self.side(size)
        place = "inside the galaxy" if self.is_inside_galaxy(size) else "on the sky"
        name = "other"
        if self.annulus == LEGACY_ANNULUS:
            name = "legacy"
        elif self.annulus == Annulus.default(side, side):
            name = "corrected"
        return f"{name}, {place}"

    def preprocess_keywords(self) -> dict[str, Any]:
        """What `dhs.preprocess.preprocess_stack` takes besides the image."""
        names = ("mode", "crop", "crop_size", "clip_range", "annulus_r_in", "annulus_r_out")
        return {name: getattr(self, name) for name in names}

    def differences(self, other: PreprocessSpec) -> list[str]:
        """Return the fields that differ, each as ``name ours against theirs``, sorted by name."""
        mine, its = self.to_dict(), other.to_dict()
        return [
            f"{key} {mine[key]} against {its[key]}" for key in sorted(mine) if mine[key] != its[key]
        ]

    def has_radii(self, r_in: object, r_out: object) -> bool:
        """Return whether two radii in pixels, as a file states them, are those of this annulus."""
        return (self.annulus_r_in, self.annulus_r_out) == (r_in, r_out)

    def require_same(self, other: PreprocessSpec, ours: str, theirs: str, hint: str = "") -> None:
        """Refuse to combine two artefacts of different preprocessing.

        Parameters
        ----------
        other : PreprocessSpec
        ours, theirs : str
            Names of the artefacts, for the message.
        hint : str
            A sentence on what else the user can do.

        Raises
        ------
        SpecMismatchError
            Both are named, with what differs.
        """
        differ = self.differences(other)
        if differ:
            raise SpecMismatchError(
                f"{ours} and {theirs} were made with different preprocessing "
                f"({'; '.join(differ)}); the two must never be mixed. Make one of them again."
                f"{hint and f' {hint}'}"
            )

    def __str__(self) -> str:
        crop = f"crop to {self.crop_size}" if self.crop else "no crop"
        radii = f"({self.annulus_r_in}, {self.annulus_r_out})"
        return f"{self.mode}, annulus {radii} px, {crop}, clip {self.clip_range:g}"


_ONLY: dict[str, Any] = {
    "eps": EPS,
    "nan_policy": NAN_POLICY,
    "mask_policy": MASK_POLICY,
    "bands": BANDS,
    "flux_unit": "nanomaggy",
    "definition_version": DEFINITION_VERSION,
}
"""What is written down for later versions, and has one value in this one."""


def resolve_annulus(r_in: float | None, r_out: float | None) -> Annulus:
    """The annulus of two radii in pixels; neither, as None or 0, is the legacy one.

    Raises
    ------
    TypeError, ValueError
        One is given without the other, or they are no annulus.
    """
    is_given = [radius is not None and radius != 0 for radius in (r_in, r_out)]
    if is_given == [False, False]:
        return LEGACY_ANNULUS
    if is_given != [True, True]:
        raise ValueError(
            f"annulus_r_in={r_in!r} and annulus_r_out={r_out!r}: give both radii, or neither for "
            f"the legacy ({LEGACY_ANNULUS.r_in}, {LEGACY_ANNULUS.r_out})."
        )
    assert r_in is not None
    assert r_out is not None
    return Annulus(r_in, r_out)


def _number(name: str, value: object) -> float:
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise TypeError(f"{name}={value!r} is not a number.")
    return float(value)
