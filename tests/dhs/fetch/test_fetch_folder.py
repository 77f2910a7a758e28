"""Folders of fetched cutouts stay consistent, however the runs that fill them end."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pytest
from astropy.table import Table
from pyarrow import parquet
from typer import Typer

from dhs.commands import fetch as command
from dhs.fetch import FetchResult, fetch
from dhs.fetch.folder import Journal
from tests.command_line import invoke, message
from tests.dhs.fetch.fetch_cases import SIZE, catalogue, get, names
from tests.dhs.fetch.fetch_cases import out as out
from tests.dhs.fetch.fetch_cases import server as server
from tests.dhs.fetch.flaky_server import FlakyServer


def test_what_is_there_is_not_asked_for_again_and_what_is_damaged_is(
    server: FlakyServer, out: Path
) -> None:
    get(server, out, catalogue(6), limit=5)
    manifest = (out / "manifest.parquet").read_bytes()
    server.asked.clear()
    assert get(server, out, catalogue(6), limit=5) == FetchResult(out, 5, 0, 0, [])
    assert not server.asked
    # A flipped bit of one pixel, which no reader would notice.
    content = bytearray((out / "g01.fits").read_bytes())
    content[2880 + 77] ^= 1
    (out / "g01.fits").write_bytes(content)
    (out / "g03.fits").unlink()
    (out / "g04.fits").write_bytes(b"")
    assert get(server, out, catalogue(6), limit=5) == FetchResult(out, 5, 3, 2, [])
    assert (out / "manifest.parquet").read_bytes() == manifest
    assert get(server, out, catalogue(6)) == FetchResult(out, 6, 1, 0, [])
    server.always = "status 404"
    (out / "g02.fits").write_bytes(b"SIMPLE")
    assert get(server, out, catalogue(6)).cutouts == 5
    assert not (out / "g02.fits").exists()
    assert len(parquet.read_table(out / "manifest.parquet")) == 5
    server.always = None
    assert get(server, out, catalogue(6)) == FetchResult(out, 6, 1, 0, [])
    assert not (out / "rejected.parquet").exists()


def test_a_killed_run_goes_on(server: FlakyServer, out: Path) -> None:
    code = (
        "import os, signal, sys, pyarrow\n"
        "from dhs.fetch import fetch\n"
        "def kill(done, total):\n"
        "    if done == 5:\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "table = pyarrow.ipc.open_stream(sys.stdin.buffer).read_all()\n"
        "fetch(table, sys.argv[2], url=sys.argv[1], size=11, rate=200, progress=kill)\n"
    )
    source, stream = catalogue(12), pyarrow.BufferOutputStream()
    with pyarrow.ipc.new_stream(stream, source.schema) as writer:
        writer.write_table(source)
    arguments = [sys.executable, "-c", code, server.url, str(out)]
    done = subprocess.run(arguments, input=stream.getvalue().to_pybytes(), check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert not (out / "manifest.parquet").exists()
    there = set(names(out)) & {f"{name}.fits" for name in source["galaxy_id"].to_pylist()}
    assert 5 <= len(there) < 12
    # Simulate a kill between a file and its line, within a line, and within a file.
    lines = (out / "journal.jsonl").read_bytes().splitlines(keepends=True)
    (out / "journal.jsonl").write_bytes(b"".join(lines[:-2]) + lines[-2][:20])
    (out / ".g11.fits.tmp-1").write_bytes(b"SIMPLE")
    (out / "parts" / "g11.fits").write_bytes(b"SIMPLE")
    server.asked.clear()
    result = get(server, out, source)
    assert result == FetchResult(out, 12, 12 - len(there), 0, [])
    assert len(server.asked) == 12 - len(there)
    assert not [name for name in names(out) if name.startswith(".")]
    journal = Journal(out / "journal.jsonl")
    assert all(journal.get(name) for name in source["galaxy_id"].to_pylist())
    server.asked.clear()
    assert get(server, out, source).downloaded == 0
    assert not server.asked


def test_a_full_disk_is_told_and_the_run_goes_on(
    server: FlakyServer, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Path] = []

    def write(path: Path, body: bytes) -> None:
        if len(written) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(path)
        path.write_bytes(body)

    with monkeypatch.context() as patch:
        patch.setattr("dhs.fetch.run.write_new", write)
        with pytest.raises(OSError, match="No space left on device; the fetched files are kept"):
            get(server, out, catalogue(9))
    assert get(server, out, catalogue(9)) == FetchResult(out, 9, 6, 0, [])


def test_other_settings_and_other_positions_are_refused(server: FlakyServer, out: Path) -> None:
    get(server, out, catalogue(3))
    before = names(out), len(server.asked)
    with pytest.raises(ValueError, match="size is 11 in the folder and 13 in this run"):
        get(server, out, catalogue(3), size=13)
    with pytest.raises(ValueError, match="images_only is False in the folder and True in"):
        get(server, out, catalogue(3), images_only=True)
    with pytest.raises(ValueError, match="layer is ls-dr10 in the folder and ls-dr9 in"):
        get(server, out, catalogue(3), layer="ls-dr9")
    with pytest.raises(ValueError, match=r"has 2 cutouts with different positions: g01 is at"):
        get(server, out, catalogue(4).set_column(1, "ra", pyarrow.array([1.0, 2, 3, 4])))
    assert (names(out), len(server.asked)) == before
    (out.parent / "strange").mkdir()
    (out.parent / "strange" / "x.fits").touch()
    with pytest.raises(ValueError, match=r"does not contain a set of cutouts \(x.fits\)"):
        get(server, out.parent / "strange", catalogue(3))


def test_a_second_run_is_refused(
    server: FlakyServer, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dhs.jobs.lock.SECONDS_TO_WAIT_FOR_THE_FOLDER", 0.05)
    refused = []

    def second(done: int, total: int) -> None:
        if done == 1:
            with pytest.raises(BlockingIOError, match=r"writing cutouts into .* process"):
                get(server, out, catalogue(2))
            refused.append(done)

    assert get(server, out, catalogue(3), progress=second).cutouts == 3
    assert refused == [1]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ra": [1.0, np.nan, 361]}, "2 rows whose ra is not in [0, 360] degrees: row 1 (nan)"),
        ({"dec": [-91.0, None, 0]}, "2 rows whose dec is not in [-90, 90] degrees: row 0 (-91.0)"),
        ({"ra": ["10h", "11h", "12h"]}, "ra is of type string; it must be a number"),
        ({"galaxy_id": ["a", "../x", "b"]}, "1 rows whose galaxy_id is not a valid file name"),
        ({"galaxy_id": ["a/b", "", ".c"]}, "3 rows whose galaxy_id is not a valid file name"),
        ({"galaxy_id": ["a\n", "é" * 101, None]}, "3 rows whose galaxy_id is not a valid file"),
        ({"galaxy_id": ["a", "b", "A"]}, "2 rows with the galaxy_id (or position) of another row"),
        ({"galaxy_id": [1.0, 2.0, 3.0]}, "galaxy_id is of type double; it must be text or"),
        ({"RA": [1, 2, 3]}, "several columns are named ra: ra, RA; keep one"),
        ({"url": [1, 2, 3], "sha256": [1, 2, 3]}, "for the manifest: url, sha256; rename them"),
    ],
)  # fmt: skip
def test_faults_of_a_catalogue_are_told_before_anything_is_asked(
    server: FlakyServer, out: Path, changes: dict[str, Any], said: str
) -> None:
    columns = dict(zip(catalogue(3).column_names, catalogue(3).columns, strict=True))
    with pytest.raises(ValueError, match="the catalogue cannot be fetched") as error:
        get(server, out, pyarrow.table(columns | changes))
    assert said in str(error.value)
    assert not server.asked
    assert not out.exists()


def test_radians_are_not_taken_for_degrees(server: FlakyServer, tmp_path: Path) -> None:
    table = Table({"ra": [1.0], "dec": [0.5]})
    table["ra"].unit = "rad"
    table.write(tmp_path / "a.fits")
    with pytest.raises(ValueError, match="ra is in rad; convert it to degrees"):
        get(server, tmp_path / "out", tmp_path / "a.fits")


@pytest.mark.filterwarnings("ignore:.*'degrees of arc' did not parse:fastnorm.io.CutoutWarning")
def test_catalogues_of_every_kind(server: FlakyServer, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("RA,Dec,galaxy_id,label\n1.5,-2,007,1\n3.25,4,008,0\n")
    fits_table = Table({"RA": np.array([1.5, 3.25], ">f8"), "DEC": np.array([-2, 4], ">i2")})
    fits_table["TARGETID"], fits_table["NAME"], fits_table["FLUX"] = [7, 8], ["x", "y"], np.eye(2)
    fits_table["RA"].unit = "degrees of arc"
    with pytest.warns(match="degrees of arc"):
        fits_table.write(tmp_path / "a.fits")
    for name, ids in (("a.csv", ["007", "008"]), ("a.fits", None)):
        result = get(server, tmp_path / f"of_{name}", tmp_path / name)
        table = parquet.read_table(result.out / "manifest.parquet")
        expected = ids or ["ra001.5000000_dec-02.0000000", "ra003.2500000_dec+04.0000000"]
        assert table["galaxy_id"].to_pylist() == expected
        assert table["ra"].to_pylist() == [1.5, 3.25]
        assert table["dec"].to_pylist() == [-2, 4]
    assert [table[n].to_pylist() for n in ("TARGETID", "NAME")] == [[7, 8], ["x", "y"]]
    assert table["FLUX"].to_pylist() == [[1, 0], [0, 1]]
    content = (tmp_path / "a.fits").read_bytes()
    (tmp_path / "cut.fits").write_bytes(content[:-2000])
    (tmp_path / "caps.csv").write_text("ra,dec,GALAXY_ID\n1,2,007\n")
    for name, said in (("cut.fits", "no readable table"), ("caps.csv", "spelled galaxy_id")):
        with pytest.raises(ValueError, match=said):
            get(server, tmp_path / "out", tmp_path / name)
    (tmp_path / "a.txt").write_text("ra,dec\n1,2\n")
    with pytest.raises(ValueError, match="has an unknown suffix; expected"):
        get(server, tmp_path / "out", tmp_path / "a.txt")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"layer": "ls-dr8"},
            "layer='ls-dr8' is not allowed: it must be one of ls-dr9, ls-dr10, ls-dr11",
        ),
        ({"rate": 0.0}, "rate=0.0 is not allowed"),
        ({"timeout": float("nan")}, "timeout=nan is not allowed"),
        ({"attempts": 0}, "attempts=0 is not allowed"),
        ({"workers": 17}, "workers=17 is not allowed"),
        ({"size": 3001}, "size=3001 is not allowed"),
        ({"limit": 0}, "limit=0 is not allowed"),
    ],
)
def test_arguments_are_checked(
    server: FlakyServer, out: Path, given: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        get(server, out, catalogue(1), **given)
    assert not out.exists()


@pytest.mark.parametrize("url", ["ftp://a/b", "a/b", "http://me:word@a/b", "http://[::", "http://"])
def test_addresses_are_checked(out: Path, url: str) -> None:
    with pytest.raises(ValueError, match=r"^url="):
        fetch(catalogue(1), out, url=url)


def test_the_command(server: FlakyServer, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = Typer()
    app.command()(command.fetch)
    go = partial(invoke, app, "--out", out, "--url", server.url, "--size", SIZE)
    planned = go("--ra", 1.5, "--dec", -2, "--dry-run", "--rate", 0.1)
    assert "1 cutouts, at least 0.2 minutes at 0.1 per second; the first is http" in planned.stdout
    assert not server.asked
    assert not out.exists()
    one = go("--ra", 1.5, "--dec", -2, "--images-only")
    assert one.exit_code == 0
    assert "1 verified cutouts (1 downloaded, 0 already present), manifest" in one.stdout
    assert (out / "ra001.5000000_dec-02.0000000.fits").exists()
    assert server.asked[0][0].endswith("&size=11")
    parquet.write_table(catalogue(3), out.parent / "c.parquet")
    listed = ["--catalog", out.parent / "c.parquet", "--images-only", "--rate", 1000]
    server.answers[1.0, -60.0] = ["zeros"]
    some = go(*listed, "--json")
    report = json.loads(some.stdout)
    assert (some.exit_code, report["written"], report["downloaded"]) == (1, 2, 2)
    assert report["rejected"][0]["path"].endswith("g00.fits")
    assert go("--ra", 1.5).exit_code == 2
    assert go("--ra", 1.5, "--dec", 2, *listed).exit_code == 2
    refused = go("--ra", 400, "--dec", 2)
    assert refused.exit_code == 2
    assert "row 0 (400.0)" in message(refused)

    def interrupt(*given: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dhs.fetch.fetch", interrupt)
    assert f"interrupted; run the same command again to resume {out}" in message(go(*listed))
