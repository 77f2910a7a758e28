"""Fetching cutouts from a local service that fails in every way it can."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from dhs.fetch import FetchStoppedError, fetch, run
from dhs.fetch.check import check_cutout
from dhs.fetch.client import BadAnswerError, Pace
from dhs.fetch.service import Service
from dhs.pack import open_pack, write_pack
from fastnorm.io import read_cutouts
from tests.dhs.fetch.fetch_cases import SIZE, catalogue, get, names
from tests.dhs.fetch.fetch_cases import out as out
from tests.dhs.fetch.fetch_cases import server as server
from tests.dhs.fetch.flaky_server import FlakyServer, fits_bytes, pixels_at

WRONG = {
    "status 500": "HTTP 500",
    "status 503": "HTTP 503",
    "status 429 soon": "HTTP 429",
    "reset": "reset by peer",
    "stalled": "no data arrived for 0.2 s",
    "cut": "IncompleteRead",
    "chunked 0.5": "IncompleteRead",
    "short": "truncated",
    "unsaid": "truncated",
    "endless": "larger than any such cutout",
    "html": "is not a FITS file; it begins with '<html>",
    "empty": "is not a FITS file; it begins with ''",
    "damaged": "header is damaged",
    "unparsable": "is damaged, or its content does not match its suffix (VerifyError",
    "overwritten": "its END is lost",
    "elsewhere": "1 arcsec from the requested position",
    "small": "expected (3, 11, 11)",
    "coarse": "its pixels have sides of",
    "bare": "has no HDU INVVAR",
}
"""Wrong answers that a correct one may follow, and their reasons."""


def test_fifty_cutouts_from_a_server_that_fails_stalls_and_truncates(
    server: FlakyServer, out: Path
) -> None:
    source = catalogue(50, label=[k % 2 for k in range(50)], note=["x"] * 50)
    positions = list(zip(source["ra"].to_pylist(), source["dec"].to_pylist(), strict=True))
    wrong = list(WRONG)
    for k, position in enumerate(positions):
        server.answers[position] = [wrong[k % len(wrong)], *([wrong[k % 7]] if k % 5 == 0 else [])]
    failures = sum(map(len, server.answers.values()))
    result = get(server, out, source, workers=4)
    assert (result.cutouts, result.downloaded, result.rejected) == (50, 50, [])
    assert len(server.asked) == 50 + failures
    assert all(agent.startswith("dhs-fastnorm/") for agent in server.agents)
    table = parquet.read_table(out / "manifest.parquet")
    assert table.column_names[:6] == ["cutout_path", *source.column_names[:3], "file_sha256", "url"]
    assert names(out) == sorted(
        [*table["cutout_path"].to_pylist(), "manifest.parquet", "journal.jsonl"]
    )
    for name in source.column_names:
        assert table[name].to_pylist() == source[name].to_pylist()
    for row, (ra, dec) in zip(table.to_pylist(), positions, strict=True):
        path = out / row["cutout_path"]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == row["file_sha256"]
        [cutout] = read_cutouts(path)
        assert np.array_equal(cutout.pixels, pixels_at(ra, dec, SIZE))
        assert f"ra={ra!r}&dec={dec!r}&layer=ls-dr10&pixscale=0.262&bands=grz&" in row["url"]
        assert row["url"].endswith("size=11&invvar&maskbits")
    pack = open_pack(write_pack(out / "manifest.parquet", out.parent / "pack").out)
    assert (len(pack), pack.metadata["data_origin"]) == (50, "legacysurvey-dr10")


@pytest.mark.parametrize(("answer", "reason"), WRONG.items())
def test_a_wrong_answer_is_told(server: FlakyServer, out: Path, answer: str, reason: str) -> None:
    server.always = answer
    result = get(server, out, catalogue(1), attempts=1)
    assert result.cutouts == 0
    assert reason in result.rejected[0].reason
    assert result.rejected[0].reason.endswith("Attempt 1 of 1.")
    assert not list(out.glob("*.fits"))


def test_no_more_attempts_than_allowed_and_none_where_it_is_no_use(
    server: FlakyServer, out: Path
) -> None:
    server.always = "status 502"
    result = get(server, out, catalogue(1), attempts=4, backoff=0.05)
    assert result.rejected[0].reason == "HTTP 502 Bad Gateway. Attempt 4 of 4."
    assert len(server.asked) == 4
    assert all(np.diff(server.times()) >= (0, 0.1, 0.2))
    for answer, reason in {
        "status 404": "HTTP 404",
        "status 204": "HTTP 204",
        "to ftp://there/x": "redirected to an invalid address",
        "to http://[::": "redirected to an invalid address",
    }.items():
        server.asked.clear()
        server.always = answer
        assert reason in get(server, out, catalogue(1)).rejected[0].reason
        assert len(server.asked) == 1


def test_redirects_are_followed_three_times(server: FlakyServer, out: Path) -> None:
    source = catalogue(2)
    first, second = zip(source["ra"].to_pylist(), source["dec"].to_pylist(), strict=True)
    server.answers[first], server.answers[second] = ["sent_on 3"], ["sent_on 4"]
    result = get(server, out, source)
    assert [item.path.stem for item in result.rejected] == ["g01"]
    assert "more than 3 times" in result.rejected[0].reason


def test_a_server_that_drips_is_left(server: FlakyServer, out: Path) -> None:
    server.always = "dripping"
    result = get(server, out, catalogue(1), attempts=1, deadline=0.5)
    assert "not complete after the deadline of 0.5 s" in result.rejected[0].reason


def test_zeros_are_no_data_and_are_asked_for_once(server: FlakyServer, out: Path) -> None:
    server.always = "zeros"
    for _ in range(2):
        result = get(server, out, catalogue(3), limit=2)
        assert [item.reason[:12] for item in result.rejected] == ["no data at t"] * 2
        rejected = parquet.read_table(out / "rejected.parquet").to_pylist()
        assert [row["galaxy_id"] for row in rejected] == ["g00", "g01"]
        assert len(server.asked) == 2
    server.always = None
    assert get(server, out, catalogue(3)).cutouts == 1


def test_requests_keep_the_pace_over_all_threads(server: FlakyServer, out: Path) -> None:
    source = catalogue(6)
    for position in zip(source["ra"].to_pylist(), source["dec"].to_pylist(), strict=True):
        server.answers[position] = ["status 500", "sent_on 1"]
    assert get(server, out, source, rate=50, workers=4).cutouts == 6
    times = server.times()
    # The rate limits the number of requests in this time; the system may delay single ones.
    assert len(times) == 18
    assert times[-1] - times[0] >= 16 / 50
    assert sum(np.diff(times) < 0.01) < 4


def test_retry_after_is_a_pause_for_all(server: FlakyServer, out: Path) -> None:
    source = catalogue(6)
    server.answers[source["ra"][0].as_py(), source["dec"][0].as_py()] = ["status 503 1"]
    assert get(server, out, source, workers=2, rate=100).cutouts == 6
    assert np.sum(np.diff(server.times()) > 0.9) == 1


def test_a_service_that_asks_for_a_long_pause_is_left(server: FlakyServer, out: Path) -> None:
    server.always = "status 429 4000"
    with pytest.raises(FetchStoppedError, match="a pause of 4000 s; the fetched files are kept"):
        get(server, out, catalogue(9), workers=1)
    assert len(server.asked) == 1


def test_a_service_that_is_down_is_left(
    server: FlakyServer, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "MOST_IN_A_ROW", 4)
    source = catalogue(30)
    for k, position in enumerate(zip(*(source[n].to_pylist() for n in ("ra", "dec")), strict=True)):
        server.answers[position] = ["status 404" if k % 4 == 0 or k > 10 else "zeros"]
    with pytest.raises(FetchStoppedError, match=r"4 cutouts in a row .* HTTP 404 .* later"):
        get(server, out, source, workers=1)
    assert 15 <= len(server.asked) < 20
    assert not (out / "manifest.parquet").exists()


def test_a_proxy_of_the_environment_is_used(
    server: FlakyServer, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.url)
    monkeypatch.setenv("no_proxy", "")
    fetch(catalogue(1), out, url="http://mirror.invalid/fits-cutout", size=SIZE)
    assert server.asked[0][0].startswith("http://mirror.invalid/fits-cutout?ra=1.0")


def test_positions_beside_the_middle_and_on_the_edge_of_the_sky(tmp_path: Path) -> None:
    service = Service(size=SIZE)
    for ra, dec in ((0.0, 0.0), (360.0, 89.999), (12.0, -90.0)):
        (tmp_path / "a.fits").write_bytes(fits_bytes(ra, dec, SIZE))
        check_cutout(tmp_path / "a.fits", ra, dec, service)
    for away, is_right in ((0.13, True), (0.132, False)):
        (tmp_path / "a.fits").write_bytes(fits_bytes(10, 60 + away / 3600, SIZE))
        if is_right:
            check_cutout(tmp_path / "a.fits", 10, 60, service)
        else:
            with pytest.raises(BadAnswerError, match=r"its centre is 0.132 arcsec"):
                check_cutout(tmp_path / "a.fits", 10, 60, service)


def test_the_first_reason_to_stop_is_told_to_all() -> None:
    pace = Pace(1000)
    pace.stop("first")
    pace.stop("second")
    with pytest.raises(FetchStoppedError, match="first"):
        pace.wait(60)
