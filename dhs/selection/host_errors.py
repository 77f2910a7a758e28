"""Errors on hosts that say what to do: too few of them, or no seeing or depth."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from pandas.api.types import is_numeric_dtype

from dhs import data as dhs_data
from dhs.manifest.columns import Manifest
from dhs.manifest.splits import SPLITS

if TYPE_CHECKING:
    from dhs.data import LensDataset
    from dhs.selection.config import HostsSection

USUAL_WEIGHTS = "sample_weight"
"""Column of weights in training data, which are part of their fingerprint."""
TO_DO = {
    "psf_fwhm": "Nothing measures it on the cutouts; dhs depth only copies it from FITS headers. "
    "Give one value for all hosts, hosts.psf_fwhm (1.2 to 1.3 arcsec are typical of DR10 in r), "
    "and run the grid at two values to see how much it matters",
    "depth_5sig": "Add the column (dhs depth measures it on the cutouts), or give "
    "hosts.depth_5sig, one value for all hosts",
}


def missing_column(manifest: Manifest, name: str, key: str, constant: str, usual: str) -> str:
    """Describe a missing column of seeing or depth.

    Parameters
    ----------
    manifest : Manifest
    name : str
        Column that was looked for.
    key, constant : str
        Keys of section hosts that name the column, and that replace it by a constant.
    usual : str
        Default of ``key``. A similar column may be of another band or quantity, so it is only
        suggested if the user chose a name, or if no letter differs.
    """
    numeric = [c for c in map(str, manifest.table.columns) if is_numeric_dtype(manifest.table[c])]
    near = [column for column in numeric if _letters(column) == _letters(name)]
    if not near and name != usual:
        near = difflib.get_close_matches(name, numeric, 1)
    hint = f"; did you mean {near[0]}? " if near else ". "
    return (
        f"{manifest.name} has no column {name!r} (hosts.{key}){hint}"
        f"{TO_DO[constant]}; docs/howto/seeing_and_depth.md says more."
    )


def _letters(name: str) -> str:
    return name.lower().replace("_", "")


def split_advice(
    section: HostsSection, data: LensDataset, count: int, trained_on: Mapping[str, Any] | None
) -> str:
    """Say how many non-lenses the split leaves out, and when all of them may be used.

    Parameters
    ----------
    section : HostsSection
    data : LensDataset
        The split.
    count : int
        Number of its non-lenses.
    trained_on : dict, optional
        Record of the training data in the checkpoint, `dhs.checkpoint.Checkpoint.data`.

    Returns
    -------
    str
        Empty if the hosts are of all splits.
    """
    if section.split == "all":
        return ""
    whole = dhs_data.LensDataset(section.dataset(), None, section.split_by)
    total = int((whole.labels == 0).sum())
    said = f" Split {section.split!r} has {count} of the {total} non-lenses of {data.name}; "
    recorded = (trained_on or {}).get("fingerprint")
    if not recorded:
        return f"{said}hosts.split: all is right if the checkpoint was trained on other data."
    if recorded in _fingerprints(section):
        return (
            f"{said}the checkpoint was trained on the rest of it, so hosts.split: all would "
            "measure galaxies of the training."
        )
    return (
        f"{said}the checkpoint records other training data (fingerprint {str(recorded)[:12]}), so "
        "hosts.split: all is right unless some of these galaxies were among them."
    )


def _fingerprints(section: HostsSection) -> set[str]:
    """Return the fingerprints of all splits that are not empty, with and without weights."""
    config, found = section.dataset(), set()
    for weights in ("", USUAL_WEIGHTS):
        dataset = config.model_copy(update={"sample_weight_col": weights})
        for split in (*SPLITS, None):
            # The split is empty, or there are no weights.
            with suppress(ValueError):
                found.add(dhs_data.LensDataset(dataset, split, section.split_by).fingerprint)
    return found


def span(values: np.ndarray[Any, Any]) -> str:
    """Write the range of the finite values."""
    finite = values[np.isfinite(values)]
    return f"{finite.min():.2f} to {finite.max():.2f}" if finite.size else "none"
