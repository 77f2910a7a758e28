"""Warnings of astropy about FITS files: which of them mean damage, and one notice of the others."""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastnorm.annulus import frames_to_caller
from fastnorm.io.cutout import CutoutError, CutoutWarning
from fastnorm.text import one_line

_COORDINATES = (
    r"(WCSAXES|CTYPE|CUNIT|CRPIX|CRVAL|CDELT|CROTA|CD\d|PC\d|PV\d|PS\d|LONPOLE|LATPOLE|EQUINOX"
    r"|EPOCH|RADESYS|RADECSYS)\w*"
)
_USED = rf"({_COORDINATES}|RA|DEC|BANDS?|BAND\d|BUNIT|EXTNAME|IMAGETYP|BSCALE|BZERO|BLANK|ANNRIN)"
DAMAGE = (
    r"File may have been truncated",
    r"(Checksum|Datasum) verification failed",
    # The HDU, and all that follow it, would be missing.
    r"Error validating header for HDU",
    r"An exception occurred matching an HDU header",
    r"Found a SIMPLE card but its format",
    r"The HDU will be treated as corrupted",
    r"Invalid value for 'BLANK'",
    r"Polynomial distortion is not implemented",
    rf"(?s){_COORDINATES} *=.*(expected|invalid)",
    rf"Card '{_USED}' is not FITS standard \(invalid value",
    rf"(?s)The following header keyword is invalid.*:\s+{_USED}\s",
)
"""Patterns of the warnings after which pixels, masks or coordinates may be wrong."""

MOST_REMARKS = 3
# astropy begins and ends its lists of faults with these.
_NO_REMARKS = ("Verification reported errors", "HDU ", "Note: astropy.io.fits")
_one_at_a_time = threading.RLock()


@contextmanager
def damage_only(path: Path, is_quiet: bool = False) -> Iterator[None]:
    """Raise the warnings of astropy that mean damage, and join the others to one `CutoutWarning`.

    Parameters
    ----------
    path : Path
        The FITS file, which the notice names.
    is_quiet : bool
        Whether to give no notice.

    Raises
    ------
    AstropyWarning
        Pixels, masks or coordinates may be wrong.
    RuntimeWarning
        NumPy warned when astropy computed with odd header values.
    """
    from astropy.utils.exceptions import AstropyDeprecationWarning, AstropyWarning

    # Warning filters are global to the process, hence the lock.
    with _one_at_a_time:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", AstropyWarning)
            warnings.simplefilter("error", RuntimeWarning)
            for pattern in DAMAGE:
                warnings.filterwarnings("error", pattern, AstropyWarning)
            yield
        remarks: dict[str, None] = {}
        for found in caught:
            if issubclass(found.category, AstropyDeprecationWarning):
                continue
            text = one_line(str(found.message)).strip()
            if issubclass(found.category, AstropyWarning):
                remarks |= {} if text.startswith(_NO_REMARKS) else {text: None}
            elif isinstance(found.message, Warning):
                warnings.warn_explicit(found.message, None, found.filename, found.lineno)
    if remarks and not is_quiet:
        more = f"; and {len(remarks) - MOST_REMARKS} more" if len(remarks) > MOST_REMARKS else ""
        said = "; ".join(list(remarks)[:MOST_REMARKS])
        text = f"{said}{more} (neither pixels nor coordinates are affected)"
        warnings.warn(CutoutWarning(path, text), stacklevel=frames_to_caller())


def check_headers(path: Path, units: Any) -> None:
    """Reject headers that lost cards that are used here.

    Parameters
    ----------
    path : Path
        The file.
    units : astropy.io.fits.HDUList
        The open file.

    Raises
    ------
    CutoutError
        A header has no END, or the name or the text of a card that is used here is damaged.
    """
    for number, unit in enumerate(units):
        names = list(unit.header)
        if "XTENSION" in names[1:]:
            reason = f"the header of HDU {number} continues with another header: its END is lost."
            raise CutoutError(path, reason)
        for name in names:
            # astropy puts this in the place of a byte that is not ASCII.
            if "?" in name or (re.fullmatch(_USED, name) and "?" in str(unit.header[name])):
                reason = f"HDU {number} has the card {name!r}, which has a character that is lost."
                raise CutoutError(path, reason)


def legible(path: Path, header: Any) -> Any:
    """Return a copy of a header without the cards that astropy cannot write.

    Parameters
    ----------
    path : Path
        The file.
    header : astropy.io.fits.Header
        Header of one of its HDUs.

    Returns
    -------
    astropy.io.fits.Header

    Raises
    ------
    CutoutError
        Such a card is used here.
    """
    from astropy.utils.exceptions import AstropyUserWarning

    copy = header.copy()
    for k in reversed(range(len(copy))):
        card = copy.cards[k]
        try:
            str(card)
        except ValueError:
            if re.fullmatch(_USED, card.keyword):
                raise CutoutError(
                    path, f"is damaged: its card {card.keyword} has control characters."
                ) from None
            warnings.warn(
                AstropyUserWarning(
                    f"the card {card.keyword} has control characters and is left out"
                ),
                stacklevel=2,
            )
            del copy[k]
    return copy
