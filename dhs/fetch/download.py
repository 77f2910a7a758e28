"""``dhs fetch``: download of checked cutouts from the Legacy Surveys' cutout service.

`fetch` downloads the cutouts of a catalogue into a folder, or resumes a download. `plan` estimates
the requests. Every ``.fits`` file in the folder is complete and was checked against its request.
Each has a line in ``journal.jsonl`` and a row in ``manifest.parquet``.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow

from dhs.arguments import integer
from dhs.constants import CUTOUT_SIZE
from dhs.fetch.catalogue import Catalogue, read_catalogue
from dhs.fetch.client import Client
from dhs.fetch.folder import JOURNAL, write_manifest, write_rejected
from dhs.fetch.redirects import Redirects
from dhs.fetch.run import Run
from dhs.fetch.service import URL, Service
from dhs.jobs.claim import output_folder
from dhs.manifest.claim import claim_folder, remove_parts
from dhs.manifest.format import MANIFEST, REJECTED, TEMPORARY
from fastnorm.io import Rejected
from fastnorm.kinds import flag
from fastnorm.paths import local_path


class FetchResult(NamedTuple):
    """Result of `fetch`.

    ``out``: the folder. ``cutouts``: number of verified files, the rows of the manifest.
    ``downloaded``: number of files that this call downloaded. ``damaged``: number of existing
    files that did not match their record; they were deleted and requested again. ``rejected``:
    rows of the catalogue without a file, in order.
    """

    out: Path
    cutouts: int
    downloaded: int
    damaged: int
    rejected: list[Rejected]


class FetchPlan(NamedTuple):
    """Result of `plan`.

    ``cutouts``: number of rows of the catalogue. ``seconds``: shortest time for as many requests
    at the rate. ``first``: address of the first request.
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
    """Check a catalogue, and estimate the requests of `fetch` with an empty folder.

    Parameters
    ----------
    catalogue : str, Path or pyarrow.Table
        Positions of the cutouts; see `fetch`.
    layer : str
        ``ls-dr10`` or ``ls-dr9``.
    size : int
        Side of a cutout in pixels of 0.262 arcsec, 1 to 3000.
    images_only : bool
        Whether to omit the HDUs INVVAR and MASKBITS.
    limit : int, optional
        Number of rows to use, from the first. By default, all rows.
    url : str
        Address of the service or of a mirror, http or https.
    rate : float
        Largest number of requests per second.

    Returns
    -------
    FetchPlan

    Raises
    ------
    TypeError, ValueError
        An argument is not allowed, or the catalogue has faults. The message lists all faults.
    OSError
        The catalogue cannot be read.
    """
    service = Service(url, layer, size, flag("images_only", images_only))
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
    deadline: float = 300.0,
    backoff: float = 1.0,
    allow_redirect: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> FetchResult:
    """Download the cutouts of a catalogue, or resume a download.

    A file that matches its recorded checksum is not downloaded again; any other file is. A cutout
    of zeros means that the survey has no data at the position; it is rejected and never requested
    again. The next call requests again whatever the service failed to return.

    Parameters
    ----------
    catalogue : str, Path or pyarrow.Table
        A table, or a ``.parquet``, ``.csv``, ``.fits``, ``.ecsv`` or ``.vot`` file. Columns:
        ``ra`` and ``dec``, or if neither exists ``TARGET_RA`` and ``TARGET_DEC``, in
        degrees, and optionally ``galaxy_id``, the file name without its suffix, which otherwise
        follows from the position. All other columns go into the manifest; with ``label`` it can
        be packed (`dhs.pack.write_pack`).
    out : str or Path
        Folder of the cutouts, created if needed. It must be empty, or contain cutouts with the
        same layer, size and HDUs.
    layer : str
        ``ls-dr10`` or ``ls-dr9``. It determines the manifest's ``data_origin``.
    size : int
        Side of a cutout in pixels of 0.262 arcsec, 1 to 3000.
    images_only : bool
        Whether to omit the HDUs INVVAR and MASKBITS, which masks are made from.
    limit : int, optional
        Number of rows to use, from the first. By default, all rows.
    url : str
        Address of the service or of a mirror, http or https.
    rate : float
        Largest number of requests per second of all workers together. Everybody shares the
        service.
    workers : int
        Largest number of simultaneous requests, 1 to 16.
    attempts : int
        Largest number of attempts per cutout, 1 to 20.
    timeout : float
        Longest wait for the next byte, seconds.
    deadline : float
        Longest time of one attempt, from the connection over redirects and headers to the last
        byte, seconds. Whatever the service sends, the attempt fails when it passes.
    backoff : float
        Unit of the pauses between attempts, seconds. The second attempt follows at once; the
        pauses before the third, fourth, ... are 2, 4, ... times this long, at most 120 seconds.
        ``Retry-After`` from the service takes precedence, and applies to all workers.
    allow_redirect : sequence of str
        Other servers that the service may redirect to, each like ``https://mirror.org``. By
        default, it may redirect only to itself, and not from https to http.
    progress : function, optional
        Called with the number of finished rows and the number of all rows.

    Returns
    -------
    FetchResult

    Raises
    ------
    TypeError, ValueError
        An argument is not allowed; the catalogue has faults (the message lists all); or the folder
        contains something else, or cutouts with different settings or positions.
    FetchStoppedError
        20 cutouts in a row failed, or the service asks for a pause of more than 5 minutes. The
        fetched files are kept, and the same call resumes.
    OSError
        The catalogue cannot be read, the folder cannot be written (for example on a full disk),
        or another process is writing it.
    """
    service = Service(url, layer, size, flag("images_only", images_only))
    listed, out = _read(catalogue, limit), local_path(out)
    client = Client(
        url,
        service.most_bytes,
        rate=_positive("rate", rate),
        workers=integer("workers", workers, 1, 16),
        attempts=integer("attempts", attempts, 1, 20),
        timeout=_positive("timeout", timeout),
        deadline=_positive("deadline", deadline),
        backoff=_positive("backoff", backoff),
        redirects=Redirects(url, allow_redirect),
    )

    def claim() -> None:
        # Files of a complete folder are verified again, and the missing ones downloaded.
        claim_folder(out, service.settings(), "set of cutouts")

    written = ("*.fits", REJECTED, JOURNAL, *TEMPORARY)
    with output_folder(out, "cutouts", *written, claim=claim):
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
        raise ValueError(f"{name}={value!r} is not allowed: it must be positive and finite.")
    return float(value)
