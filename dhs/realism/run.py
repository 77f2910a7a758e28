"""Run the realism check on files: gather real lenses and injections, and write the result."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import sklearn
from numpy.typing import NDArray

from dhs import checkpoint
from dhs.arguments import MOST_ID, integer
from dhs.checkpoint.header import now, versions
from dhs.jobs.claim import output_folder
from dhs.model.batch_size import choose_device, describe_device
from dhs.model.engines import Job, set_up
from dhs.model.features import features_of
from dhs.realism.figure import draw_probe
from dhs.realism.probe import Probe
from dhs.realism.samples import Draw, Sample, is_grid_folder
from fastnorm.atomic import atomic_path
from fastnorm.io import Rejected
from fastnorm.kinds import flag
from fastnorm.paths import local_path
from fastnorm.pictures import remove_other_formats

BATCH = 64
MOST_SAMPLED = 10**6


class Gathered(NamedTuple):
    """Result of `gather`.

    ``real``, ``injected``: features (N, D) and (M, D) float32. ``real_groups``,
    ``injected_groups``: group of each object. ``metadata``: settings and origins, for the record.
    ``rejected``: cutouts that cannot be used.
    """

    real: NDArray[np.float32]
    injected: NDArray[np.float32]
    real_groups: NDArray[np.str_]
    injected_groups: NDArray[np.str_]
    metadata: dict[str, Any]
    rejected: list[Rejected]


def gather(
    model: str | Path,
    real: Sequence[str | Path],
    injected: Sequence[str | Path],
    *,
    label_col: str = "label",
    split: str | None = None,
    least_snr: float | None = None,
    sample: int = 2000,
    seed: int = 1,
    batch_size: int = BATCH,
    device: str = "auto",
    allow_deprecated: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Gathered:
    """Draw real lenses and injections, and compute their features with one network.

    Parameters
    ----------
    model : path
        A checkpoint.
    real, injected : sequence of paths
        One pack, whose lenses are used; or files, folders and patterns of cutouts. ``injected``
        may also be the folder of one selection grid; one injection per host is drawn from it,
        excluding failed ones.
    label_col : str
        Column of the labels in packs, 1 for a lens.
    split : str, optional
        Use only this split, ``train``, ``val`` or ``test``, of a pack of real lenses.
    least_snr : float, optional
        Smallest ``arc_snr_r`` of an injection from a grid.
    sample : int
        Largest number of cutouts to draw per side.
    seed : int
        Random seed of the draws.
    batch_size : int
        Cutouts per forward pass.
    device : {"auto", "cpu", "cuda"}
        See `dhs.model.batch_size.choose_device`.
    allow_deprecated : bool
        Accept a checkpoint that is marked as deprecated.
    progress : function, optional
        Called with the number of cutouts done and the total.

    Returns
    -------
    Gathered

    Raises
    ------
    SpecMismatchError
        The grid and the checkpoint have different preprocessing.
    TypeError, ValueError
        The checkpoint cannot be used; a number is out of range; no lens or no injection is left;
        or the cutouts of a pack have a different size than the checkpoint takes.
    OSError
        A file cannot be read.
    """
    integer("sample", sample, 1, MOST_SAMPLED)
    integer("seed", seed, 0, MOST_ID)
    allow_deprecated = flag("allow_deprecated", allow_deprecated)
    finder, loaded = checkpoint.load(model, allow_deprecated=allow_deprecated)
    where = choose_device(device)
    finder.to(where)
    inference = set_up([finder], "eager", Job(2 * sample, batch_size, loaded.size), where)
    rng = np.random.default_rng(seed)
    is_grid = len(injected) == 1 and is_grid_folder(local_path(injected[0]))
    if least_snr is not None and not is_grid:
        raise ValueError(
            f"least_snr={least_snr:g} needs the arc_snr_r of a selection grid, but "
            f"{', '.join(map(str, injected))} is not a grid; leave it out."
        )
    draw = Draw(loaded, label_col, sample, rng)
    lenses = draw.of(real, split)
    arcs = draw.of_grid(Path(injected[0]), least_snr) if is_grid else draw.of(injected, None)
    total = len(lenses.rows) + len(arcs.rows)

    def features(side: Sample, done: int) -> NDArray[np.float32]:
        show = None if progress is None else (lambda n, _: progress(done + n, total))
        return features_of(finder, side.rows, batch_size, where, show)

    taken = features(lenses, 0), features(arcs, len(lenses.rows))
    metadata = {
        "checkpoint": {
            "name": loaded.path.name,
            "fingerprint": loaded.fingerprint,
            "architecture": loaded.architecture,
            "data_origin": loaded.data_origin,
            "deprecated": loaded.deprecated,
        },
        "spec": loaded.spec.to_dict(),
        "spec_fingerprint": loaded.spec.fingerprint,
        "real": lenses.metadata,
        "injected": arcs.metadata,
        "features": taken[0].shape[1],
        "sample": sample,
        "seed": seed,
        "batch_size": batch_size,
        "device": describe_device(where),
        "inference": inference.to_dict(),
    }
    rejected = lenses.rejected + arcs.rejected
    return Gathered(*taken, lenses.groups, arcs.groups, metadata, rejected)


def write_check(
    folder: Path, gathered: Gathered, probe: Probe, picture_format: str = "png"
) -> dict[str, Any]:
    """Write ``realism.png`` and ``realism.json``, each of them atomically.

    Parameters
    ----------
    folder : Path
        Output folder.
    gathered : Gathered
    probe : Probe
        Result of `dhs.realism.probe.probe` on the gathered features.
    picture_format : str
        ``png``, ``pdf`` or ``svg``; a picture of an earlier check in another one is removed.

    Returns
    -------
    dict
        Content of ``realism.json``.

    Raises
    ------
    OSError
        A file cannot be written, or another process is writing to the folder.
    """
    record = gathered.metadata | {
        "probe": probe.to_dict(),
        "versions": versions() | {"scikit-learn": sklearn.__version__},
        "created": now(),
    }
    picture = folder / f"realism.{picture_format}"
    with output_folder(folder, "a realism check", picture.name, "realism.json"):
        draw_probe(probe, gathered.metadata, picture)
        remove_other_formats(picture)
        with atomic_path(folder / "realism.json") as temporary:
            temporary.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n")
    return record
