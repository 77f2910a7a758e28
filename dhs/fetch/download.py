"""``dhs fetch``: cutouts of the Legacy Surveys' cutout service, each of them checked.

`fetch` downloads what a catalogue lists into a folder, or goes on with it; `plan` says what that
would ask of the service. A ``.fits`` file in the folder is whole and was checked; it is the image
that was asked for. ``journal.jsonl`` has a line for each, ``manifest.parquet`` a row.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pyarrow

from dhs.arguments import integer
from dhs.constants import CUTOUT_SIZE
from dhs.fetch.catalogue import Catalogue, read_catalogue
from dhs.fetch.client import Client
from dhs.fetch.folder import write_manifest, write_rejected
from dhs.fetch.run import Run
from dhs.fetch.service import URL, Service
from dhs.jobs.claim import output_folder
from dhs.manifest.claim import claim_folder, remove_parts
from dhs.manifest.format import MANIFEST, REJECTED, TEMPORARY
from fastnorm.io import Rejected


class FetchResult(NamedTuple):
    """What `fetch` gives.

    ``out``: the folder. ``cutouts``: verified files, the rows of its manifest. ``downloaded``: how
    many of them this call fetched. ``damaged``: files that were there and were not as they should
    be; they were deleted, and fetched again. ``rejected``: rows of the catalogue without a file,
    in its order.
    """

    out: Path
    cutouts: int
    downloaded: int
    damaged: int
    rejected: list[Rejected]


class FetchPlan(NamedTuple):
    """What `plan` gives.

    ``cutouts``: rows of the catalogue. ``seconds``: how long as many requests take at the rate.
    ``first``: the first address.
    """

    cutouts: int
    seconds: float
    first: str


def plan(
    catalogue: str | Path | pyarrow.Table,
    *,
    layer: str = "ls-dr10",
    size: int = CUTOUT_SIZE,
    images_only: bool = False,
    limit: int | None = None,
    url: str = URL,
    rate: float = 2.0,
) -> FetchPlan:
    """Check a catalogue, and say what `fetch` with an empty folder would ask of the service.

    Parameters are those of `fetch`, and so are the errors.

    Returns
    -------
    FetchPlan
    """
    service = Service(url, layer, size, images_only)
    listed = _read(catalogue, limit)
    seconds = len(listed) / _positive("rate", rate)
    return FetchPlan(len(listed), seconds, service.address(listed.ra[0], listed.dec[0]))


def fetch(
    catalogue: str | Path | pyarrow.Table,
    out: str | Path,
    *,
    layer: str = "ls-dr10",
    size: int = CUTOUT_SIZE,
    images_only: bool = False,
    limit: int | None = None,
    url: str = URL,
    rate: float = 2.0,
    workers: int = 2,
    attempts: int = 5,
    timeout: float = 30.0,
    backoff: float = 1.0,
    progress: Callable[[int, int], None] | None = None,
) -> FetchResult:
    """Download the cutouts of a catalogue, or go on with that.

    A file that is there and has the checksum that was recorded is not downloaded again; one that
    has another is. A cutout of zeros is no cutout: the survey has no data there; it is rejected,
    and not asked for again. What the service failed to give is asked for again by the next call.

    Parameters
    ----------
    catalogue : str, Path or pyarrow.Table
        ``.parquet``, ``.csv`` or ``.fits``. Columns: ``ra`` and ``dec`` in degrees; ``galaxy_id``,
        the name of the file without its suffix, otherwise made of the position. All other columns
        go into the manifest, so that one with ``label`` can be packed (`dhs.pack.write_pack`).
    out : str or Path
        A folder; made if need be. It has to be empty, or to hold cutouts of the same layer, size
        and units.
    layer : str
        ``ls-dr10`` or ``ls-dr9``; the manifest's ``data_origin`` follows from it.
    size : int
        Side in pixels of 0.262 arcsec, 1 to 3000.
    images_only : bool
        Without the units INVVAR and MASKBITS, of which masks are made.
    limit : int, optional
        Only so many rows of the catalogue, from the first on.
    url : str
        Of the service, or of a mirror; http or https.
    rate : float
        Requests per second, at most, of all workers together. The service is shared by everybody.
    workers : int
        Requests under way at once, at most; 1 to 16.
    attempts : int
        How often to ask for a cutout, at most; 1 to 20.
    timeout : float
        Seconds without a byte, after which an attempt has failed; ten times as long is enough for
        a whole cutout.
    backoff : float
        The second attempt comes at once; before the third, fourth, ... pass 2, 4, ... times as
        many seconds, 120 at most. ``Retry-After`` of the service comes first, and holds for all.
    progress : function, optional
        Called with how many rows are done and how many there are.

    Returns
    -------
    FetchResult

    Raises
    ------
    TypeError, ValueError
        An argument is not allowed; the catalogue has faults (all are named); the folder holds
        something else, or cutouts of other settings or positions.
    FetchStoppedError
        20 cutouts in a row were not given, or the service asks for a pause of more than 5 minutes.
        What was fetched is kept; the same call goes on.
    OSError
        The catalogue cannot be read, the folder cannot be written (a full disk), or another
        process writes it.
    """
    service = Service(url, layer, size, images_only)
    listed, out = _read(catalogue, limit), Path(out)
    client = Client(
        url,
        service.most_bytes,
        rate=_positive("rate", rate),
        workers=integer("workers", workers, 1, 16),
        attempts=integer("attempts", attempts, 1, 20),
        timeout=_positive("timeout", timeout),
        backoff=_positive("backoff", backoff),
    )

    def claim() -> None:
        # Files of a complete folder are verified again, and the missing ones downloaded.
        claim_folder(out, service.settings(), "set of cutouts")

    with output_folder(out, "cutouts", "*.fits", REJECTED, *TEMPORARY, claim=claim):
        run = Run(out, listed, service, client, progress or (lambda done, total: None))
        run.look_around()
        n_there = len(run.verified)
        run.download(workers)
        write_rejected(out, listed, run.rejected)
        if run.verified:
            write_manifest(out, listed, run.verified, service.settings())
        if (out / MANIFEST).exists():
            remove_parts(out)
    n = len(run.verified)
    rejected = [Rejected(run.path(row), run.rejected[row]) for row in sorted(run.rejected)]
    return FetchResult(out, n, n - n_there, run.damaged, rejected)


def _read(catalogue: str | Path | pyarrow.Table, limit: int | None) -> Catalogue:
    if limit is not None:
        integer("limit", limit, 1, 2**63 - 1)
    return read_catalogue(catalogue, limit)


def _positive(name: str, value: float) -> float:
    if not isinstance(value, numbers.Real) or isinstance(value, bool):
        raise TypeError(f"{name}={value!r} is not a number.")
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name}={value!r} is not allowed: it has to be positive and finite.")
    return float(value)
