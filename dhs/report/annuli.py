"""Sections that compare the two annuli: normalised cutouts, and the galaxy light in each."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dhs.audit.artefact_checks import reason_of
from dhs.audit.artefacts import Document
from dhs.constants import BANDS, CUTOUT_SIZE
from dhs.pack.view import open_pack
from dhs.preprocess.annulus_light import DISC_SCALE, light_share
from dhs.report.parts import (
    Block,
    Section,
    heading,
    note,
    table,
    text,
    unreadable,
)
from dhs.report.pixels import coloured
from dhs.report.style import chart, figure, key_entry, line_style, number
from fastnorm import LEGACY_ANNULUS, Annulus, AnnulusWarning
from fastnorm.annulus import MINIMUM_PIXELS, radius_map
from fastnorm.figure import LINEAR_IN_MAD, RANGE_IN_MAD
from fastnorm.io import Rejected
from fastnorm.normalize import annulus_median_mad, normalize_outer_annulus

SAYS = (
    "The two galaxies with the brightest centres, in the r band, raw and normalised. Where a "
    "galaxy reaches into the legacy annulus, its light is taken for sky. Either annulus may "
    "contain neighbours."
)
LIGHT_SAYS = (
    "How much of a galaxy's light each annulus contains, and takes for sky. The larger the "
    "galaxy, the more light it is."
)
SHOWN, LOOKED_AT = 2, 200
SIMULATED = "simulated for this report, seed 1"
SCALES = np.arange(2.0, 20.25, 0.5)
R = BANDS.index("r")


class Shown(NamedTuple):
    """Galaxies to draw: their origin, their names, and pixels (n, 3, H, W) float32."""

    origin: str
    names: list[str]
    images: NDArray[np.float32]


def choose_galaxies(
    packs: Sequence[Document], rejected: list[Rejected]
) -> tuple[Shown, list[Block]]:
    """Choose the two brightest galaxies of the first usable pack, or simulated ones.

    Returns
    -------
    shown : Shown
    notices : list of Block
        Packs that cannot be used, with the reason.
    """
    notices = []
    for pack in packs:
        try:
            found = _of_pack(pack)
        except Exception as error:
            rejected.append(Rejected(pack.path, reason_of(error)))
            notices.append(unreadable(rejected[-1]))
            continue
        if found is not None:
            return found, notices
        notices.append(note(f"{pack.path}: its cutouts are too small for the legacy annulus."))
    return _simulated(), notices


def section(shown: Shown, notices: list[Block]) -> Section:
    """Return the section with images and statistics under both annuli."""
    result = Section("annuli", "The annulus, before and after", SAYS)
    result.blocks += [text(f"The galaxies are {shown.origin}."), *notices]
    for name, image in zip(shown.names, shown.images, strict=True):
        result.blocks += [
            heading(name),
            Block("annuli", {"panels": _panels(name, image)}),
            _statistics(name, image),
        ]
    return result


def light_section(shown: Shown) -> Section:
    """Return the section with the light of discs of all sizes and of the galaxies shown."""
    result = Section("light", "Galaxy light in the annuli", LIGHT_SAYS)
    drawn = figure(
        {"title": "scale length of an exponential disc (px)", "rangemode": "tozero"},
        {"title": "fraction of its light", "tickformat": ".0%", "rangemode": "tozero"},
    )
    rows = []
    for k, (name, annulus) in enumerate(_annuli(CUTOUT_SIZE)):
        shares = [light_share(annulus, CUTOUT_SIZE, scale) for scale in SCALES.tolist()]
        drawn.add_scatter(
            x=SCALES.tolist(),
            y=shares,
            mode="lines",
            line=line_style(1 - k),
            hovertemplate=f"scale %{{x}} px: %{{y:.1%}}<extra>{name}</extra>",
        )
        rows.append(
            [name, *[f"{light_share(annulus, CUTOUT_SIZE, s):.1%}" for s in (4, 8, 12, 16)]]
        )
    drawn.add_vline(x=DISC_SCALE, line={"color": "#8a8a8a", "width": 1, "dash": "dot"})
    legacy, corrected = (light_share(a, CUTOUT_SIZE) for _, a in _annuli(CUTOUT_SIZE))
    result.blocks += [
        chart(
            "light-share",
            drawn,
            "Fraction of the light of exponential discs in both annuli, against their scale length",
            f"For a disc of scale length {DISC_SCALE:g} px (dotted line), the legacy annulus "
            f"contains {legacy:.1%} of the light on the cutout, and the corrected one "
            f"{corrected:.1%}.",
            legend=[key_entry(name, 1 - k) for k, (name, _) in enumerate(_annuli(CUTOUT_SIZE))],
        ),
        table(
            "Fraction of the light of a disc, by scale length",
            ["annulus", "4 px", "8 px", "12 px", "16 px"],
            rows,
        ),
        table(
            f"The galaxies above, {shown.origin}: flux in the annulus as a fraction of the flux "
            "on the cutout, r band, neighbours included",
            ["galaxy", "legacy", "corrected"],
            [
                [name, *_shares(image)]
                for name, image in zip(shown.names, shown.images, strict=True)
            ],
        ),
    ]
    return result


def _annuli(size: int) -> list[tuple[str, Annulus]]:
    corrected = Annulus.default(size, size)
    return [
        (f"{name} annulus ({annulus.r_in:g}, {annulus.r_out:g}) px", annulus)
        for name, annulus in (("legacy", LEGACY_ANNULUS), ("corrected", corrected))
    ]


def _of_pack(document: Document) -> Shown | None:
    """Return the brightest central galaxies of a sample of rows; None if cutouts are too small."""
    pack = open_pack(document.path)
    height, width = pack.cutout_shape[1:]
    if LEGACY_ANNULUS.pixel_count(height, width) < MINIMUM_PIXELS or height != width:
        return None
    rows = np.unique(np.linspace(0, len(pack) - 1, min(LOOKED_AT, len(pack))).astype(int))
    images = [pack.shards[pack.shard_index[row]][pack.row[row]] for row in rows]
    centre = radius_map(height, width) < LEGACY_ANNULUS.r_in
    light = np.array(
        [np.nan_to_num(image[R][centre], posinf=0, neginf=0).sum() for image in images]
    )
    best = np.argsort(-light, kind="stable")[:SHOWN]
    names = [str(pack.table["galaxy_id"].iloc[row]) for row in rows[best]]
    origin = f"from {document.path}, data: {pack.data_origin}"
    return Shown(origin, names, np.stack([np.array(images[k]) for k in best]))


@cache
def _simulated() -> Shown:
    from dhs.simulate.images import simulate_cutouts

    result = simulate_cutouts(range(8), 1)
    best = sorted(range(len(result.rows)), key=lambda k: float(result.rows[k]["host_r_mag"]))[
        :SHOWN
    ]
    names = [str(result.rows[k]["galaxy_id"]) for k in best]
    return Shown(
        f"{SIMULATED}, because no usable pack of cutouts was found",
        names,
        result.images[best],
    )


def _panels(name: str, image: NDArray[np.float32]) -> list[dict[str, Any]]:
    """Return a raw image and one normalised under each annulus; the page draws the circles."""
    height, width = image.shape[1:]
    annuli = _annuli(min(height, width))
    circles = [
        {"kind": kind, "radius": radius}
        for kind, (_, annulus) in zip(("legacy", "corrected"), annuli, strict=True)
        for radius in (annulus.r_in, annulus.r_out)
    ]
    plane = image[R]
    noise = float(_median_mad(image, annuli[1][1])[1][R]) or 1.0
    low, high = (level * noise for level in RANGE_IN_MAD)
    raw = coloured(plane, low, high, LINEAR_IN_MAD * noise, "gray")
    panels = [(raw, "raw, r band", f"{name}, r band, raw, with both annuli drawn", circles)]
    for kind, (said, annulus) in zip(("legacy", "corrected"), annuli, strict=True):
        with warnings.catch_warnings():
            # The legacy annulus is shown on purpose.
            warnings.simplefilter("ignore", AnnulusWarning)
            normalised = normalize_outer_annulus(plane, annulus.r_in, annulus.r_out)
        panels.append(
            (
                coloured(np.asarray(normalised), *RANGE_IN_MAD, LINEAR_IN_MAD, "inferno"),
                f"under the {said}",
                f"{name}, r band, normalised under the {said}",
                [circle for circle in circles if circle["kind"] == kind],
            )
        )
    return [
        {
            "uri": uri,
            "caption": caption,
            "alt": alt,
            "circles": drawn,
            "size": (width, height),
            "centre": (width // 2 + 0.5, height - height // 2 - 0.5),
        }
        for uri, caption, alt, drawn in panels
    ]


def _median_mad(
    image: NDArray[np.float32], annulus: Annulus
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AnnulusWarning)
        median, mad = annulus_median_mad(image, annulus.r_in, annulus.r_out)
    return median, mad


def _statistics(name: str, image: NDArray[np.float32]) -> Block:
    (_, legacy), (_, corrected) = _annuli(min(image.shape[1:]))
    before, after = (_median_mad(image, annulus) for annulus in (legacy, corrected))
    rows = []
    for k, band in enumerate(BANDS):
        values = [float(values[k]) for values in (*before, *after)]
        shift = (values[0] - values[2]) / values[3] if values[3] else None
        rows.append([band, *[number(value * 1e3, 2) for value in values], number(shift, 2)])
    return table(
        f"{name}: median and MAD in both annuli, in 10⁻³ nanomaggies; shift of the median, legacy "
        "minus corrected, in MADs of the corrected annulus",
        ["band", "legacy median", "legacy MAD", "corrected median", "corrected MAD", "shift"],
        rows,
    )


def _shares(image: NDArray[np.float32]) -> list[str]:
    plane = np.nan_to_num(image[R].astype(np.float64), posinf=0, neginf=0)
    total = plane.sum()
    masks = [annulus.mask(*plane.shape) for _, annulus in _annuli(min(plane.shape))]
    return [f"{plane[mask].sum() / total:.1%}" if total > 0 else "\N{EN DASH}" for mask in masks]
