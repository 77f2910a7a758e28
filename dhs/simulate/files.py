"""Files of a simulated survey: shards of cutouts, their rows, and a manifest.

A folder contains ``shard-00000.npy``, ... with 1,000 cutouts each, (N, 3, 101, 101) float32 in
nanomaggies with bands g, r, z; ``manifest.parquet`` with one row per cutout, in the same order;
and ``picture.png``. The key ``dhs`` of the manifest's schema records the settings and
``data_origin``. During a simulation, ``parts/`` contains the rows of the finished shards.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
from pyarrow import parquet

import fastnorm
from dhs.arguments import integer
from dhs.constants import BANDS, CUTOUT_SIZE, PIXEL_SCALE
from dhs.manifest.claim import claim_folder
from dhs.manifest.format import MANIFEST, METADATA_KEY
from dhs.manifest.splits import assign_splits
from dhs.pack.format import FLUX_UNIT, MOST_SHARDS, open_stack, part_path, pixel_sha256, shard_name
from dhs.simulate.config import SurveyConfig
from dhs.simulate.images import (
    DATA_ORIGIN,
    LENS_COLUMNS,
    SOURCE_COLUMNS,
    check_settings,
    simulate_cutouts,
)
from fastnorm.atomic import atomic_path
from fastnorm.io.write import StackWriter

CUTOUTS_PER_SHARD = 1000
CUTOUTS_PER_BATCH = 50
PICTURE = "picture.png"

_TEXT, _REAL = pyarrow.string(), pyarrow.float64()
SCHEMA = pyarrow.schema(
    {
        "shard": _TEXT,
        "row": pyarrow.int32(),
        "sha256": _TEXT,
        "galaxy_id": _TEXT,
        "label": pyarrow.int8(),
        "tier": _TEXT,
        "split": _TEXT,
    }
    | {f"{name}_{band}": _REAL for name in ("psfsize", "psfdepth") for band in BANDS}
    | {"host_type": _TEXT}
    | {
        f"host_{name}": _REAL
        for name in (
            *("r_mag", "g_minus_r", "r_minus_z", "re_arcsec", "n_sersic", "q", "phi_rad"),
            *("x_arcsec", "y_arcsec", "bulge_fraction", "arm_contrast"),
        )
    }
    | {"n_neighbours": pyarrow.int32(), "n_stars": pyarrow.int32()}
    | dict.fromkeys(LENS_COLUMNS, _REAL)
    | {"source_r_mag": _REAL}
    | {f"source_{name}": _REAL for name in SOURCE_COLUMNS}
    | {"magnification": _REAL, "arc_snr_r": _REAL}
)
"""Columns of a manifest.

``psfsize_BAND``: FWHM of the PSF, arcsec. ``psfdepth_BAND``: inverse variance of the flux of a
point source, nanomaggies^-2. ``sha256``: SHA-256 of the cutout's little-endian bytes. ``split``:
result of `dhs.manifest.splits.assign_splits`, so an evaluation on a survey excludes what was
trained on it. The columns of lens and source, ``magnification`` and ``arc_snr_r`` are null without
an arc. For a spiral, ``host_re_arcsec``, ``host_n_sersic`` and ``host_q`` describe the disc.
"""


@dataclass(frozen=True)
class SurveySettings:
    """Settings that determine a survey; equal settings give identical files.

    Attributes
    ----------
    n : int
        Number of cutouts, at least 1. There can be at most 100,000 shards, because their names
        have five digits.
    seed : int
        Random seed, in [0, 2**63 - 1].
    lens_fraction : float
        Probability of an arc, in [0, 1].
    config : SurveyConfig
        Settings of the sky.
    per_shard : int
        Number of cutouts per shard.

    Raises
    ------
    TypeError, ValueError
        A number is out of its range.
    """

    n: int
    seed: int
    lens_fraction: float
    config: SurveyConfig
    per_shard: int

    def __post_init__(self) -> None:
        integer("n", self.n, 1, MOST_SHARDS * self.per_shard)
        check_settings(self.seed, self.lens_fraction)

    def metadata(self) -> dict[str, Any]:
        """Return the metadata of the manifest."""
        return {
            "data_origin": DATA_ORIGIN,
            "n": self.n,
            "seed": self.seed,
            "lens_fraction": float(self.lens_fraction),
            "cutouts_per_shard": self.per_shard,
            "config": self.config.resolved(),
            "config_sha256": self.config.sha256(),
            "package_version": fastnorm.__version__,
            "bands": list(BANDS),
            "flux_unit": FLUX_UNIT,
            "pixel_scale": PIXEL_SCALE,
        }

    def schema(self) -> pyarrow.Schema:
        """Return the schema of the manifest, with its metadata."""
        text = json.dumps(self.metadata(), sort_keys=True, allow_nan=False)
        return SCHEMA.with_metadata({METADATA_KEY: text})

    def shards(self) -> list[str]:
        """Return the file names of all shards."""
        return [shard_name(i) for i in range(-(-self.n // self.per_shard))]

    def numbers(self, shard: int) -> range:
        """Return the numbers of the cutouts in a shard."""
        return range(shard * self.per_shard, min((shard + 1) * self.per_shard, self.n))


def make_shard(
    out: Path, settings: SurveySettings, shard: int, advance: Callable[[int], None]
) -> None:
    """Write one shard, then its rows, which mark the shard as finished.

    Parameters
    ----------
    out : Path
        Folder of the survey.
    settings : SurveySettings
        Settings of the survey.
    shard : int
        Number of the shard.
    advance : function
        Called with the number of cutouts done since the last call.
    """
    name = settings.shards()[shard]
    rows: list[dict[str, Any]] = []
    numbers = settings.numbers(shard)
    with StackWriter(out / name, (CUTOUT_SIZE, CUTOUT_SIZE)) as stack:
        for start in range(0, len(numbers), CUTOUTS_PER_BATCH):
            batch = numbers[start : start + CUTOUTS_PER_BATCH]
            result = simulate_cutouts(batch, settings.seed, settings.lens_fraction, settings.config)
            stack.write(result.images)
            for k, (image, row) in enumerate(zip(result.images, result.rows, strict=True)):
                place = {"shard": name, "row": start + k, "sha256": pixel_sha256(image)}
                rows.append(place | row)
            advance(len(batch))
    splits = assign_splits([row["galaxy_id"] for row in rows], None, None).tolist()
    rows = [row | {"split": split} for row, split in zip(rows, splits, strict=True)]
    with atomic_path(part_path(out, name)) as temporary:
        parquet.write_table(pyarrow.Table.from_pylist(rows, settings.schema()), temporary)


def check_folder(out: Path, settings: SurveySettings) -> bool:
    """Check that a folder is empty or a survey with these settings; tell whether it is complete."""
    if not claim_folder(out, settings.metadata(), "simulated survey"):
        return False
    damaged = [name for i, name in enumerate(settings.shards()) if not _is_whole(out, settings, i)]
    if damaged or not (out / PICTURE).exists():
        raise ValueError(
            f"{out} was complete, but {', '.join(damaged[:3]) or PICTURE} is missing or has a "
            "different size now; delete the folder and simulate it again."
        )
    return True


def _is_whole(out: Path, settings: SurveySettings, shard: int) -> bool:
    path = out / settings.shards()[shard]
    shape = (len(settings.numbers(shard)), len(BANDS), CUTOUT_SIZE, CUTOUT_SIZE)
    try:
        return open_stack(path, "<f4").shape == shape
    except (OSError, ValueError):
        return False


def missing_shards(out: Path, settings: SurveySettings) -> list[int]:
    """Return the numbers of the shards that are not finished."""
    return [
        i
        for i, name in enumerate(settings.shards())
        if not part_path(out, name).exists() or not _is_whole(out, settings, i)
    ]


def finish(out: Path, settings: SurveySettings) -> None:
    """Draw the figure, then write the manifest, which completes the folder."""
    from dhs.simulate.figure import MOST_DRAWN, draw_survey

    names = settings.shards()
    table = pyarrow.concat_tables(
        [parquet.read_table(part_path(out, name), schema=settings.schema()) for name in names]
    )
    first = open_stack(out / names[0], "<f4")[:MOST_DRAWN]
    tiers = table["tier"][: len(first)].to_pylist()
    which = f"the first {len(first)} of {settings.n:,}" if len(first) < settings.n else settings.n
    title = f"Simulated survey, seed {settings.seed}: {which} cutouts"
    draw_survey(first, tiers, title, out / PICTURE)
    with atomic_path(out / MANIFEST) as temporary:
        parquet.write_table(table.combine_chunks(), temporary)
