"""The preprocessing as a value, recorded in every artefact and checked before combining them."""

from __future__ import annotations

import hashlib
import json
import math
import numbers
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from dhs.constants import BANDS, CUTOUT_SIZE, PIXEL_SCALE, STAMP_SIZE
from dhs.preprocess.stack import MODES, NO_CROP
from fastnorm import LEGACY_ANNULUS, Annulus
from fastnorm.checksums import DEFINITION_VERSION
from fastnorm.footprint import is_same

NAN_POLICY = "zero before the statistics, zero after the division"
MASK_POLICY = "masked pixels leave the statistics, and are normalised like all others"
EPS = 1e-8


class SpecMismatchError(ValueError):
    """Two artefacts have different preprocessing."""


@dataclass(frozen=True)
class PreprocessSpec:
    """The preprocessing of raw cutouts in nanomaggies, with every default resolved.

    Specs with the same meaning are equal, however they were written: None and (20, 32), 45 and
    45.0, or any ``crop_size`` without a crop.

    Attributes
    ----------
    mode : {"raw_robust", "residual_radial_profile"}
        Mode of `dhs.preprocess.preprocess_stack`.
    crop : bool
        Crop the centre first.
    crop_size : int or None
        Side of the crop in pixels. With ``crop``, None and 0 mean 64, and -1 means no crop, as
        in the files of the published models.
    clip_range : float
        Limit of the absolute normalised values.
    annulus_r_in, annulus_r_out : float
        Radii in pixels. If both are None, or 0 as in configurations, they are the legacy (20, 32).
    eps : float
        Constant added to the MAD.
    nan_policy, mask_policy : str
        Treatment of NaN and of masked pixels.
    bands : tuple of str
        Bands, in the order of the channels.
    flux_unit : str
        Unit of the raw pixels.
    pixel_scale : float
        Pixel scale in arcsec per pixel.
    definition_version : int
        Version of the definition of the normalisation.

    Raises
    ------
    TypeError, ValueError
        A value is invalid or not supported by this version, or one radius is given without the
        other.
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
            raise ValueError(f"mode={self.mode!r} is not known; use one of {allowed}.")
        self._resolve_crop()
        annulus = resolve_annulus(self.annulus_r_in, self.annulus_r_out)
        self._set(annulus_r_in=annulus.r_in, annulus_r_out=annulus.r_out, bands=tuple(self.bands))
        for name, usual in (("clip_range", 10), ("pixel_scale", PIXEL_SCALE), ("eps", EPS)):
            value = _number(name, getattr(self, name))
            if not 0 < value < math.inf:
                raise ValueError(
                    f"{name}={value!r} must be above 0 and finite; models expect {usual}."
                )
            self._set(**{name: value})
        for name, only in _ONLY.items():
            if getattr(self, name) != only:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} is not supported; this version has only "
                    f"{only!r}. Use the version of dhs that wrote the artefact."
                )

    def _resolve_crop(self) -> None:
        if not isinstance(self.crop, bool):
            raise TypeError(f"crop={self.crop!r} must be True or False.")
        size = self.crop_size
        is_size = isinstance(size, int) and not isinstance(size, bool) and size >= NO_CROP
        if size is not None and not is_size:
            raise ValueError(
                f"crop_size={size!r} must be None or a side in pixels, such as 64; "
                f"{NO_CROP} means no crop."
            )
        crop = self.crop and size != NO_CROP
        self._set(crop=crop, crop_size=(size or STAMP_SIZE) if crop else None)

    def _set(self, **values: object) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> PreprocessSpec:
        """Rebuild a spec from the result of `to_dict`, or from the subset in older artefacts.

        Raises
        ------
        TypeError, ValueError
            A key is unknown, or a value is invalid.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ValueError(
                f"the preprocessing has the unknown keys {', '.join(unknown)}; either a newer "
                "version of dhs wrote it, or it is not a preprocessing specification."
            )
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Return every field, with defaults resolved, as plain values for JSON."""
        return asdict(self) | {"bands": list(self.bands)}

    @property
    def fingerprint(self) -> str:
        """The sha256 of `to_dict` as canonical JSON, in hexadecimal."""
        text = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def annulus(self) -> Annulus:
        """Annulus of the normalisation."""
        assert self.annulus_r_in is not None
        assert self.annulus_r_out is not None
        return Annulus(self.annulus_r_in, self.annulus_r_out)

    def side(self, size: int = CUTOUT_SIZE) -> int:
        """Return the side of the normalised images in pixels, for cutouts of side ``size``."""
        return size if self.crop_size is None else self.crop_size

    def is_inside_galaxy(self, size: int = CUTOUT_SIZE) -> bool:
        """Return whether the annulus lies inside the galaxy, for cutouts of side ``size``."""
        side = self.side(size)
        return self.annulus.is_inside_galaxy(side, side)

    def annulus_status(self, size: int = CUTOUT_SIZE) -> str:
        """Describe the annulus (corrected, legacy or other) and its place on the cutouts."""
        side = self.side(size)
        place = "inside the galaxy" if self.is_inside_galaxy(size) else "on the sky"
        name = "other"
        if self.annulus == LEGACY_ANNULUS:
            name = "legacy"
        elif self.annulus == Annulus.default(side, side):
            name = "corrected"
        return f"{name}, {place}"

    def preprocess_keywords(self) -> dict[str, Any]:
        """Return the keywords of `dhs.preprocess.preprocess_stack` except the image."""
        names = ("mode", "crop", "crop_size", "clip_range", "annulus_r_in", "annulus_r_out")
        return {name: getattr(self, name) for name in names}

    def differences(self, other: PreprocessSpec) -> list[str]:
        """Return the fields that differ, each as ``name ours against theirs``, sorted by name.

        Radii that differ by rounding, or select the same pixels, do not differ.
        """
        mine, its = self.to_dict(), other.to_dict()
        names = set(mine)
        if is_same(self.annulus, other.annulus):
            names -= {"annulus_r_in", "annulus_r_out"}
        return [
            f"{key} {mine[key]} against {its[key]}"
            for key in sorted(names)
            if mine[key] != its[key]
        ]

    def has_radii(self, r_in: object, r_out: object) -> bool:
        """Return whether two radii in pixels, as a file states them, are those of this annulus."""
        try:
            return is_same(self.annulus, Annulus(r_in, r_out))  # type: ignore[arg-type]
        except (TypeError, ValueError):
            return False

    def require_same(self, other: PreprocessSpec, ours: str, theirs: str, hint: str = "") -> None:
        """Refuse to combine two artefacts with different preprocessing.

        Parameters
        ----------
        other : PreprocessSpec
            Preprocessing of the other artefact.
        ours, theirs : str
            Names of the two artefacts, for the message.
        hint : str
            A sentence on what else the user can do.

        Raises
        ------
        SpecMismatchError
            The preprocessing differs; the message names both artefacts and the differences.
        """
        differ = self.differences(other)
        if differ:
            raise SpecMismatchError(
                f"{ours} and {theirs} have different preprocessing "
                f"({'; '.join(differ)}); the two must never be mixed. Create one of them again."
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
"""Fields recorded for later versions; this version supports one value of each."""


def resolve_annulus(r_in: float | None, r_out: float | None) -> Annulus:
    """Return the annulus of two radii in pixels, or the legacy one if both are None or 0.

    Raises
    ------
    TypeError, ValueError
        One radius is given without the other, or the radii are not a valid annulus.
    """
    names = ("annulus_r_in", "annulus_r_out")
    return Annulus.given_or(r_in, r_out, lambda: LEGACY_ANNULUS, names, missing=(None, 0))


def _number(name: str, value: object) -> float:
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise TypeError(f"{name}={value!r} is not a number.")
    return float(value)
