"""Bad pixels of Legacy Surveys images: the bits of MASKBITS, by name.

Bit numbers and names are from the "bitmasks" page of each release, for example
https://www.legacysurvey.org/dr10/bitmasks/.
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
"""Names of the bits of each release, bit 0 first."""

DEFAULT_NAMES = (
    *("BRIGHT", "MEDIUM", "CLUSTER"),
    *("SATUR_G", "SATUR_R", "SATUR_Z", "ALLMASK_G", "ALLMASK_R", "ALLMASK_Z"),
)
"""Default bits: light of stars and clusters, and pixels without a good value.

Not included are NPRIMARY, since the value of a pixel in a neighbouring brick is good; GALAXY, since
lenses are large galaxies and would be masked entirely; BAILOUT, which concerns the survey's
catalogue; and WISEM1 and WISEM2, which concern other images.
"""


@dataclass(frozen=True)
class MaskBits:
    """The bits that make a pixel bad.

    Attributes
    ----------
    release : {"dr10", "dr9", "dr8"}
        Release that defines the names and numbers.
    names : tuple of str
        Bits that make a pixel bad. ``SATUR_*`` and ``ALLMASK_*`` apply to their band, all others
        to every band.

    Raises
    ------
    ValueError
        The release is not known, or has no bit of a given name.
    """

    release: str = "dr10"
    names: tuple[str, ...] = DEFAULT_NAMES

    def __post_init__(self) -> None:
        if self.release not in RELEASES:
            raise ValueError(
                f"release={self.release!r} is not known; expected one of {', '.join(RELEASES)}."
            )
        there = RELEASES[self.release]
        unknown = [name for name in self.names if name not in there]
        if unknown:
            raise ValueError(
                f"MASKBITS of {self.release} has no {', '.join(map(repr, unknown))}; expected "
                f"names from {', '.join(there)}."
            )
        # Use one order, so that equal choices compare equal and print the same.
        object.__setattr__(self, "names", tuple(name for name in there if name in self.names))

    @classmethod
    def parse(cls, text: str) -> MaskBits:
        """Parse ``"dr10:BRIGHT,MEDIUM"``, the format of `str`; a release alone has `DEFAULT_NAMES`.

        Raises
        ------
        ValueError
            ``text`` has no release, or its release or a name is not known.
        """
        release, colon, names = text.partition(":")
        if not colon and "," in text:
            raise ValueError(
                f"mask_bits={text!r} has no release; write dr10:{text.strip()}, with the release "
                "of the images."
            )
        chosen = tuple(name.strip().upper() for name in names.split(",") if name.strip())
        return cls(release.strip().lower(), chosen if colon else DEFAULT_NAMES)

    def __str__(self) -> str:
        return f"{self.release}:{','.join(self.names)}"

    def mask(self, maskbits: NDArray[Any]) -> NDArray[np.bool_]:
        """Return which pixels are bad in g, r and z.

        Parameters
        ----------
        maskbits : (H, W) integer array
            The HDU MASKBITS.

        Returns
        -------
        (3, H, W) bool
            True is bad.

        Raises
        ------
        ValueError
            ``maskbits`` does not have an integer dtype.
        """
        if maskbits.dtype.kind not in "iu":
            raise ValueError(f"maskbits has dtype {maskbits.dtype}; expected integers.")
        bits = maskbits.astype(np.int64)
        return np.stack([(bits & self._bad_in(band)) != 0 for band in BANDS])

    def _bad_in(self, band: str) -> int:
        there = RELEASES[self.release]
        return sum(1 << there.index(name) for name in self.names if _is_about(name, band))


def _is_about(name: str, band: str) -> bool:
    kind, _, of = name.partition("_")
    return kind not in ("SATUR", "ALLMASK") or of == band.upper()
