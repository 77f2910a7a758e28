"""One run through a catalogue, which verifies existing files and downloads the others."""

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
from dhs.jobs.files import write_new
from dhs.manifest.format import PARTS
from fastnorm.atomic import atomic_path

MOST_IN_A_ROW = 20
"""Number of consecutive failures after which the run stops."""
MOST_NAMED = 5


class Run:
    """A run through the rows of a catalogue.

    Parameters
    ----------
    out : Path
        Folder of the cutouts, locked by this process.
    listed : Catalogue
        Catalogue of the cutouts.
    service : Service
        Settings of the requests.
    client : Client
        HTTP client.
    report : function
        Called with the number of finished rows and the number of all rows.

    Attributes
    ----------
    verified : dict
        Entry of each row whose file is in the folder.
    rejected : dict
        Reason for each row without a file.
    damaged : int
        Number of files that did not match their record and were deleted.
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
        """Return the path of the cutout of a row."""
        return self.out / f"{self.listed.ids[row]}.fits"

    def look_around(self) -> None:
        """Verify the existing files, and delete the damaged ones.

        Raises
        ------
        ValueError
            Some files were fetched for other positions. No file is changed.
        """
        self._refuse_other_positions()
        for row, name in enumerate(self.listed.ids):
            entry, path = self._journal.get(name), self.path(row)
            if entry is not None and entry.reason is not None:
                self.rejected[row] = entry.reason
            elif path.exists():
                if entry is None:
                    # A run was killed between moving the file here and recording it.
                    entry = self._checked(path, row)
                if entry is not None and sha256_of(path) == entry.file_sha256:
                    self.verified[row] = entry
                else:
                    path.unlink()
                    self.damaged += 1

    def download(self, workers: int) -> None:
        """Download every cutout that is neither verified nor rejected.

        Raises
        ------
        FetchStoppedError
            Too many cutouts in a row failed, or the service asks for a long pause.
        OSError
            The folder cannot be written.
        """
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
                            f"{in_a_row} cutouts in a row could not be fetched; last error: "
                            f"{error} The fetched files are kept. Run the same command again "
                            "later to resume."
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
            said = (
                f"{error.strerror or error}; the fetched files are kept, run the same command "
                "again to resume"
            )
            raise OSError(error.errno, said, str(self.out)) from error
        finally:
            self.client.stop("the run has ended.")
            pool.shutdown(cancel_futures=True)
            self.client.close()

    def _fetch(self, row: int) -> Entry:
        """Download a cutout, check it, and move it into place; runs in a worker thread."""
        target = self.path(row)
        unchecked = self.out / PARTS / target.name
        address = self.service.address(self.listed.ra[row], self.listed.dec[row])

        def accept(body: bytes) -> Entry:
            try:
                write_new(unchecked, body)
                entry = self._check(unchecked, row, address)
                with atomic_path(target, follow=False) as temporary:
                    os.replace(unchecked, temporary)
            finally:
                unchecked.unlink(missing_ok=True)
            return entry

        try:
            return self.client.get(address, accept)
        except NoDataError as error:
            return self._entry(row, address, reason=str(error))

    def _check(self, path: Path, row: int, address: str) -> Entry:
        check_cutout(path, self.listed.ra[row], self.listed.dec[row], self.service)
        return self._entry(row, address, file_sha256=sha256_of(path))

    def _checked(self, path: Path, row: int) -> Entry | None:
        """Check an existing file like a download, and return None if it is not the cutout."""
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
                moved.append(
                    f"{name} is at ({entry.ra}, {entry.dec}) in the folder and at ({ra}, {dec}) "
                    "in the catalogue"
                )
        if moved:
            more = "; ..." if len(moved) > MOST_NAMED else ""
            raise ValueError(
                f"{self.out} has {len(moved):,} cutouts with different positions: "
                f"{'; '.join(moved[:MOST_NAMED])}{more}. Use another folder."
            )
