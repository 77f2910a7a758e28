"""Synthetic grid folders that look like those of finished runs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow
import torch
from numpy.typing import NDArray
from pyarrow import parquet
from torch import Tensor

from dhs.preprocess.spec import PreprocessSpec
from dhs.selection.completeness import selection_function
from dhs.selection.config import GridConfig
from dhs.selection.host_sums import Negatives
from dhs.statistics.thresholds import Threshold, find_thresholds

CORRECTED = PreprocessSpec(annulus_r_in=32.5, annulus_r_out=45)
LEGACY = PreprocessSpec()


@dataclass(frozen=True)
class Axes:
    """Start, stop and step of each axis of a grid."""

    theta_e: tuple[float, float, float] = (0.5, 2.5, 0.5)
    psf_fwhm: tuple[float, float, float] = (1.3, 1.3, 0.1)
    depth_5sig: tuple[float, float, float] = (22.5, 23.5, 1.0)


COARSE = Axes()
FULL = Axes((0.5, 3.0, 0.25), (0.9, 1.8, 0.15), (22.5, 24.5, 0.5))


def write_grid(
    folder: Path,
    *,
    axes: Axes = COARSE,
    per_cell: int = 60,
    edges: Sequence[float] = (23.0, 24.0, 25.0, 26.0),
    fpr_targets: Sequence[float] = (1e-2, 1e-3),
    thresholds: Sequence[float] = (),
    spec: PreprocessSpec = CORRECTED,
    name: str = "bottlenecked_resnet.safetensors",
    better: float = 0.0,
    noise_seed: int = 1,
    draws_seed: int = 0,
    origin: str = "simulated",
    failed: int = 3,
    no_hosts: Sequence[tuple[float, float]] = (),
    row_group: int = 128,
    hosts: int = 50,
    assumed: Mapping[str, float] = {},
) -> Path:
    """Write a grid of a network whose logit rises with theta_E, brightness, seeing and depth.

    ``better`` is added to the logits of bright injections. Grids with the same ``draws_seed``
    have the same injections.
    """
    spans = {
        axis: dict(zip(("start", "stop", "step"), getattr(axes, axis), strict=True))
        for axis in ("theta_e", "psf_fwhm", "depth_5sig")
    }
    config = GridConfig.model_validate(
        {
            "checkpoint": name,
            "out_dir": str(folder),
            "hosts": {"parquet_path": "survey", "data_origin": "", **assumed},
            "source_mag_bins": list(edges),
            "injections_per_cell": per_cell,
            "fpr_targets": list(fpr_targets),
            "thresholds": list(thresholds),
            "seed": draws_seed,
        }
        | spans
    )
    cells = config.cells()
    places = [k for k, (_, psf, depth) in enumerate(cells) if (psf, depth) not in no_hosts]
    table = _draw(cells, places, per_cell, config, draws_seed, hosts)
    noise = np.random.default_rng(noise_seed)
    logits = (
        2.5 * (table["theta_e"] - 1.3)
        + 1.5 * (24.8 - table["source_r_mag"])
        + 0.8 * (table["depth_5sig"] - 23)
        - 2.0 * (table["psf_fwhm"] - 1.3)
        + noise.logistic(0, 0.7, len(table))
        + better * (table["source_r_mag"] < 24.5)
    ).to_numpy(np.float32)
    negatives = noise.normal(-5, 1.3, 10_000).astype(np.float32)
    failures = np.full(len(table), "", object)
    bad = noise.choice(len(table), failed, replace=False)
    failures[bad], logits[bad] = "host: a pixel is NaN", np.nan
    scores = 1 / (1 + np.exp(-logits.astype(np.float64)))
    table = table.assign(logit=logits, score=scores, failure=failures)
    found = find_thresholds(thresholds, fpr_targets, negatives)
    metadata = grid_metadata(config, spec, found, origin, len(table) - failed, failed) | {
        "checkpoint": {
            "name": name,
            "fingerprint": _sha256(name, noise_seed, better),
            "architecture": "bottlenecked_resnet",
            "data_origin": "simulated",
            "deprecated": False,
        },
        "draws_fingerprint": _sha256(config.determining(), list(no_hosts), origin),
        "injections_fingerprint": _sha256(config.determining(), name, noise_seed, better),
    }
    write_tables(folder, metadata, config, table, negatives, found, row_group)
    return folder


def _draw(
    cells: list[tuple[float, float, float]],
    places: list[int],
    per_cell: int,
    config: GridConfig,
    seed: int,
    hosts: int,
) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    cell = np.repeat(places, per_cell)
    theta, psf, depth = np.array(cells)[cell].T
    count = len(cell)
    magnitude = rng.uniform(config.source_mag_bins[0], config.source_mag_bins[-1], count)
    return pd.DataFrame(
        {
            "injection_id": (cell.astype(np.int64) << 32)
            | np.tile(np.arange(per_cell), len(places)),
            "cell": cell.astype(np.int32),
            "theta_e": theta,
            "psf_fwhm": psf,
            "depth_5sig": depth,
            "host_id": [f"galaxy-{k % hosts:03d}" for k in range(count)],
            "host_row": np.arange(count, dtype=np.int64) % hosts,
            # Hosts lie anywhere in their cells, for example a quarter of a step above the centre.
            "host_psf_fwhm": psf + config.psf_fwhm.step / 4,
            "host_depth_5sig": depth + config.depth_5sig.step / 4,
            "theta_e_arcsec": theta,
            "source_r_mag": magnitude,
            "magnification": 4 * rng.lognormal(0, 0.4, count),
            "lensed_r_mag": magnitude - 1.5,
            "arc_snr_r": 10 ** (0.4 * (26.5 - magnitude)) * rng.lognormal(1, 0.4, count),
        }
    )


def grid_metadata(
    config: GridConfig,
    spec: PreprocessSpec,
    found: list[Threshold],
    origin: str,
    count: int,
    failed: int,
) -> dict[str, Any]:
    return {
        "spec": spec.to_dict(),
        "spec_fingerprint": spec.fingerprint,
        "annulus": spec.annulus_status(),
        "data_origin": origin,
        "config": config.model_dump(mode="json", exclude={"out_dir"}),
        "thresholds": [threshold.to_dict() for threshold in found],
        "injections": count,
        "failed": failed,
    }


def write_tables(
    folder: Path,
    metadata: dict[str, Any],
    config: GridConfig,
    table: pd.DataFrame,
    negatives: NDArray[np.float32],
    found: list[Threshold],
    row_group: int,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(metadata)
    (folder / "grid.json").write_text(text, "utf-8")
    tables: dict[str, Any] = {
        "injections": table,
        "negatives": {
            "galaxy_id": np.full(len(negatives), "negative"),
            "host_row": np.arange(len(negatives)),
            "logit": negatives,
        },
    }
    for name, columns in tables.items():
        result = pyarrow.table(dict(columns)).replace_schema_metadata({"dhs": text})
        parquet.write_table(
            result,
            folder / f"{name}.parquet",
            row_group_size=row_group * 16 if name == "negatives" else row_group,
        )
    stored = Negatives(np.arange(len(negatives)), negatives)
    selection = selection_function(folder / "injections.parquet", config, found, stored)
    result = pyarrow.table(dict(selection)).replace_schema_metadata({"dhs": text})
    parquet.write_table(result, folder / "selection_function.parquet")


def without_hosts(folder: Path) -> Path:
    """Remove the columns that folders of an earlier version lack."""
    path = folder / "selection_function.parquet"
    table = parquet.read_table(path)
    added = ["n_hosts", "n_eff", "few_hosts", "interval"]
    added += [name for name in table.column_names if name.startswith("completeness_net")]
    parquet.write_table(table.drop_columns(added), path)
    path = folder / "negatives.parquet"
    parquet.write_table(parquet.read_table(path).drop_columns(["host_row"]), path)
    return folder


class FakeImages:
    """Synthetic images: noise, a galaxy, and an arc of brightness ``arc_snr_r``."""

    def __init__(self, folder: Path, ids: Sequence[int]) -> None:
        table = pd.read_parquet(folder / "injections.parquet").set_index("injection_id", drop=False)
        self.table = table.loc[list(ids)].reset_index(drop=True)

    def read(self, rows: NDArray[np.int64]) -> tuple[Tensor, None]:
        assert len(rows)
        y, x = np.mgrid[-20:21, -20:21] * 0.3
        radius, angle = np.hypot(x, y), np.arctan2(y, x)
        images = []
        for row in rows.tolist():
            values = self.table.iloc[row]
            rng = np.random.default_rng(row)
            galaxy = 3 * np.exp(-radius / 1.2)
            arc = np.exp(-(((radius - values["theta_e_arcsec"]) / 0.4) ** 2)) * (abs(angle) < 1)
            bands = zip((0.3, 0.7, 1.0), (1.0, 0.8, 0.6), strict=True)
            images.append(
                [
                    red * galaxy
                    + 0.02 * blue * values["arc_snr_r"] * arc
                    + rng.normal(0, 0.05, x.shape)
                    for red, blue in bands
                ]
            )
        return torch.tensor(np.array(images, np.float32)), None


def _sha256(*values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
