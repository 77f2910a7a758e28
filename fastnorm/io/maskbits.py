"""Which pixels of a Legacy Surveys image are bad: the bits of MASKBITS, by name.

Numbers and names are those of the survey's pages "bitmasks" of each release,
https://www.legacysurvey.org/dr10/bitmasks/ and so on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnorm.io.cutout import BANDS

_DR8 = (
    *("NPRIMARY", "BRIGHT", "SATUR_G", "SATUR_R", "SATUR_Z", "ALLMASK_G", "ALLMASK_R", "ALLMASK_Z"),
    *("WISEM1", "WISEM2", "BAILOUT", "MEDIUM", "GALAXY", "CLUSTER"),
)

RELEASES = {"dr8": _DR8, "dr9": _DR8, "dr10": (*_DR8, "SATUR_I", "ALLMASK_I")}
"""Names of the bits of every release, bit 0 first."""

DEFAULT_NAMES = (
    *("BRIGHT", "MEDIUM", "CLUSTER"),
    *("SATUR_G", "SATUR_R", "SATUR_Z", "ALLMASK_G", "ALLMASK_R", "ALLMASK_Z"),
)
"""Light of stars and clusters, and pixels without a good value.

NPRIMARY only says that a neighbouring brick owns the pixel: its value is good. GALAXY marks large
galaxies, which are what lenses are: masked, nothing would be left. BAILOUT is about the survey's
catalogue, and WISEM1 and WISEM2 about other images.
"""


@dataclass(frozen=True)
class MaskBits:
    """The bits that make a pixel bad.

    Attributes
    ----------
    release : {"dr10", "dr9", "dr8"}
        Whose names and numbers count.
    names : tuple of str
        ``SATUR_G`` and the like make a pixel bad in their band, all others in every band.

    Raises
    ------
    ValueError
        The release, or a name in it, is not known.
    """

    release: str = "dr10"
    names: tuple[str, ...] = DEFAULT_NAMES

    def __post_init__(self) -> None:
        if self.release not in RELEASES:
            raise ValueError(
                f"release={self.release!r} is not known; allowed are {', '.join(RELEASES)}."
            )
        there = RELEASES[self.release]
        unknown = [name for name in self.names if name not in there]
        if unknown:
            raise ValueError(
                f"MASKBITS of {self.release} have no {', '.join(map(repr, unknown))}; allowed are "
                f"{', '.join(there)}."
            )
        # One order, so that the same choice is equal and reads the same.
        object.__setattr__(self, "names", tuple(name for name in there if name in self.names))

    @classmethod
    def parse(cls, text: str) -> MaskBits:
        """Read what `str` writes, ``"dr10:BRIGHT,MEDIUM"``; a release alone has `DEFAULT_NAMES`.

        Raises
        ------
        ValueError
            As of the class.
        """
        release, colon, names = text.partition(":")
        if not colon and "," in text:
            raise ValueError(
                f"mask_bits={text!r} names no release; write dr10:{text.strip()}, with the release "
                "of the images."
            )
        chosen = tuple(name.strip().upper() for name in names.split(",") if name.strip())
        return cls(release.strip().lower(), chosen if colon else DEFAULT_NAMES)

    def __str__(self) -> str:
        return f"{self.release}:{','.join(self.names)}"

    def mask(self, maskbits: NDArray[Any]) -> NDArray[np.bool_]:
        """Which pixels are bad in g, r and z.

        Parameters
        ----------
        maskbits : (H, W) integers

        Returns
        -------
        (3, H, W) bool

        Raises
        ------
        ValueError
            They are no integers.
        """
        if maskbits.dtype.kind not in "iu":
            raise ValueError(f"maskbits has dtype {maskbits.dtype}; allowed are integers.")
        bits = maskbits.astype(np.int64)
        return np.stack([(bits & self._bad_in(band)) != 0 for band in BANDS])

    def _bad_in(self, band: str) -> int:
        there = RELEASES[self.release]
        return sum(1 << there.index(name) for name in self.names if _is_about(name, band))


def _is_about(name: str, band: str) -> bool:
    kind, _, of = name.partition("_")
    return kind not in ("SATUR", "ALLMASK") or of == band.upper()
