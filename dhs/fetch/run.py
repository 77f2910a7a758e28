"""One run through a catalogue: what is there, what is fetched, what is rejected."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from dhs.constants import PIXEL_SCALE
from dhs.fetch.catalogue import Catalogue
from dhs.fetch.check import PIXELS_OFF, check_cutout, separation, sha256_of
from dhs.fetch.client import (
    BadAnswerError,
    Client,
    FetchStoppedError,
    FinalAnswerError,
    NoDataError,
)
from dhs.fetch.folder import JOURNAL, Entry, Journal
from dhs.fetch.service import Service
from dhs.manifest.format import PARTS
from fastnorm.atomic import atomic_path

MOST_IN_A_ROW = 20
"""Cutouts that the service fails to give, one after the other, before it is left alone."""
MOST_NAMED = 5


class Run:
    """What becomes of the rows of a catalogue.

    Parameters
    ----------
    out : Path
        Held by this process alone.
    listed : Catalogue
    service : Service
    client : Client
    report : function
        Takes how many rows are done and how many there are.

    Attributes
    ----------
    verified : dict
        The entry of each row whose file is in the folder.
    rejected : dict
        Why there is no file; by row.
    damaged : int
        Files that were there, were not as recorded, and were deleted.
    """

    def __init__(
        self,
        out: Path,
        listed: Catalogue,
        service: Service,
        client: Client,
        report: Callable[[int, int], None],
    ) -> None:
        self.out, self.listed, self.service, self.client = out, listed, service, client
        self.verified: dict[int, Entry] = {}
        self.rejected: dict[int, str] = {}
        self.damaged = 0
        self._journal = Journal(out / JOURNAL)
        self._report = report

    def path(self, row: int) -> Path:
        return self.out / f"{self.listed.ids[row]}.fits"

    def look_around(self) -> None:
        """Find out which files are there, as they should be; delete those that are not.

        Raises
        ------
        ValueError
            Some were fetched for other positions; nothing is touched.
        """
        self._refuse_other_positions()
        for row, name in enumerate(self.listed.ids):
            entry, path = self._journal.get(name), self.path(row)
            if entry is not None and entry.reason is not None:
                self.rejected[row] = entry.reason
            elif path.exists():
                if entry is None:
                    # A run was killed after it had put the file here, and before it wrote of it.
                    entry = self._checked(path, row)
                if entry is not None and sha256_of(path) == entry.file_sha256:
                    self.verified[row] = entry
                else:
                    path.unlink()
                    self.damaged += 1

    def download(self, workers: int) -> None:
        """Ask for all that is neither there nor known to be nowhere."""
        n, in_a_row = len(self.listed), 0
        settled = self.verified.keys() | self.rejected.keys()
        missing = [row for row in range(n) if row not in settled]
        self._report(n - len(missing), n)
        (self.out / PARTS).mkdir(exist_ok=True)
        pool = ThreadPoolExecutor(workers)
        try:
            futures = {pool.submit(self._fetch, row): row for row in missing}
            for future in as_completed(futures):
                row = futures[future]
                try:
                    entry = future.result()
                except FinalAnswerError as error:
                    self.rejected[row], in_a_row = str(error), in_a_row + 1
                    if in_a_row == MOST_IN_A_ROW:
                        raise FetchStoppedError(
                            f"{in_a_row} cutouts in a row could not be fetched, the last because: "
                            f"{error} What was fetched is kept; try the same command again later."
                        ) from error
                else:
                    in_a_row = 0
                    self._journal.add(entry)
                    if entry.reason is None:
                        self.verified[row] = entry
                    else:
                        self.rejected[row] = entry.reason
                self._report(len(self.verified) + len(self.rejected), n)
        except OSError as error:
            said = f"{error.strerror or error}; what was fetched is kept, the same command goes on"
            raise OSError(error.errno, said, str(self.out)) from error
        finally:
            self.client.pace.stop("the run has ended.")
            pool.shutdown(cancel_futures=True)
            self.client.close()

    def _fetch(self, row: int) -> Entry:
        """Get a cutout, check it, and put it into its place; runs in a thread of its own."""
        target = self.path(row)
        unchecked = self.out / PARTS / target.name
        address = self.service.address(self.listed.ra[row], self.listed.dec[row])

        def accept(body: bytes) -> Entry:
            unchecked.write_bytes(body)
            entry = self._check(unchecked, row, address)
            with atomic_path(target) as temporary:
                os.replace(unchecked, temporary)
            return entry

        try:
            return self.client.get(address, accept)
        except NoDataError as error:
            return self._entry(row, address, reason=str(error))

    def _check(self, path: Path, row: int, address: str) -> Entry:
        check_cutout(path, self.listed.ra[row], self.listed.dec[row], self.service)
        return self._entry(row, address, file_sha256=sha256_of(path))

    def _checked(self, path: Path, row: int) -> Entry | None:
        """As a download is checked; None if it is not what is asked for."""
        address = self.service.address(self.listed.ra[row], self.listed.dec[row])
        try:
            entry = self._check(path, row, address)
        except (BadAnswerError, NoDataError):
            return None
        self._journal.add(entry)
        return entry

    def _entry(
        self, row: int, address: str, file_sha256: str | None = None, reason: str | None = None
    ) -> Entry:
        ra, dec = float(self.listed.ra[row]), float(self.listed.dec[row])
        return Entry(self.listed.ids[row], ra, dec, address, file_sha256, reason)

    def _refuse_other_positions(self) -> None:
        moved = []
        for name, ra, dec in zip(self.listed.ids, self.listed.ra, self.listed.dec, strict=True):
            entry = self._journal.get(name)
            if entry is None or (entry.ra, entry.dec) == (ra, dec):
                continue
            away = separation(entry.ra, entry.dec, ra, dec) * 3600
            if not away <= PIXELS_OFF * PIXEL_SCALE:
                moved.append(f"{name} is at ({entry.ra}, {entry.dec}) there, ({ra}, {dec}) here")
        if moved:
            more = "; ..." if len(moved) > MOST_NAMED else ""
            raise ValueError(
                f"{self.out} holds {len(moved):,} cutouts of other positions: "
                f"{'; '.join(moved[:MOST_NAMED])}{more}. Name another folder."
            )
