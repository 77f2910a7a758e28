"""Requests to the Legacy Surveys' cutout service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from dhs.arguments import integer
from dhs.constants import BANDS, CUTOUT_SIZE, PIXEL_SCALE
from dhs.pack.format import FLUX_UNIT

URL = "https://www.legacysurvey.org/viewer/fits-cutout"
ORIGINS = {
    "ls-dr9": "legacysurvey-dr9",
    "ls-dr10": "legacysurvey-dr10",
    "ls-dr11": "legacysurvey-dr11",
}
MOST_PIXELS = 3000
"""Largest side of a cutout that the service returns, pixels."""


@dataclass(frozen=True)
class Service:
    """Address and settings of the requests.

    Attributes
    ----------
    url : str
        Address of the service, without query parameters.
    layer : str
        A key of `ORIGINS`.
    size : int
        Side of the cutouts, in pixels of 0.262 arcsec.
    images_only : bool
        Whether to omit INVVAR and MASKBITS.

    Raises
    ------
    TypeError, ValueError
        A value is not allowed.
    """

    url: str = URL
    layer: str = "ls-dr10"
    size: int = CUTOUT_SIZE
    images_only: bool = False

    def __post_init__(self) -> None:
        if self.layer not in ORIGINS:
            raise ValueError(
                f"layer={self.layer!r} is not allowed: it must be one of {', '.join(ORIGINS)}."
            )
        integer("size", self.size, 1, MOST_PIXELS)
        try:
            parts = parse_url(self.url)
        except LocationParseError as error:
            raise ValueError(f"url={self.url!r} is not a valid address ({error}).") from error
        if parts.scheme not in ("http", "https") or not parts.host or parts.auth or parts.fragment:
            raise ValueError(
                f"url={self.url!r} is not allowed: it must be http or https with a host, without "
                f"a password or a fragment, like {URL}."
            )

    def address(self, ra: float, dec: float) -> str:
        """Return the address of the cutout at a position in degrees."""
        join = "&" if "?" in self.url else "?"
        planes = "" if self.images_only else "&invvar&maskbits"
        return (
            f"{self.url}{join}ra={float(ra)!r}&dec={float(dec)!r}&layer={self.layer}"
            f"&pixscale={PIXEL_SCALE}&bands={''.join(BANDS)}&size={self.size}{planes}"
        )

    @property
    def most_bytes(self) -> int:
        """Return twice the size of a cutout with inverse variance and 8-byte maskbits, bytes."""
        return 2 * (4 * 3 + 4 * 3 + 8) * self.size**2 + 2**18

    def settings(self) -> dict[str, Any]:
        """Return the settings shared by all cutouts of a folder, for the manifest's metadata."""
        return {
            "data_origin": ORIGINS[self.layer],
            "layer": self.layer,
            "size": int(self.size),
            "images_only": bool(self.images_only),
            "bands": list(BANDS),
            "flux_unit": FLUX_UNIT,
            "pixel_scale": PIXEL_SCALE,
        }
